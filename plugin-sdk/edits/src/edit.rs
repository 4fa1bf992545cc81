//! What a compressor asks for.

use std::fmt;

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

impl Kind {
    /// The contract's name of the case: a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Term => "term",
            Self::Chunk => "chunk",
            Self::History => "history",
            Self::Repetition => "repetition",
            Self::Filler => "filler",
            Self::ToolOutput => "tool-output",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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

impl Reason {
    /// The contract's name of the case: a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Irrelevant => "irrelevant",
            Self::Outranked => "outranked",
            Self::OverBudget => "over-budget",
            Self::Duplicate => "duplicate",
            Self::Outdated => "outdated",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens to the prompt. Messages and parts are counted from 0; `start` and `end` are bytes of
/// the whole text in UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The message goes, with all its parts.
    DropMessage(u32),
    /// One part goes: a text or a tool result.
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

/// One cut that a plugin wants. The order of a list of edits means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What happens.
    pub change: Change,
    /// What kind of thing goes.
    pub kind: Kind,
    /// Why it goes.
    pub reason: Reason,
}
