//! What one edit takes hold of: whether it may (rules 2, 3 and 6), and whether another edit takes
//! hold of it too (rule 4).

use super::fault::{Fault, Refusal, Rules};
use crate::edit::Change;
use crate::shape::{MessageShape, PartShape, Shape};

/// An edit whose address is known to be good.
pub(super) struct Addressed<'a> {
    pub(super) index: usize,
    pub(super) place: Place,
    pub(super) change: &'a Change,
}

/// What an edit takes hold of. The order of the fields is the order of the sort: a drop comes before
/// whatever lies inside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) message: usize,
    /// None: the whole message.
    pub(super) part: Option<usize>,
    /// None: the whole part.
    pub(super) span: Option<(usize, usize)>,
}

impl Place {
    /// True when `self`, which sorts first, and `later` share anything.
    fn meets(&self, later: &Self) -> bool {
        self.message == later.message
            && (self.part.is_none()
                || self.part == later.part
                    && match (self.span, later.span) {
                        (Some((_, end)), Some((start, _))) => start < end,
                        _ => true,
                    })
    }
}

/// Rules 2, 3 and 6, as far as one edit alone can break them.
pub(super) fn check_edit(
    shape: &Shape<'_>,
    change: &Change,
    rules: &Rules,
) -> Result<Place, Fault> {
    match *change {
        Change::DropMessage(message) => {
            let (at, _) = open_message(shape, message)?;
            Ok(Place {
                message: at,
                part: None,
                span: None,
            })
        }
        Change::DropPart { message, part } => {
            let (at, open) = open_message(shape, message)?;
            let (part, _) = open_part(open, message, part, rules)?;
            Ok(Place {
                message: at,
                part: Some(part),
                span: None,
            })
        }
        Change::DropSpan {
            message,
            part,
            start,
            end,
        } => {
            let (at, open) = open_message(shape, message)?;
            let (part, text) = open_part(open, message, part, rules)?;
            let span = open_span(text, start, end)?;
            Ok(Place {
                message: at,
                part: Some(part),
                span: Some(span),
            })
        }
        Change::ReplaceSpan {
            message,
            part,
            start,
            end,
            text: ref replacement,
        } => {
            let (at, open) = open_message(shape, message)?;
            let (part, text) = open_part(open, message, part, rules)?;
            let span = open_span(text, start, end)?;
            check_replacement(replacement, span.1 - span.0)?;
            Ok(Place {
                message: at,
                part: Some(part),
                span: Some(span),
            })
        }
    }
}

fn open_message<'s, 'a>(
    shape: &'s Shape<'a>,
    message: u32,
) -> Result<(usize, &'s MessageShape<'a>), Fault> {
    let at = position(message);
    let open = shape.messages.get(at).ok_or(Fault::NoMessage {
        message,
        messages: shape.messages.len(),
    })?;
    if open.locked {
        return Err(Fault::Locked { message });
    }
    Ok((at, open))
}

fn open_part<'a>(
    open: &MessageShape<'a>,
    message: u32,
    part: u32,
    rules: &Rules,
) -> Result<(usize, &'a str), Fault> {
    let at = position(part);
    match open.parts.get(at) {
        None => Err(Fault::NoPart {
            message,
            part,
            parts: open.parts.len(),
        }),
        Some(PartShape::Fixed) => Err(Fault::FixedPart { message, part }),
        Some(PartShape::ToolResult(_)) if !rules.tool_results => Err(Fault::ToolResult { message }),
        Some(PartShape::Text(text) | PartShape::ToolResult(text)) => Ok((at, text)),
    }
}

fn open_span(text: &str, start: u32, end: u32) -> Result<(usize, usize), Fault> {
    if start >= end {
        return Err(Fault::EmptySpan { start, end });
    }
    if position(end) > text.len() {
        return Err(Fault::BeyondText {
            end,
            size: text.len(),
        });
    }
    match [start, end]
        .into_iter()
        .find(|at| !text.is_char_boundary(position(*at)))
    {
        Some(at) => Err(Fault::InsideCharacter { at }),
        None => Ok((position(start), position(end))),
    }
}

fn check_replacement(replacement: &str, span: usize) -> Result<(), Fault> {
    if replacement.len() >= span {
        return Err(Fault::NotShorter {
            replacement: replacement.len(),
            span,
        });
    }
    match replacement
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\t' | '\n'))
    {
        Some(character) => Err(Fault::ControlCharacter { character }),
        None => Ok(()),
    }
}

/// A guest's number as an index; on a machine where it does not fit, nothing has that place.
fn position(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Rule 4. Sorted as they are, edits that meet stand next to each other, or behind a drop that
/// stands at the head of its message or part.
pub(super) fn check_meetings(sorted: &[Addressed<'_>]) -> Result<(), Refusal> {
    for pair in sorted.windows(2) {
        let [earlier, later] = pair else { continue };
        if earlier.place.meets(&later.place) {
            let (first, second) = (
                earlier.index.min(later.index),
                earlier.index.max(later.index),
            );
            return Err(Refusal {
                edit: Some(second),
                fault: Fault::Meets { other: first },
            });
        }
    }
    Ok(())
}
