//! What lines show: Markdown headings, labels, tables, bullets, `term: definition`, `[1]` passages.
//!
//! A heading or a label that begins with a configured word opens a section of terms or of passages.
//! A section of terms holds table rows, bullets or `term: definition` lines, up to the first line
//! that is none of them, or the first blank line behind one. Headings that say `Document 1`,
//! `Document 2` are passages themselves, as are the sections below a heading `Documents`, and blocks
//! that begin with `[1]`, `[2]`.

use std::ops::Range;

use super::{Item, ItemKind};
use crate::config::Config;
use crate::tokens::folded;

/// Items in a row before numbered blocks or headings are taken for a list.
const MIN_RUN: usize = 2;
/// Longest label or heading that opens a section.
const MAX_LABEL_BYTES: usize = 80;
/// Longest term before its colon.
const MAX_TERM_BYTES: usize = 120;

/// One line: its text without the break, and where the next one begins.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    start: usize,
    next: usize,
    text: &'a str,
    /// Lies in what another reader took.
    is_taken: bool,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    fn end(&self) -> usize {
        self.start + self.text.trim_end().len()
    }

    /// Bytes of a piece of this line.
    fn range(&self, piece: &str) -> Range<usize> {
        let from = self.start + (piece.as_ptr().addr() - self.text.as_ptr().addr());
        from..from + piece.len()
    }

    /// Level and title of a Markdown heading.
    fn heading(&self) -> Option<(usize, &str)> {
        let title = self.text.trim_start_matches('#');
        let level = self.text.len() - title.len();
        ((1..=6).contains(&level) && title.starts_with(' ')).then_some((level, title.trim()))
    }

    /// The words of a line such as `Terminology:` or `**Glossary**`.
    fn label(&self) -> Option<&str> {
        let text = self.text.trim();
        let label = text
            .trim_matches(['*', '_'])
            .trim_end_matches([':', '：'])
            .trim_matches(['*', '_']);
        (!label.is_empty() && text.len() <= MAX_LABEL_BYTES && label.len() < text.len())
            .then_some(label)
    }

    /// True for a line that begins with `[1]` or the like.
    fn is_numbered(&self) -> bool {
        let digits = self
            .text
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'));
        digits.is_some_and(|(digits, _)| {
            (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        })
    }

    fn bullet(&self) -> Option<&str> {
        let text = self.text.trim_start();
        ["- ", "* ", "+ ", "• ", "– "]
            .iter()
            .find_map(|mark| text.strip_prefix(mark))
    }

    fn is_row(&self) -> bool {
        self.text.trim_start().starts_with('|')
    }

    /// The line between a table's head and its rows.
    fn is_rule(&self) -> bool {
        self.is_row() && self.text.contains("--") && self.text.chars().all(|c| "|-: \t".contains(c))
    }

    fn first_cell(&self) -> &str {
        self.text
            .trim()
            .trim_start_matches('|')
            .split('|')
            .next()
            .unwrap_or_default()
            .trim()
    }

    /// The term of `term: definition` and its kin.
    fn defined(&self) -> Option<&str> {
        let text = self.bullet().unwrap_or(self.text);
        let at = [": ", "：", " — ", " – ", " - ", " = "]
            .iter()
            .filter_map(|mark| text.find(mark))
            .min()?;
        let term = text.get(..at)?.trim().trim_matches(['*', '_', '`', '"']);
        (!term.is_empty() && term.len() <= MAX_TERM_BYTES).then_some(term)
    }
}

pub(super) fn find(text: &str, config: &Config, taken: &[Item]) -> Vec<Item> {
    let lines = split(text, taken);
    let mut items = numbered(&lines);
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let section = if line.is_taken {
            None
        } else {
            opened(line, config)
        };
        let opens_table = line.is_row()
            && !line.is_taken
            && begins_with(line.first_cell(), &config.term_headings)
            && lines.get(at + 1).is_some_and(Line::is_rule);
        let (mut found, next) = match (section, line.heading()) {
            (Some(ItemKind::Term), _) => terms(&lines, at + 1),
            (Some(ItemKind::Chunk), Some((level, title))) => {
                sections(&lines, at, level, first_word(title), config)
            }
            (Some(ItemKind::Chunk), None) => bullets(&lines, at + 1),
            (None, _) if opens_table => terms(&lines, at),
            (None, _) => (Vec::new(), at + 1),
        };
        items.append(&mut found);
        at = next.max(at + 1);
    }
    items
}

fn split<'a>(text: &'a str, taken: &[Item]) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut taken = taken.iter().peekable();
    for line in text.split_inclusive('\n') {
        let next = start + line.len();
        while taken.next_if(|item| item.cut.end <= start).is_some() {}
        lines.push(Line {
            start,
            next,
            text: line.trim_end_matches(['\n', '\r']),
            is_taken: taken.peek().is_some_and(|item| item.cut.start < next),
        });
        start = next;
    }
    lines
}

/// What kind of section this line opens.
fn opened(line: &Line<'_>, config: &Config) -> Option<ItemKind> {
    let title = line
        .heading()
        .map(|(_, title)| title)
        .or_else(|| line.label())?;
    if title.len() > MAX_LABEL_BYTES && line.heading().is_none() {
        None
    } else if begins_with(title, &config.term_headings) {
        Some(ItemKind::Term)
    } else if begins_with(title, &config.chunk_headings) {
        Some(ItemKind::Chunk)
    } else {
        None
    }
}

/// True when a title begins with one of these words, whole.
fn begins_with(title: &str, words: &[String]) -> bool {
    let title = folded(title);
    words.iter().any(|word| {
        let rest = title.strip_prefix(word.as_str());
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
    })
}

fn first_word(title: &str) -> &str {
    title
        .split(|c: char| !c.is_alphabetic())
        .next()
        .unwrap_or_default()
}

/// Rows, bullets or definitions from this line on.
fn terms(lines: &[Line<'_>], from: usize) -> (Vec<Item>, usize) {
    let mut items: Vec<Item> = Vec::new();
    let mut at = from;
    while let Some(line) = lines
        .get(at)
        .filter(|line| !line.is_taken && line.heading().is_none())
    {
        let is_head = line.is_row() && lines.get(at + 1).is_some_and(Line::is_rule);
        let is_term = line.is_row()
            || line.bullet().is_some()
            || line.defined().is_some() && !line.is_numbered();
        if line.is_blank() {
            if !items.is_empty() {
                break;
            }
        } else if is_head || line.is_rule() {
            // A table keeps its head.
        } else if is_term {
            let name = if line.is_row() {
                line.first_cell()
            } else {
                line.defined().unwrap_or_default()
            };
            let name = if name.is_empty() {
                line.start..line.start
            } else {
                line.range(name)
            };
            let span = line.start..line.end();
            items.push(Item::plain(
                ItemKind::Term,
                span,
                name,
                line.start..line.next,
            ));
        } else if let (Some(item), true) = (items.last_mut(), line.text.starts_with([' ', '\t'])) {
            // A bullet goes on over indented lines.
            item.span.end = line.end();
            item.cut.end = line.next;
            item.cut_at_end.end = line.next;
        } else {
            break;
        }
        at += 1;
    }
    (items, at)
}

/// Below a heading for passages: headings that begin with the same word are passages themselves;
/// else the sections one level below, else the bullets.
fn sections(
    lines: &[Line<'_>],
    at: usize,
    level: usize,
    word: &str,
    config: &Config,
) -> (Vec<Item>, usize) {
    let is_sibling = |line: &Line<'_>| {
        !line.is_taken
            && line
                .heading()
                .is_some_and(|(l, t)| l == level && first_word(t) == word)
    };
    let end = |from: usize, level: usize| {
        let ends = |line: &Line<'_>| line.heading().is_some_and(|(other, _)| other <= level);
        let rest = lines.iter().skip(from + 1).position(ends);
        rest.map_or(lines.len(), |rest| from + 1 + rest)
    };
    let siblings: Vec<_> = (0..lines.len())
        .filter(|at| is_sibling(&lines[*at]))
        .collect();
    if siblings.len() >= MIN_RUN {
        let items = siblings.iter().map(|at| block(lines, *at, end(*at, level)));
        let last = siblings.last().map_or(at + 1, |last| end(*last, level));
        return (items.collect(), last);
    }
    let stop = end(at, level);
    let below: Vec<_> = (at + 1..stop)
        .filter(|at| {
            !lines[*at].is_taken && lines[*at].heading().is_some_and(|(l, _)| l == level + 1)
        })
        .collect();
    if below.len() >= MIN_RUN
        && below
            .iter()
            .all(|at| opened(&lines[*at], config) != Some(ItemKind::Term))
    {
        let items = below
            .iter()
            .map(|at| block(lines, *at, end(*at, level + 1)));
        return (items.collect(), stop);
    }
    bullets(lines, at + 1)
}

/// Bullets up to the next heading or label, when there are several. Bare paragraphs are no items:
/// one of them may be the question, or the rules that follow.
fn bullets(lines: &[Line<'_>], from: usize) -> (Vec<Item>, usize) {
    let ends = |line: &Line<'_>| {
        line.is_taken
            || line.heading().is_some()
            || line.is_numbered()
            || line.bullet().is_none() && line.label().is_some()
    };
    let from = from.min(lines.len());
    let stop = lines
        .iter()
        .skip(from)
        .position(ends)
        .map_or(lines.len(), |len| from + len);
    let is_bullet = |at: &usize| lines[*at].bullet().is_some();
    let starts: Vec<_> = (from..stop).filter(is_bullet).collect();
    if starts.len() < MIN_RUN {
        return (Vec::new(), from);
    }
    let nexts = starts.iter().skip(1).copied().chain([stop]);
    let items = starts.iter().zip(nexts).map(|(at, next)| {
        let until = (at + 1..next)
            .find(|at| lines[*at].is_blank())
            .unwrap_or(next);
        block(lines, *at, until)
    });
    (items.collect(), stop)
}

/// Blocks that begin with `[1]`, `[2]`: each up to the next, the last one up to a blank line.
fn numbered(lines: &[Line<'_>]) -> Vec<Item> {
    let starts: Vec<_> = (0..lines.len())
        .filter(|at| !lines[*at].is_taken && lines[*at].is_numbered())
        .collect();
    if starts.len() < MIN_RUN {
        return Vec::new();
    }
    let mut items = Vec::new();
    for (number, at) in starts.iter().enumerate() {
        let next = starts.get(number + 1).copied().unwrap_or(lines.len());
        let ends = |line: &Line<'_>| line.is_taken || line.heading().is_some();
        let mut until = (at + 1..next).find(|at| ends(&lines[*at])).unwrap_or(next);
        if until == lines.len() {
            until = (at + 1..until)
                .find(|at| lines[*at].is_blank())
                .unwrap_or(until);
        }
        items.push(block(lines, *at, until));
    }
    items
}

/// Lines as one passage, named by the first.
fn block(lines: &[Line<'_>], at: usize, until: usize) -> Item {
    let first = lines[at];
    let last = lines[until.max(at + 1) - 1];
    let title = title(first.text);
    let name = if title.is_empty() {
        first.start..first.start
    } else {
        first.range(title)
    };
    Item::plain(
        ItemKind::Chunk,
        first.start..last.end().max(first.end()),
        name,
        first.start..last.next,
    )
}

/// What a first line says without its mark and number: `Ada` in `### Document 2: Ada` and `[2] Ada`.
fn title(line: &str) -> &str {
    let line = line
        .trim_start_matches(['#', '-', '*', ' ', '\t'])
        .trim_end();
    let number = line.strip_prefix('[').unwrap_or_else(|| {
        let rest = line.trim_start_matches(char::is_alphabetic).trim_start();
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            rest
        } else {
            line
        }
    });
    let rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
    match rest.trim_start_matches([']', ':', '.', ')', '-', '–', '—', ' ']) {
        title if rest.len() < number.len() && !title.is_empty() => title,
        _ => line,
    }
}
