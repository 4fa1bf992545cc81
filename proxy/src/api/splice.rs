//! Changes to a text, made all at once; every byte outside of them stays.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

/// Changes to one text, in any order. They must not overlap; touching is fine.
#[derive(Debug, Default)]
pub(super) struct Splices<'a>(Vec<(Range<usize>, Cow<'a, str>)>);

impl<'a> Splices<'a> {
    /// Puts a text in place of these bytes. An empty range inserts in front of its place.
    pub(super) fn replace(&mut self, range: Range<usize>, text: impl Into<Cow<'a, str>>) {
        self.0.push((range, text.into()));
    }

    /// Takes elements out of a list, each with one of the commas beside it.
    ///
    /// `elements` are the places of all elements, in order, and whether each one leaves.
    pub(super) fn remove(&mut self, elements: impl IntoIterator<Item = (Range<usize>, bool)>) {
        let mut kept_to = None;
        let mut run: Option<Range<usize>> = None;
        for (place, leaves) in elements {
            if leaves {
                run = Some(run.map_or(place.start, |run| run.start)..place.end);
                continue;
            }
            // Up to the next that stays.
            if let Some(run) = run.take() {
                self.replace(run.start..place.start, "");
            }
            kept_to = Some(place.end);
        }
        // At the end of the list, from the last one that stayed.
        if let Some(run) = run {
            self.replace(kept_to.unwrap_or(run.start)..run.end, "");
        }
    }

    /// The changed text; without changes, the same bytes again, not a copy.
    pub(super) fn apply(mut self, body: &Bytes) -> Bytes {
        if self.0.is_empty() {
            return body.clone();
        }
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let grown: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(body.len() + grown);
        let mut kept = 0;
        for (range, text) in &self.0 {
            debug_assert!(kept <= range.start, "changes overlap");
            out.extend_from_slice(body.get(kept..range.start).unwrap_or_default());
            out.extend_from_slice(text.as_bytes());
            kept = kept.max(range.end);
        }
        out.extend_from_slice(body.get(kept..).unwrap_or_default());
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json;
    use proptest::prelude::*;

    #[test]
    fn nothing_to_change_gives_the_same_bytes() {
        let body = Bytes::from_static(b"{}");
        assert_eq!(Splices::default().apply(&body).as_ptr(), body.as_ptr());
    }

    proptest! {
        #[test]
        fn removed_elements_leave_a_list_of_the_others(
            gone in prop::collection::vec(any::<bool>(), 0..9),
            space in "[ \n]{0,2}",
        ) {
            let items: Vec<_> = (0..gone.len()).map(|n| format!("{space}{n}{space}")).collect();
            let list = format!("[{}]", items.join(","));
            let places: Vec<_> =
                json::elements(&list).unwrap().iter().map(|e| json::place(&list, e)).collect();
            let mut splices = Splices::default();
            splices.remove(places.into_iter().zip(gone.iter().copied()));
            let after = splices.apply(&Bytes::from(list));
            let left: Vec<usize> = serde_json::from_slice(&after).unwrap();
            let expected: Vec<_> = (0..gone.len()).filter(|n| !gone[*n]).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
