//! Which terms and passages stay.
//!
//! Terms are ranked by the question. A term that the question names lends its definition to the
//! query, so that "Onyx Tower" finds the passages about what Onyx Tower stands for. Passages are
//! ranked by that query; one whose title the question names gains, and so does one whose title a
//! better passage mentions, so that a question in two steps finds both. Last, terms that no word of
//! the question meets are ranked by the passages that stay.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use sluicegate_plugin::{Kind, Reason};

use crate::config::Config;
use crate::items::{Item, ItemKind};
use crate::rank::{Query, scores};
use crate::tokens::{Token, TokenMap, folded, tokens};
use crate::{Planned, Source};

/// What a word of a named term's definition counts in the query for passages.
const DEFINITION_WEIGHT: f32 = 0.8;
/// What a passage gains whose title the question names: this share of the best score.
const TITLE_SHARE: f32 = 0.5;
/// What a passage gains from being named by a better one: this share of the best score.
const BRIDGE_SHARE: f32 = 0.5;
/// Passages that may lend such a gain.
const BRIDGES: usize = 2;
/// What a term gains that a kept passage names, below any term that the question meets.
const MENTIONED: f32 = 1e-3;
/// Bytes of a passage in which mentions are looked for.
const MENTION_BYTES: usize = 4_096;
/// Names that are compared with one text, in all: many may begin with the same word.
const MENTION_COMPARISONS: usize = 16_384;

/// A term or passage and where it stands.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Place in the list of texts.
    pub(crate) source: usize,
    pub(crate) item: Item,
    /// It is a part of its own, which goes as a whole.
    pub(crate) is_part: bool,
}

impl Entry {
    pub(crate) fn in_text(source: usize, item: Item) -> Self {
        Self {
            source,
            item,
            is_part: false,
        }
    }

    pub(crate) fn whole(source: usize, kind: ItemKind, text: &str) -> Self {
        let name = match kind {
            ItemKind::Term => 0..text.find(": ").unwrap_or(0),
            ItemKind::Chunk => 0..0,
        };
        let span = 0..text.len();
        Self {
            source,
            item: Item {
                kind,
                cut: span.clone(),
                cut_at_end: span.clone(),
                span,
                name,
                array: None,
            },
            is_part: true,
        }
    }
}

/// The entries of one text; `entries` are in the order of the texts.
pub(crate) fn entries_of(entries: &[Entry], source: usize) -> &[Entry] {
    let from = entries.partition_point(|entry| entry.source < source);
    let to = entries.partition_point(|entry| entry.source <= source);
    entries.get(from..to).unwrap_or_default()
}

/// What an edit takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Message(u32),
    Part {
        message: u32,
        part: u32,
    },
    Span {
        message: u32,
        part: u32,
        range: Range<usize>,
    },
}

impl Place {
    pub(crate) fn message(&self) -> u32 {
        match self {
            Self::Message(message) | Self::Part { message, .. } | Self::Span { message, .. } => {
                *message
            }
        }
    }
}

/// What goes, and the messages in which an entry stays that the question needs.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) planned: Vec<Planned>,
    pub(crate) kept_in: HashSet<u32>,
}

pub(crate) fn run(
    config: &Config,
    stop: &[Token],
    query: &Query,
    question: &str,
    texts: &[Source<'_>],
    entries: &[Entry],
    target: Option<u32>,
) -> Chosen {
    let mut chosen = Chosen::default();
    let list = |kind| -> Vec<&Entry> {
        entries
            .iter()
            .filter(|entry| entry.item.kind == kind)
            .collect()
    };
    let (terms, chunks) = (list(ItemKind::Term), list(ItemKind::Chunk));
    if query.is_empty() {
        return chosen;
    }
    let mut term_scores = scores(query, &named(texts, &terms));

    let term_names = Names::of(texts, &terms);
    let mut wide = query.clone();
    let mut definitions = String::new();
    for (entry, is_named) in terms.iter().zip(term_names.spoken_in(question)) {
        if is_named {
            wide.add(text_of(texts, entry), DEFINITION_WEIGHT, stop);
            definitions.push_str(text_of(texts, entry));
            definitions.push('\n');
        }
    }
    let mut chunk_scores = scores(&wide, &named(texts, &chunks));
    let titles = Names::of(texts, &chunks);
    raise_named(&mut chunk_scores, &titles, &[question, &definitions]);
    raise_bridged(&mut chunk_scores, &titles, texts, &chunks);
    let kept_chunks = top(
        texts,
        &chunks,
        &chunk_scores,
        config.top_chunks,
        target.is_some(),
    );

    let mut passages = String::new();
    for (entry, fate) in chunks.iter().zip(&kept_chunks) {
        if fate.is_none() {
            passages.push_str(beginning(text_of(texts, entry)));
            passages.push('\n');
        }
    }
    for (score, is_named) in term_scores.iter_mut().zip(term_names.spoken_in(&passages)) {
        if *score == 0.0 && is_named {
            *score = MENTIONED;
        }
    }
    let kept_terms = top(
        texts,
        &terms,
        &term_scores,
        config.top_terms,
        target.is_some(),
    );

    for (list, fates) in [(&terms, &kept_terms), (&chunks, &kept_chunks)] {
        // Backwards, so that it is known whether one of an array stays behind this one.
        let mut last_array = None;
        for (entry, fate) in list.iter().zip(fates).rev() {
            let Some(source) = texts.get(entry.source) else {
                continue;
            };
            let array = entry.item.array.map(|array| (entry.source, array));
            match fate {
                None => {
                    last_array = array;
                    chosen.kept_in.insert(source.message.index);
                }
                Some(reason) => {
                    let is_last = array.is_some() && array != last_array;
                    chosen.planned.extend(plan(source, entry, *reason, is_last));
                }
            }
        }
    }
    chosen
}

/// The edit, where the message is open. `is_last`: of its array nothing stays behind it.
fn plan(source: &Source<'_>, entry: &Entry, reason: Reason, is_last: bool) -> Option<Planned> {
    if source.message.locked {
        return None;
    }
    let (message, part) = (source.message.index, source.part);
    let place = if entry.is_part {
        Place::Part { message, part }
    } else {
        let range = if is_last {
            &entry.item.cut_at_end
        } else {
            &entry.item.cut
        };
        Place::Span {
            message,
            part,
            range: range.clone(),
        }
    };
    let kind = match entry.item.kind {
        ItemKind::Term => Kind::Term,
        ItemKind::Chunk => Kind::Chunk,
    };
    Some(Planned {
        place,
        kind,
        reason,
    })
}

/// For each entry none when it stays, else why it goes. The best `limit` stay, of equal ones those
/// that stand first; of entries that say the same, the first. With `is_tight` only those stay that
/// share a word with the query, and at least one.
fn top(
    texts: &[Source<'_>],
    list: &[&Entry],
    scores: &[f32],
    limit: usize,
    is_tight: bool,
) -> Vec<Option<Reason>> {
    let mut order: Vec<_> = (0..list.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let mut fates = vec![None; list.len()];
    // Only entries with the same number of letters can say the same.
    let letters: Vec<_> = list
        .iter()
        .map(|entry| letters(text_of(texts, entry)))
        .collect();
    let mut holders: HashMap<usize, usize> = HashMap::new();
    for length in &letters {
        *holders.entry(*length).or_default() += 1;
    }
    let mut said = HashSet::new();
    for (number, length) in letters.iter().enumerate() {
        let is_alone = holders.get(length).is_none_or(|holders| *holders == 1);
        if !is_alone && !said.insert(folded(text_of(texts, list[number]))) {
            fates[number] = Some(Reason::Duplicate);
        }
    }
    let mut kept = 0;
    for number in order {
        if fates[number].is_some() {
            continue;
        }
        let is_met = scores[number] > 0.0;
        if kept >= limit {
            fates[number] = Some(if is_met {
                Reason::Outranked
            } else {
                Reason::Irrelevant
            });
        } else if is_tight && !is_met && kept > 0 {
            fates[number] = Some(Reason::OverBudget);
        } else {
            kept += 1;
        }
    }
    fates
}

fn letters(text: &str) -> usize {
    text.bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .count()
}

/// Adds to the score of each passage whose title one of these texts names.
fn raise_named(scores: &mut [f32], titles: &Names, spoken: &[&str]) {
    let best = scores.iter().copied().fold(0.0, f32::max);
    let mut named = vec![false; scores.len()];
    for text in spoken {
        for (named, is_named) in named.iter_mut().zip(titles.spoken_in(text)) {
            *named |= is_named;
        }
    }
    for (score, is_named) in scores.iter_mut().zip(named) {
        if is_named {
            *score += TITLE_SHARE * best;
        }
    }
}

/// Adds to the score of each passage whose title one of the best passages mentions.
fn raise_bridged(scores: &mut [f32], titles: &Names, texts: &[Source<'_>], chunks: &[&Entry]) {
    let mut order: Vec<_> = (0..chunks.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order.retain(|at| scores[*at] > 0.0);
    order.truncate(BRIDGES);
    let best = order.first().map(|best| scores[*best]).unwrap_or_default();
    let mut named = vec![false; scores.len()];
    for bridge in order {
        let spoken = titles.spoken_in(beginning(text_of(texts, chunks[bridge])));
        for (number, is_named) in spoken.into_iter().enumerate() {
            named[number] |= is_named && number != bridge;
        }
    }
    for (score, is_named) in scores.iter_mut().zip(named) {
        if is_named {
            *score += BRIDGE_SHARE * best;
        }
    }
}

fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MENTION_BYTES))
        .unwrap_or_default()
}

/// The names of a list of entries, without what stands in brackets behind them, as the stems of
/// their words.
struct Names {
    names: Vec<Vec<Token>>,
    /// By their first word.
    begin: TokenMap<Vec<usize>>,
}

impl Names {
    fn of(texts: &[Source<'_>], list: &[&Entry]) -> Self {
        let name =
            |entry: &&Entry| tokens(name_of(texts, entry).split(" (").next().unwrap_or_default());
        let names: Vec<_> = list.iter().map(name).collect();
        let mut begin: TokenMap<Vec<usize>> = TokenMap::default();
        for (number, name) in names.iter().enumerate() {
            if let Some(first) = name.first() {
                begin.entry(*first).or_default().push(number);
            }
        }
        Self { names, begin }
    }

    /// For each name whether its words stand in the text, one behind the other.
    fn spoken_in(&self, text: &str) -> Vec<bool> {
        let mut spoken = vec![false; self.names.len()];
        if self.begin.is_empty() || text.is_empty() {
            return spoken;
        }
        let words = tokens(text);
        let mut comparisons = MENTION_COMPARISONS;
        for (at, word) in words.iter().enumerate() {
            for number in self.begin.get(word).into_iter().flatten() {
                let name = &self.names[*number];
                if !spoken[*number] && comparisons > 0 {
                    comparisons -= 1;
                    spoken[*number] = words
                        .get(at..at + name.len())
                        .is_some_and(|words| words == name);
                }
            }
        }
        spoken
    }
}

fn named<'a>(texts: &'a [Source<'_>], list: &[&Entry]) -> Vec<(&'a str, &'a str)> {
    list.iter()
        .map(|entry| (name_of(texts, entry), text_of(texts, entry)))
        .collect()
}

fn name_of<'a>(texts: &'a [Source<'_>], entry: &Entry) -> &'a str {
    piece(texts, entry, &entry.item.name)
}

fn text_of<'a>(texts: &'a [Source<'_>], entry: &Entry) -> &'a str {
    piece(texts, entry, &entry.item.span)
}

fn piece<'a>(texts: &'a [Source<'_>], entry: &Entry, range: &Range<usize>) -> &'a str {
    let text = texts
        .get(entry.source)
        .and_then(|source| source.text.get(range.clone()));
    text.unwrap_or_default()
}
