//! `<term name="…">…</term>`, `<document title="…">…</document>`: elements whose tag the config
//! names. One that holds others of them is only a container. Tags may be nested so that each search
//! goes over the same bytes again; the reader gives up after [`EFFORT`] times the text.

use std::ops::Range;

use super::{Item, ItemKind, behind_space};
use crate::config::Config;

/// Longest opening tag that is read.
const MAX_TAG_BYTES: usize = 1_024;
/// Bytes searched in all, as a multiple of the text's.
const EFFORT: usize = 8;

pub(super) fn find(text: &str, config: &Config) -> Vec<Item> {
    let mut items = Vec::new();
    let mut effort = text.len().saturating_mul(EFFORT);
    let mut at = 0;
    while let Some(open) = next_open(text, at, config) {
        if effort == 0 {
            break;
        }
        let Some(element) = close(text, &open, &mut effort) else {
            at = open.inner_start;
            continue;
        };
        let holds_others = next_open(text, open.inner_start, config).is_some_and(|inner| {
            inner.start < element.inner_end && close(text, &inner, &mut effort).is_some()
        });
        if holds_others {
            at = open.inner_start;
            continue;
        }
        let span = open.start..element.end;
        let cut = span.start..behind_space(text, span.end);
        at = cut.end;
        items.push(Item::plain(open.kind, span, name(text, &open), cut));
    }
    items
}

struct Open<'a> {
    kind: ItemKind,
    tag: &'a str,
    start: usize,
    inner_start: usize,
}

struct Element {
    inner_end: usize,
    end: usize,
}

/// The next opening tag that the config names.
fn next_open<'a>(text: &'a str, from: usize, config: &Config) -> Option<Open<'a>> {
    let mut at = from;
    loop {
        let start = at + text.get(at..)?.find('<')?;
        at = start + 1;
        let rest = text.get(at..)?;
        let tag_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')?;
        let tag = rest.get(..tag_end)?;
        let Some(kind) = kind_of(tag, config) else {
            continue;
        };
        let window = rest.get(..rest.floor_char_boundary(MAX_TAG_BYTES))?;
        let Some(close) = window.find('>') else {
            continue;
        };
        if window
            .get(..close)
            .is_some_and(|open| open.ends_with('/') || open.contains('<'))
        {
            continue;
        }
        return Some(Open {
            kind,
            tag,
            start,
            inner_start: at + close + 1,
        });
    }
}

fn kind_of(tag: &str, config: &Config) -> Option<ItemKind> {
    let is_in = |tags: &[String]| tags.iter().any(|known| known.eq_ignore_ascii_case(tag));
    if is_in(&config.term_tags) {
        Some(ItemKind::Term)
    } else if is_in(&config.chunk_tags) {
        Some(ItemKind::Chunk)
    } else {
        None
    }
}

/// The nearest closing tag of the same spelling.
fn close(text: &str, open: &Open<'_>, effort: &mut usize) -> Option<Element> {
    let closing = format!("</{}>", open.tag);
    let rest = text.get(open.inner_start..)?;
    let found = rest.find(&closing);
    *effort = effort.saturating_sub(found.unwrap_or(rest.len()));
    let inner_end = open.inner_start + found?;
    Some(Element {
        inner_end,
        end: inner_end + closing.len(),
    })
}

/// The value of `name`, `title` or `term`.
fn name(text: &str, open: &Open<'_>) -> Range<usize> {
    let tag = text.get(open.start..open.inner_start).unwrap_or_default();
    for attribute in [" name=\"", " title=\"", " term=\""] {
        if let Some(at) = tag.find(attribute) {
            let from = at + attribute.len();
            if let Some(len) = tag.get(from..).and_then(|rest| rest.find('"')) {
                return open.start + from..open.start + from + len;
            }
        }
    }
    open.start..open.start
}
