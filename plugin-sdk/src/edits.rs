//! Edits: short ways to write them, and their form for the host's own checker.

use crate::{Change, Edit, Kind, PartPlace, Reason, Replacement, Span};

impl Edit {
    /// The message goes, with all its parts and together with its group.
    #[must_use]
    pub fn drop_message(message: u32, kind: Kind, reason: Reason) -> Self {
        Self {
            change: Change::DropMessage(message),
            kind,
            reason,
        }
    }

    /// One text or tool result goes.
    #[must_use]
    pub fn drop_part(message: u32, part: u32, kind: Kind, reason: Reason) -> Self {
        Self {
            change: Change::DropPart(PartPlace { message, part }),
            kind,
            reason,
        }
    }

    /// A piece of a text goes.
    #[must_use]
    pub fn drop_span(span: Span, kind: Kind, reason: Reason) -> Self {
        Self {
            change: Change::DropSpan(span),
            kind,
            reason,
        }
    }

    /// A piece of a text becomes `text`, which must have fewer bytes.
    #[must_use]
    pub fn replace_span(span: Span, text: impl Into<String>, kind: Kind, reason: Reason) -> Self {
        Self {
            change: Change::ReplaceSpan(Replacement {
                span,
                text: text.into(),
            }),
            kind,
            reason,
        }
    }
}

impl From<&Edit> for sluicegate_edits::Edit {
    fn from(edit: &Edit) -> Self {
        Self {
            change: (&edit.change).into(),
            kind: edit.kind.into(),
            reason: edit.reason.into(),
        }
    }
}

impl From<&Change> for sluicegate_edits::Change {
    fn from(change: &Change) -> Self {
        match change {
            Change::DropMessage(message) => Self::DropMessage(*message),
            &Change::DropPart(PartPlace { message, part }) => Self::DropPart { message, part },
            &Change::DropSpan(Span {
                message,
                part,
                start,
                end,
            }) => Self::DropSpan {
                message,
                part,
                start,
                end,
            },
            Change::ReplaceSpan(Replacement { span, text }) => Self::ReplaceSpan {
                message: span.message,
                part: span.part,
                start: span.start,
                end: span.end,
                text: text.clone(),
            },
        }
    }
}

impl From<Kind> for sluicegate_edits::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Term => Self::Term,
            Kind::Chunk => Self::Chunk,
            Kind::History => Self::History,
            Kind::Repetition => Self::Repetition,
            Kind::Filler => Self::Filler,
            Kind::ToolOutput => Self::ToolOutput,
            Kind::Other => Self::Other,
        }
    }
}

impl From<Reason> for sluicegate_edits::Reason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Irrelevant => Self::Irrelevant,
            Reason::Outranked => Self::Outranked,
            Reason::OverBudget => Self::OverBudget,
            Reason::Duplicate => Self::Duplicate,
            Reason::Outdated => Self::Outdated,
        }
    }
}
