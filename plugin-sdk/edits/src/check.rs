//! The rules of the interface `compress`, in the order in which they are numbered there.
//!
//! Faults of single edits are found first, then edits that meet, then what the cuts leave behind.
//! Groups come last on purpose: a tool result may also be emptied by spans, and a message emptied by
//! its parts, so only the finished plan tells which messages are gone.

use std::collections::HashMap;
use std::fmt;

use crate::edit::{Change, Edit};
use crate::plan::{Cut, MessagePlan, PartPlan, Plan};
use crate::shape::{MessageShape, PartShape, Shape};

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

/// What is wrong with an edit. Positions as in [`Change`].
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

/// Checks a list of edits as a whole and turns it into a plan. All of it is applied or nothing.
///
/// # Errors
/// [`Refusal`] names the first edit at fault and the rule that it breaks.
pub fn check(shape: &Shape<'_>, edits: &[Edit], rules: &Rules) -> Result<Plan, Refusal> {
    check_amount(edits, rules)?;
    let mut addressed = Vec::with_capacity(edits.len());
    for (index, edit) in edits.iter().enumerate() {
        let place = check_edit(shape, &edit.change, rules).map_err(|fault| Refusal {
            edit: Some(index),
            fault,
        })?;
        addressed.push(Addressed {
            index,
            place,
            change: &edit.change,
        });
    }
    addressed.sort_unstable_by_key(|edit| (edit.place, edit.index));
    check_meetings(&addressed)?;
    let (plan, dropped_by) = build(shape, &addressed)?;
    check_groups(shape, &dropped_by)?;
    check_user(shape, &plan)?;
    Ok(plan)
}

/// An edit whose address is known to be good.
struct Addressed<'a> {
    index: usize,
    place: Place,
    change: &'a Change,
}

/// What an edit takes hold of. The order of the fields is the order of the sort: a drop comes before
/// whatever lies inside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    message: usize,
    /// None: the whole message.
    part: Option<usize>,
    /// None: the whole part.
    span: Option<(usize, usize)>,
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

/// Rule 1.
fn check_amount(edits: &[Edit], rules: &Rules) -> Result<(), Refusal> {
    let whole = |fault| Refusal { edit: None, fault };
    if edits.len() > rules.max_edits {
        return Err(whole(Fault::TooManyEdits {
            edits: edits.len(),
            limit: rules.max_edits,
        }));
    }
    let replacement_bytes = edits.iter().fold(0_usize, |sum, edit| match &edit.change {
        Change::ReplaceSpan { text, .. } => sum.saturating_add(text.len()),
        Change::DropMessage(_) | Change::DropPart { .. } | Change::DropSpan { .. } => sum,
    });
    if replacement_bytes > rules.max_replacement_bytes {
        return Err(whole(Fault::TooMuchReplacement {
            limit: rules.max_replacement_bytes,
        }));
    }
    Ok(())
}

/// Rules 2, 3 and 6, as far as one edit alone can break them.
fn check_edit(shape: &Shape<'_>, change: &Change, rules: &Rules) -> Result<Place, Fault> {
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
fn check_meetings(sorted: &[Addressed<'_>]) -> Result<(), Refusal> {
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

/// For each message that goes, the edit to name when it should not.
type DroppedBy = Vec<Option<usize>>;

/// Makes the plan, with what is left empty already turned into drops, and checks the part of rule 5
/// that is about parts: a tool result goes only with its whole group.
fn build(shape: &Shape<'_>, sorted: &[Addressed<'_>]) -> Result<(Plan, DroppedBy), Refusal> {
    let mut messages = vec![MessagePlan::Keep; shape.messages.len()];
    let mut dropped_by = vec![None; shape.messages.len()];
    for edits in sorted.chunk_by(|a, b| a.place.message == b.place.message) {
        let Some(first) = edits.first() else { continue };
        let at = first.place.message;
        let (Some(message), Some(plan), Some(by)) = (
            shape.messages.get(at),
            messages.get_mut(at),
            dropped_by.get_mut(at),
        ) else {
            continue; // unreachable: `check_edit` found the message
        };
        *plan = build_message(message, edits)?;
        if matches!(plan, MessagePlan::Drop) {
            *by = Some(first.index);
        }
    }
    Ok((Plan { messages }, dropped_by))
}

fn build_message(
    message: &MessageShape<'_>,
    edits: &[Addressed<'_>],
) -> Result<MessagePlan, Refusal> {
    let mut parts = vec![PartPlan::Keep; message.parts.len()];
    let mut lost_result = None;
    for edits in edits.chunk_by(|a, b| a.place.part == b.place.part) {
        let Some(first) = edits.first() else { continue };
        let Some(at) = first.place.part else {
            return Ok(MessagePlan::Drop);
        };
        let (Some(part), Some(plan)) = (message.parts.get(at), parts.get_mut(at)) else {
            continue; // unreachable: `check_edit` found the part
        };
        *plan = build_part(part, edits);
        if matches!((&plan, part), (PartPlan::Drop, PartShape::ToolResult(_))) {
            lost_result = Some(first.index);
        }
    }
    if parts.iter().all(|part| matches!(part, PartPlan::Drop)) {
        return Ok(MessagePlan::Drop);
    }
    match (lost_result, message.group) {
        (Some(index), Some(group)) => Err(Refusal {
            edit: Some(index),
            fault: Fault::TornGroup { group },
        }),
        _ => Ok(MessagePlan::Edit(parts)),
    }
}

fn build_part(part: &PartShape<'_>, edits: &[Addressed<'_>]) -> PartPlan {
    let mut cuts = Vec::with_capacity(edits.len());
    for edit in edits {
        let Some((start, end)) = edit.place.span else {
            return PartPlan::Drop;
        };
        let replacement = match edit.change {
            Change::ReplaceSpan { text, .. } => text.clone(),
            Change::DropMessage(_) | Change::DropPart { .. } | Change::DropSpan { .. } => {
                String::new()
            }
        };
        cuts.push(Cut {
            range: start..end,
            replacement,
        });
    }
    match part {
        PartShape::Text(text) | PartShape::ToolResult(text) if is_blank_after(text, &cuts) => {
            PartPlan::Drop
        }
        PartShape::Text(_) | PartShape::ToolResult(_) | PartShape::Fixed => PartPlan::Cut(cuts),
    }
}

/// True when the cuts leave nothing but white space.
fn is_blank_after(text: &str, cuts: &[Cut]) -> bool {
    let mut from = 0;
    for cut in cuts {
        let kept = text.get(from..cut.range.start).unwrap_or_default();
        if !is_blank(kept) || !is_blank(&cut.replacement) {
            return false;
        }
        from = cut.range.end;
    }
    is_blank(text.get(from..).unwrap_or_default())
}

fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

/// Rule 5 over whole messages.
fn check_groups(shape: &Shape<'_>, dropped_by: &[Option<usize>]) -> Result<(), Refusal> {
    if dropped_by.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut going: HashMap<u32, usize> = HashMap::new();
    for (message, by) in shape.messages.iter().zip(dropped_by) {
        if let (Some(group), Some(edit)) = (message.group, *by) {
            going.entry(group).or_insert(edit);
        }
    }
    for (message, by) in shape.messages.iter().zip(dropped_by) {
        if let (Some(group), None) = (message.group, by)
            && let Some(edit) = going.get(&group)
        {
            return Err(Refusal {
                edit: Some(*edit),
                fault: Fault::TornGroup { group },
            });
        }
    }
    Ok(())
}

/// What was a conversation with a user must stay one.
fn check_user(shape: &Shape<'_>, plan: &Plan) -> Result<(), Refusal> {
    let mut users = shape
        .messages
        .iter()
        .zip(&plan.messages)
        .filter(|(message, _)| message.user);
    let Some(first) = users.next() else {
        return Ok(());
    };
    let stays = |(_, plan): (&MessageShape<'_>, &MessagePlan)| !matches!(plan, MessagePlan::Drop);
    if stays(first) || users.any(stays) {
        return Ok(());
    }
    Err(Refusal {
        edit: None,
        fault: Fault::NoUserLeft,
    })
}
