//! What the rules are asked with, and the words in which they refuse.

use std::fmt;

/// What the slot allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Most edits in one list.
    pub max_edits: usize,
    /// Most bytes of replacement text in one list.
    pub max_replacement_bytes: usize,
    /// Whether tool results may be edited.
    pub tool_results: bool,
}

impl Default for Rules {
    /// The defaults of a slot: 4,096 edits, 1 MiB of replacement text, no edits of tool results.
    fn default() -> Self {
        Self {
            max_edits: 4_096,
            max_replacement_bytes: 1024 * 1024,
            tool_results: false,
        }
    }
}

/// Why a list of edits was refused: the first fault found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Place in the list of the edit at fault; none when the list as a whole is.
    pub edit: Option<usize>,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(edit) = self.edit {
            write!(f, "edit {edit}: ")?;
        }
        write!(f, "{} (rule {})", self.fault, self.fault.rule())
    }
}

impl std::error::Error for Refusal {}

/// What is wrong with an edit. Positions as in [`crate::Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// More edits than the slot allows.
    TooManyEdits {
        /// Edits in the list.
        edits: usize,
        /// Edits allowed.
        limit: usize,
    },
    /// More bytes of replacement text than the slot allows.
    TooMuchReplacement {
        /// Bytes allowed.
        limit: usize,
    },
    /// The request has no such message.
    NoMessage {
        /// The message asked for.
        message: u32,
        /// Messages of the request.
        messages: usize,
    },
    /// The message has no such part.
    NoPart {
        /// The message.
        message: u32,
        /// The part asked for.
        part: u32,
        /// Parts of the message.
        parts: usize,
    },
    /// The span is empty, or ends before it begins.
    EmptySpan {
        /// First byte.
        start: u32,
        /// One past the last byte.
        end: u32,
    },
    /// The span goes beyond the text.
    BeyondText {
        /// One past the last byte of the span.
        end: u32,
        /// Bytes of the text.
        size: usize,
    },
    /// A byte within a character, where a span begins or ends.
    InsideCharacter {
        /// The byte.
        at: u32,
    },
    /// The message is locked.
    Locked {
        /// The message.
        message: u32,
    },
    /// The part is media, a tool call, or of an unknown type.
    FixedPart {
        /// The message.
        message: u32,
        /// The part.
        part: u32,
    },
    /// The slot does not allow edits of tool results.
    ToolResult {
        /// The message.
        message: u32,
    },
    /// Another edit of the list drops or changes the same thing.
    Meets {
        /// Place in the list of the other edit.
        other: usize,
    },
    /// Some messages of a group would go, others stay; or a tool result would go and its call stay.
    TornGroup {
        /// The group.
        group: u32,
    },
    /// The replacement is not shorter than its span.
    NotShorter {
        /// Bytes of the replacement.
        replacement: usize,
        /// Bytes of the span.
        span: usize,
    },
    /// The replacement holds a control character that is neither tab nor newline.
    ControlCharacter {
        /// The character.
        character: char,
    },
    /// The request has a user message, the result would have none.
    NoUserLeft,
}

impl Fault {
    /// The number of the broken rule in the contract's interface `compress`; 7 is the paragraph
    /// after the list.
    #[must_use]
    pub fn rule(&self) -> u8 {
        match self {
            Self::TooManyEdits { .. } | Self::TooMuchReplacement { .. } => 1,
            Self::NoMessage { .. }
            | Self::NoPart { .. }
            | Self::EmptySpan { .. }
            | Self::BeyondText { .. }
            | Self::InsideCharacter { .. } => 2,
            Self::Locked { .. } | Self::FixedPart { .. } | Self::ToolResult { .. } => 3,
            Self::Meets { .. } => 4,
            Self::TornGroup { .. } => 5,
            Self::NotShorter { .. } | Self::ControlCharacter { .. } => 6,
            Self::NoUserLeft => 7,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyEdits { edits, limit } => {
                write!(f, "{edits} edits are more than {limit}")
            }
            Self::TooMuchReplacement { limit } => {
                write!(f, "the replacements have more than {limit} bytes in all")
            }
            Self::NoMessage { message, messages } => {
                write!(f, "no message {message}: the request has {messages}")
            }
            Self::NoPart {
                message,
                part,
                parts,
            } => {
                write!(f, "no part {part} in message {message}: it has {parts}")
            }
            Self::EmptySpan { start, end } => write!(f, "the span {start}..{end} is empty"),
            Self::BeyondText { end, size } => {
                write!(f, "the span ends at byte {end}, the text at {size}")
            }
            Self::InsideCharacter { at } => write!(f, "byte {at} lies within a character"),
            Self::Locked { message } => write!(f, "message {message} is locked"),
            Self::FixedPart { message, part } => {
                write!(
                    f,
                    "part {part} of message {message} is neither text nor a tool result"
                )
            }
            Self::ToolResult { message } => {
                write!(
                    f,
                    "message {message}: the slot does not allow edits of tool results"
                )
            }
            Self::Meets { other } => write!(f, "meets edit {other}"),
            Self::TornGroup { group } => {
                write!(
                    f,
                    "group {group} would go in part; it goes whole or stays whole"
                )
            }
            Self::NotShorter { replacement, span } => {
                write!(
                    f,
                    "{replacement} bytes do not replace {span} bytes by fewer"
                )
            }
            Self::ControlCharacter { character } => {
                write!(
                    f,
                    "the replacement holds the control character {character:?}"
                )
            }
            Self::NoUserLeft => f.write_str("no user message would be left"),
        }
    }
}
