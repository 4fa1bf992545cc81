//! Keywords and phrases, all in one pass over a text.
//!
//! A keyword is found only as whole words: before it and behind it there is no letter or digit. In
//! scripts that put no spaces between words (Chinese, Japanese, Thai, …) any place is a border, and
//! behind Hangul a particle may follow. A pattern of several pieces (`make ... video`) is found when
//! its pieces stand in their order, each near the one before.

use std::collections::VecDeque;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use sluicegate_plugin::{ConfigIssue, issue};

use crate::config::{LabelRule, escaped};
use crate::zones::normalized;

/// Stands between the pieces of a pattern.
const GAP: &str = "...";
/// Most bytes between two pieces; in Latin script about six words.
const GAP_BYTES: usize = 40;
/// Most bytes of one piece.
const MAX_PIECE_BYTES: usize = 256;
/// From the end of one piece to the end of the next, at most.
const MAX_REACH: usize = GAP_BYTES + MAX_PIECE_BYTES;
/// Most patterns in a table: bounds the automaton.
const MAX_PATTERNS: usize = 8_192;

/// A keyword of a label.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// As the table has it.
    pub(crate) text: String,
    /// Place of its label in the table.
    pub(crate) rule: usize,
    pub(crate) weight: f32,
}

/// One piece of a pattern, as the automaton finds it.
#[derive(Debug)]
struct Piece {
    pattern: usize,
    /// Place in the pattern's pieces.
    order: usize,
    is_last: bool,
    /// Any ending may follow.
    is_prefix: bool,
}

/// All patterns of a table.
pub(crate) struct Matcher {
    /// Patterns of ASCII alone: few kinds of bytes, so that the fastest automaton stays small.
    plain: Option<Automaton>,
    /// All others; a text of ASCII alone never meets them.
    other: Option<Automaton>,
    patterns: Vec<Pattern>,
}

/// An automaton with what each of its strings is.
struct Automaton {
    automaton: AhoCorasick,
    pieces: Vec<Piece>,
}

impl Automaton {
    fn new(
        kind: AhoCorasickKind,
        pieces: Vec<(String, Piece)>,
    ) -> Result<Option<Self>, Vec<ConfigIssue>> {
        if pieces.is_empty() {
            return Ok(None);
        }
        let (texts, pieces): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(kind))
            .build(&texts)
            .map_err(|error| vec![issue("/labels", error.to_string())])?;
        Ok(Some(Self { automaton, pieces }))
    }
}

/// What was found in one or more texts: for each pattern the best share of its places, 0 when it was
/// not found.
#[derive(Debug)]
pub(crate) struct Found(Vec<f32>);

impl Found {
    /// Each pattern that was found, with its share.
    pub(crate) fn hits(&self) -> impl Iterator<Item = (usize, f32)> {
        self.0
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, share)| *share > 0.0)
    }

    fn put(&mut self, pattern: usize, share: f32) {
        if let Some(known) = self.0.get_mut(pattern) {
            *known = known.max(share);
        }
    }
}

impl Matcher {
    /// Builds the automaton. Keywords of weight 0 are left out.
    ///
    /// # Errors
    /// Keywords without a letter or digit, and tables that are too large.
    pub(crate) fn new(rules: &[LabelRule]) -> Result<Self, Vec<ConfigIssue>> {
        let (mut patterns, mut plain, mut other, mut issues) = (vec![], vec![], vec![], vec![]);
        for (rule, label) in rules.iter().enumerate() {
            for (keyword, weight) in label.keywords.iter().filter(|(_, weight)| **weight != 0.0) {
                let parts: Vec<_> = keyword.split(GAP).map(normalized).collect();
                let is_good = |part: &String| {
                    part.len() <= MAX_PIECE_BYTES && !part.trim_end_matches('*').is_empty()
                };
                if !parts.iter().all(is_good) {
                    let path = format!("/labels/{rule}/keywords/{}", escaped(keyword));
                    let message = "expected 1 to 256 bytes on each side of a `...`";
                    issues.push(issue(path, message));
                    continue;
                }
                let is_plain = parts.iter().all(|part| part.is_ascii());
                let pieces = if is_plain { &mut plain } else { &mut other };
                for (order, part) in parts.iter().enumerate() {
                    let stem = part.strip_suffix('*');
                    let piece = Piece {
                        pattern: patterns.len(),
                        order,
                        is_last: order + 1 == parts.len(),
                        is_prefix: stem.is_some(),
                    };
                    pieces.push((stem.unwrap_or(part).to_owned(), piece));
                }
                patterns.push(Pattern {
                    text: keyword.clone(),
                    rule,
                    weight: *weight,
                });
            }
        }
        if patterns.len() > MAX_PATTERNS {
            issues.push(issue(
                "/labels",
                format!("expected at most {MAX_PATTERNS} keywords"),
            ));
        }
        if !issues.is_empty() {
            return Err(issues);
        }
        Ok(Self {
            plain: Automaton::new(AhoCorasickKind::DFA, plain)?,
            other: Automaton::new(AhoCorasickKind::ContiguousNFA, other)?,
            patterns,
        })
    }

    pub(crate) fn pattern(&self, at: usize) -> &Pattern {
        &self.patterns[at]
    }

    /// Nothing found yet.
    pub(crate) fn nothing(&self) -> Found {
        Found(vec![0.0; self.patterns.len()])
    }

    /// Finds every pattern in a normalized text; `share` says what a place counts. A pattern in
    /// pieces counts as its first piece does.
    pub(crate) fn search(&self, text: &str, found: &mut Found, share: impl Fn(usize) -> f32) {
        let other = self.other.as_ref().filter(|_| !text.is_ascii());
        for automaton in self.plain.iter().chain(other) {
            automaton.search(text, found, &share);
        }
    }
}

impl Automaton {
    fn search(&self, text: &str, found: &mut Found, share: impl Fn(usize) -> f32) {
        // Pieces behind which another may follow; hits come in the order of their ends, so whoever is
        // too far away for this one is too far away for good.
        let mut begun: VecDeque<Begun> = VecDeque::new();
        for hit in self.automaton.find_overlapping_iter(text) {
            let piece = &self.pieces[hit.pattern().as_usize()];
            if !is_whole(text, hit.start(), hit.end(), piece.is_prefix) {
                continue;
            }
            while begun
                .front()
                .is_some_and(|begun| begun.end + MAX_REACH < hit.end())
            {
                begun.pop_front();
            }
            let share = if piece.order == 0 {
                share(hit.start())
            } else {
                let before = begun
                    .iter()
                    .rev()
                    .find(|begun| begun.leads_to(piece, hit.start()));
                let Some(before) = before else { continue };
                before.share
            };
            if piece.is_last {
                found.put(piece.pattern, share);
            } else {
                begun.push_back(Begun {
                    pattern: piece.pattern,
                    pieces: piece.order + 1,
                    end: hit.end(),
                    share,
                });
            }
        }
    }
}

/// The beginning of a pattern that was found.
struct Begun {
    pattern: usize,
    pieces: usize,
    end: usize,
    /// What the place of its first piece counts.
    share: f32,
}

impl Begun {
    fn leads_to(&self, piece: &Piece, start: usize) -> bool {
        self.pattern == piece.pattern
            && self.pieces == piece.order
            && start
                .checked_sub(self.end)
                .is_some_and(|gap| gap <= GAP_BYTES)
    }
}

/// True when no word goes on over either end.
fn is_whole(text: &str, start: usize, end: usize, is_prefix: bool) -> bool {
    let (Some(before), Some(inside), Some(behind)) =
        (text.get(..start), text.get(start..end), text.get(end..))
    else {
        return false;
    };
    let joins = |left: Option<char>, right: Option<char>| match (left, right) {
        (Some(left), Some(right)) => is_joined(left, right),
        _ => false,
    };
    let starts = !joins(before.chars().next_back(), inside.chars().next());
    let ends = is_prefix || !joins(inside.chars().next_back(), behind.chars().next());
    starts && ends
}

/// True when two neighbours belong to one word.
fn is_joined(left: char, right: char) -> bool {
    let in_word = |c: char| (c.is_alphanumeric() || c == '_') && !is_unspaced(c);
    in_word(left) && in_word(right) && !is_hangul(left)
}

/// Scripts that are written without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(
        u32::from(c),
        0x0e00..=0x0eff      // Thai, Lao
        | 0x1000..=0x109f    // Myanmar
        | 0x1780..=0x17ff    // Khmer
        | 0x3040..=0x30ff    // Hiragana, Katakana
        | 0x3400..=0x4dbf    // CJK extension A
        | 0x4e00..=0x9fff    // CJK
        | 0xf900..=0xfaff    // CJK compatibility
        | 0x20000..=0x3ffff  // CJK extensions B and later
    )
}

fn is_hangul(c: char) -> bool {
    matches!(u32::from(c), 0xac00..=0xd7a3)
}
