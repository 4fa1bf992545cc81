//! JSON objects that are terms or passages: an array of them, or one on each line.
//!
//! The reader knows strings, brackets and keys, no more: enough to cut whole objects out of an array
//! and leave it valid. What does not close is no JSON. Brackets may be nested so that each reading
//! goes over the same bytes again; a reader gives up after [`EFFORT`] times the text.

use std::ops::Range;

use super::{Item, ItemKind, behind_space};
use crate::config::Config;

/// Objects in a row before they are taken for a list.
const MIN_OBJECTS: usize = 2;
/// Bytes read in all, as a multiple of the text's.
const EFFORT: usize = 8;

pub(super) fn find(text: &str, config: &Config, taken: &[Item]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut effort = text.len().saturating_mul(EFFORT);
    let mut taken = taken.iter().peekable();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find(['[', '{'])) {
        let start = at + found;
        while taken.next_if(|item| item.cut.end <= start).is_some() {}
        if let Some(item) = taken.peek().filter(|item| item.cut.contains(&start)) {
            at = item.cut.end;
            continue;
        }
        let run = match text.as_bytes().get(start) {
            Some(b'[') => array(text, start, config, &mut effort),
            _ if starts_line(text, start) => lines(text, start, config, &mut effort),
            _ => None,
        };
        match run {
            Some((mut found, end)) => {
                items.append(&mut found);
                at = end;
            }
            None if effort == 0 => break,
            None => at = start + 1,
        }
    }
    items
}

fn starts_line(text: &str, at: usize) -> bool {
    text.get(..at)
        .is_some_and(|before| before.is_empty() || before.ends_with('\n'))
}

/// `[{…}, {…}]`: items, and where the array ends.
fn array(
    text: &str,
    start: usize,
    config: &Config,
    effort: &mut usize,
) -> Option<(Vec<Item>, usize)> {
    let mut objects = Vec::new();
    let mut at = behind_space(text, start + 1);
    loop {
        let object = object(text, at, config, effort)?;
        at = behind_space(text, object.span.end);
        objects.push(object);
        match text.as_bytes().get(at)? {
            b',' => at = behind_space(text, at + 1),
            b']' => break,
            _ => return None,
        }
    }
    if objects.len() < MIN_OBJECTS {
        return None;
    }
    let mut items = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        let next = objects.get(number + 1).map(|next| next.span.start);
        let before = number.checked_sub(1).and_then(|before| objects.get(before));
        items.push(Item {
            kind: object.kind,
            span: object.span.clone(),
            name: object.name.clone(),
            cut: object.span.start..next.unwrap_or(object.span.end),
            cut_at_end: before.map_or(object.span.start, |before| before.span.end)..object.span.end,
            array: Some(start),
        });
    }
    Some((items, at + 1))
}

/// Objects that begin a line each: items, and where the last one ends.
fn lines(
    text: &str,
    start: usize,
    config: &Config,
    effort: &mut usize,
) -> Option<(Vec<Item>, usize)> {
    let mut items = Vec::new();
    let mut at = start;
    while let Some(object) = object(text, at, config, effort) {
        let next = behind_space(text, object.span.end);
        let cut = object.span.start..next;
        items.push(Item::plain(object.kind, object.span, object.name, cut));
        if !starts_line(text, next) {
            break;
        }
        at = next;
    }
    let end = items.last()?.cut.end;
    (items.len() >= MIN_OBJECTS).then_some((items, end))
}

struct Object {
    kind: ItemKind,
    span: Range<usize>,
    name: Range<usize>,
}

/// The object that begins here, when it is a term or a passage.
fn object(text: &str, start: usize, config: &Config, effort: &mut usize) -> Option<Object> {
    let bytes = text.as_bytes();
    if bytes.get(start) != Some(&b'{') {
        return None;
    }
    let (mut kind, mut name) = (None, start..start);
    let (mut depth, mut at, mut last_string) = (0_usize, start, None);
    // The key whose value is being read, on the object's own level.
    let mut key: Option<&str> = None;
    loop {
        *effort = effort.checked_sub(1)?;
        match bytes.get(at)? {
            b'"' => {
                let inside = at + 1..string_end(bytes, at + 1)?;
                *effort = effort.saturating_sub(inside.len());
                at = inside.end;
                if depth == 1 {
                    if key.is_some_and(|key| matches!(key, "title" | "name" | "term")) {
                        name = inside.clone();
                    }
                    last_string = text.get(inside);
                }
            }
            b':' if depth == 1 && key.is_none() => {
                key = last_string;
                kind = kind.or_else(|| kind_of(key?, config));
            }
            b',' if depth == 1 => key = None,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    let span = start..at + 1;
                    return kind.map(|kind| Object { kind, span, name });
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Where the string ends whose inside begins here.
fn string_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn kind_of(key: &str, config: &Config) -> Option<ItemKind> {
    if config.term_keys.iter().any(|known| known == key) {
        Some(ItemKind::Term)
    } else if config.chunk_keys.iter().any(|known| known == key) {
        Some(ItemKind::Chunk)
    } else {
        None
    }
}
