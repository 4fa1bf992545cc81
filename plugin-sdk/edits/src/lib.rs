//! The rules by which edits of a prompt are checked, the same in the proxy and in an author's tests.

use std::ops::Range;

/// What kind of thing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An entry of a terminology list.
    Term,
    /// A retrieved passage.
    Chunk,
    /// An earlier turn.
    History,
    /// Something said before.
    Repetition,
    /// Words without content.
    Filler,
    /// (Part of) a tool's answer.
    ToolOutput,
    /// None of these.
    Other,
}

/// Why it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It has nothing to do with the question.
    Irrelevant,
    /// Better ones fill the top k.
    Outranked,
    /// It would fit the question but not the budget.
    OverBudget,
    /// The same thing stands elsewhere and stays there.
    Duplicate,
    /// Newer content makes it void.
    Outdated,
}

/// What happens to the prompt. Positions and bytes as in the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The message goes.
    DropMessage(u32),
    /// One part goes.
    DropPart {
        /// Position of the message.
        message: u32,
        /// Position of the part.
        part: u32,
    },
    /// A piece of a text goes.
    DropSpan {
        /// Position of the message.
        message: u32,
        /// Position of the part.
        part: u32,
        /// First byte.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// A piece of a text becomes a shorter one.
    ReplaceSpan {
        /// Position of the message.
        message: u32,
        /// Position of the part.
        part: u32,
        /// First byte.
        start: u32,
        /// One past the last byte.
        end: u32,
        /// Takes its place.
        text: String,
    },
}

/// One cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What happens.
    pub change: Change,
    /// What kind of thing goes.
    pub kind: Kind,
    /// Why it goes.
    pub reason: Reason,
}

/// What is to be done, sorted and free of contradictions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// One entry per message of the request.
    pub messages: Vec<MessagePlan>,
}

/// What is to be done to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessagePlan {
    /// Nothing.
    Keep,
    /// It goes.
    Drop,
    /// One entry per part.
    Edit(Vec<PartPlan>),
}

/// What is to be done to one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartPlan {
    /// Nothing.
    Keep,
    /// It goes.
    Drop,
    /// Sorted, not overlapping.
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
