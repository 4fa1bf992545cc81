//! Terms and passages in a text, in whatever form they were written.
//!
//! Three readers look at a text, each only at what the ones before left: tags ([`xml`]), JSON
//! ([`json`]), lines ([`lines`]: headings, labels, tables, bullets, `term: definition`, `[1]`). What
//! none of them knows is no item and is never cut. Items do not overlap and end on borders of
//! characters.

mod json;
mod lines;
mod xml;

use std::ops::Range;

use crate::config::Config;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// An entry of a list of terms.
    Term,
    /// A passage.
    Chunk,
}

/// A term or passage, in bytes of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    /// All of it.
    pub(crate) span: Range<usize>,
    /// Its term or title; empty when it has none.
    pub(crate) name: Range<usize>,
    /// What goes when it goes, and others behind it stay: with what separates it from them.
    pub(crate) cut: Range<usize>,
    /// What goes when nothing stays behind it. Differs in JSON arrays alone, where the comma before
    /// it must go.
    pub(crate) cut_at_end: Range<usize>,
    /// Items of one JSON array have the number of its first byte in common.
    pub(crate) array: Option<usize>,
}

impl Item {
    fn plain(kind: ItemKind, span: Range<usize>, name: Range<usize>, cut: Range<usize>) -> Self {
        Self {
            kind,
            span,
            name,
            cut_at_end: cut.clone(),
            cut,
            array: None,
        }
    }
}

/// All items of a text, in order.
pub(crate) fn find(text: &str, config: &Config) -> Vec<Item> {
    let mut items = xml::find(text, config);
    items.extend(json::find(text, config, &items));
    items.sort_by_key(|item| item.cut.start);
    items.extend(lines::find(text, config, &items));
    items.sort_by_key(|item| (item.cut.start, item.cut.end));
    // By what they are, not by what would go with them: neighbours share the comma between them.
    let mut end = 0;
    items.retain(|item| {
        let is_free = item.span.start >= end && !item.span.is_empty();
        if is_free {
            end = item.span.end;
        }
        is_free
    });
    items
}

/// Where the white space behind `at` ends.
fn behind_space(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.len() - rest.trim_start().len()
}
