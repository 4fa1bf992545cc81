//! Sentences that the operator's instructions say twice.
//!
//! A sentence ends with its mark and white space behind it, with a line, or with a Chinese or
//! Japanese full stop. Two are the same when they differ in case and white space at most. Lines of
//! lists count as sentences; what lies in a term or passage does not, nor do short ones, which repeat
//! for a reason.

use std::collections::HashSet;

use sluicegate_plugin::{Kind, Reason, Role};

use crate::choose::{Entry, Place, entries_of};
use crate::tokens::folded;
use crate::{Planned, Source};

/// Shortest sentence, in characters, that goes when it is repeated.
const MIN_CHARS: usize = 20;

pub(crate) fn find(texts: &[Source<'_>], entries: &[Entry]) -> Vec<Planned> {
    let mut said = HashSet::new();
    let mut planned = Vec::new();
    for (at, source) in texts.iter().enumerate() {
        let own = entries_of(entries, at);
        if !matches!(source.message.role, Role::System | Role::Developer) || is_entry(own) {
            continue;
        }
        let mut own = own.iter().peekable();
        let mut is_fenced = false;
        for (start, end) in sentences(&source.text) {
            let sentence = source.text.get(start..end).unwrap_or_default();
            // Code repeats itself rightly.
            if sentence.trim_start().starts_with("```") {
                is_fenced = !is_fenced;
            }
            while own.next_if(|entry| entry.item.cut.end <= start).is_some() {}
            let is_free = own
                .peek()
                .is_none_or(|entry| entry.item.cut_at_end.start.min(entry.item.cut.start) >= end);
            let said_before = is_free && !is_fenced && {
                let sentence = folded(sentence);
                sentence.chars().count() >= MIN_CHARS && !said.insert(sentence)
            };
            if said_before && !source.message.locked {
                let place = Place::Span {
                    message: source.message.index,
                    part: source.part,
                    range: start..end,
                };
                planned.push(Planned {
                    place,
                    kind: Kind::Repetition,
                    reason: Reason::Duplicate,
                });
            }
        }
    }
    planned
}

/// True for a part that is a term or passage as a whole.
fn is_entry(own: &[Entry]) -> bool {
    own.iter().any(|entry| entry.is_part)
}

/// Begin and end of each sentence, white space behind it included.
fn sentences(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let behind = chars.peek().map(|(_, c)| *c);
        let ends = match c {
            '\n' | '。' | '！' | '？' => true,
            '.' | '!' | '?' => behind.is_none_or(char::is_whitespace),
            _ => false,
        };
        if ends {
            let mut end = at + c.len_utf8();
            while let Some((at, c)) = chars.next_if(|(_, c)| c.is_whitespace()) {
                end = at + c.len_utf8();
            }
            found.push((start, end));
            start = end;
        }
    }
    if start < text.len() {
        found.push((start, text.len()));
    }
    found
}
