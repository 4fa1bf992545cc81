//! What is to be done to a request: edits sorted and free of contradictions.

use std::ops::Range;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// One entry per message of the request.
    pub messages: Vec<MessagePlan>,
}

impl Plan {
    /// True when nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages
            .iter()
            .all(|message| matches!(message, MessagePlan::Keep))
    }

    /// True when a message goes, or a part.
    #[must_use]
    pub fn drops_anything(&self) -> bool {
        self.messages.iter().any(|message| match message {
            MessagePlan::Keep => false,
            MessagePlan::Drop => true,
            MessagePlan::Edit(parts) => parts.iter().any(|part| matches!(part, PartPlan::Drop)),
        })
    }
}

/// What is to be done to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessagePlan {
    /// Nothing.
    Keep,
    /// It goes.
    Drop,
    /// One entry per part; at least one is not [`PartPlan::Keep`], at least one is not
    /// [`PartPlan::Drop`].
    Edit(Vec<PartPlan>),
}

/// What is to be done to one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartPlan {
    /// Nothing.
    Keep,
    /// It goes.
    Drop,
    /// Sorted, not overlapping, at least one.
    Cut(Vec<Cut>),
}

/// One piece of a text that goes or becomes shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the decoded text.
    pub range: Range<usize>,
    /// Takes its place; empty when it just goes.
    pub replacement: String,
}

/// The text after its cuts. `cuts` must be sorted and lie within `text` on borders of characters, as
/// [`crate::check()`] makes them; a cut that does not is left out.
#[must_use]
pub fn cut_text(text: &str, cuts: &[Cut]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for cut in cuts {
        if let Some(kept) = text.get(from..cut.range.start)
            && text.is_char_boundary(cut.range.end)
        {
            out.push_str(kept);
            out.push_str(&cut.replacement);
            from = cut.range.end;
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}
