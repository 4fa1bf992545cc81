//! The rules once more, said the slow way: what tests hold [`crate::check()`] against.
//!
//! It shares types with the check and no code. Every rule is asked of every edit and of every pair
//! of edits, and texts are put together character by character.

use std::collections::BTreeSet;

use crate::check::Rules;
use crate::edit::{Change, Edit};
use crate::plan::{MessagePlan, PartPlan, Plan, cut_text};
use crate::shape::{MessageShape, PartShape, Shape};

/// What is left of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is as it was.
    Whole,
    /// A text became this one.
    Text(String),
    /// It is gone.
    Nothing,
}

/// What is left of each message, part by part; none when the message is gone.
pub type Outcome = Vec<Option<Vec<Left>>>;

/// Makes the edits, or says which rules the list breaks: all of 1 to 4 and 6, or else all of 5 and
/// 7.
///
/// # Errors
/// The numbers of the broken rules, at least one.
pub fn apply(shape: &Shape<'_>, edits: &[Edit], rules: &Rules) -> Result<Outcome, BTreeSet<u8>> {
    let mut broken = BTreeSet::new();
    let replacement_bytes: usize = edits.iter().map(|edit| replacement(edit).len()).sum();
    if edits.len() > rules.max_edits || replacement_bytes > rules.max_replacement_bytes {
        broken.insert(1);
    }
    for (index, edit) in edits.iter().enumerate() {
        broken.extend(broken_alone(shape, edit, rules));
        if edits.iter().skip(index + 1).any(|other| meet(edit, other)) {
            broken.insert(4);
        }
    }
    if !broken.is_empty() {
        return Err(broken);
    }
    let outcome: Outcome = (0..)
        .zip(&shape.messages)
        .map(|(at, message)| left(message, at, edits))
        .collect();
    if tears_a_group(shape, &outcome) {
        broken.insert(5);
    }
    let is_user = |(message, _): &(&MessageShape<'_>, &Option<Vec<Left>>)| message.user;
    let mut users = shape
        .messages
        .iter()
        .zip(&outcome)
        .filter(is_user)
        .peekable();
    if users.peek().is_some() && users.all(|(_, left)| left.is_none()) {
        broken.insert(7);
    }
    match broken.is_empty() {
        true => Ok(outcome),
        false => Err(broken),
    }
}

/// What a plan leaves, in the same form.
#[must_use]
pub fn outcome(shape: &Shape<'_>, plan: &Plan) -> Outcome {
    let part = |(part, plan): (&PartShape<'_>, &PartPlan)| match (part, plan) {
        (_, PartPlan::Keep) => Left::Whole,
        (_, PartPlan::Drop) => Left::Nothing,
        (PartShape::Text(text) | PartShape::ToolResult(text), PartPlan::Cut(cuts)) => {
            Left::Text(cut_text(text, cuts))
        }
        (PartShape::Fixed, PartPlan::Cut(_)) => Left::Text(String::new()),
    };
    let message = |(message, plan): (&MessageShape<'_>, &MessagePlan)| match plan {
        MessagePlan::Keep => Some(vec![Left::Whole; message.parts.len()]),
        MessagePlan::Drop => None,
        MessagePlan::Edit(parts) => Some(message.parts.iter().zip(parts).map(part).collect()),
    };
    shape
        .messages
        .iter()
        .zip(&plan.messages)
        .map(message)
        .collect()
}

/// The rules of 2, 3 and 6 that one edit breaks.
fn broken_alone(shape: &Shape<'_>, edit: &Edit, rules: &Rules) -> BTreeSet<u8> {
    let mut broken = BTreeSet::new();
    let (message, part, span) = address(edit);
    let Some(message) = at(&shape.messages, message) else {
        return [2].into();
    };
    if message.locked {
        broken.insert(3);
    }
    let Some(part) = part else { return broken };
    let text = match at(&message.parts, part) {
        None => {
            broken.insert(2);
            return broken;
        }
        Some(PartShape::Fixed) => {
            broken.insert(3);
            return broken;
        }
        Some(PartShape::Text(text)) => text,
        Some(PartShape::ToolResult(text)) => {
            if !rules.tool_results {
                broken.insert(3);
            }
            text
        }
    };
    let Some((start, end)) = span else {
        return broken;
    };
    let borders: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let is_border = |byte: u32| {
        borders
            .iter()
            .any(|border| u32::try_from(*border) == Ok(byte))
    };
    if start >= end || !is_border(start) || !is_border(end) {
        broken.insert(2);
    }
    if let Change::ReplaceSpan { text, .. } = &edit.change {
        let is_plain = |c: char| c == '\t' || c == '\n' || !c.is_control();
        let longest = u64::from(end.saturating_sub(start)).saturating_sub(1);
        if text.len() as u64 > longest || !text.chars().all(is_plain) {
            broken.insert(6);
        }
    }
    broken
}

/// Whether two edits want the same thing.
fn meet(one: &Edit, other: &Edit) -> bool {
    let ((message, part, span), (other_message, other_part, other_span)) =
        (address(one), address(other));
    let is_common = |byte: u32, span: (u32, u32)| span.0 <= byte && byte < span.1;
    message == other_message
        && match (part, other_part) {
            (Some(part), Some(other_part)) => {
                part == other_part
                    && match (span, other_span) {
                        (Some(span), Some(other)) => {
                            is_common(span.0, other) || is_common(other.0, span)
                        }
                        _ => true,
                    }
            }
            _ => true,
        }
}

/// What the edits leave of one message.
fn left(message: &MessageShape<'_>, index: u32, edits: &[Edit]) -> Option<Vec<Left>> {
    let here = edits.iter().filter(|edit| address(edit).0 == index);
    let here: Vec<&Edit> = here.collect();
    if here.iter().any(|edit| address(edit).1.is_none()) {
        return None;
    }
    let parts = (0..).zip(&message.parts).map(|(at, part)| {
        let here: Vec<&Edit> = here
            .iter()
            .filter(|edit| address(edit).1 == Some(at))
            .copied()
            .collect();
        match part {
            PartShape::Text(text) | PartShape::ToolResult(text) if !here.is_empty() => {
                rewritten(text, &here)
            }
            PartShape::Text(_) | PartShape::ToolResult(_) | PartShape::Fixed => Left::Whole,
        }
    });
    let parts: Vec<Left> = parts.collect();
    let is_left = here.is_empty() || parts.iter().any(|part| *part != Left::Nothing);
    is_left.then_some(parts)
}

/// A text, character by character.
fn rewritten(text: &str, edits: &[&Edit]) -> Left {
    let mut out = String::new();
    for (byte, character) in text.char_indices() {
        let byte = u32::try_from(byte).unwrap_or(u32::MAX);
        let mut is_kept = true;
        for edit in edits {
            // A part that is dropped is a span without end.
            let (start, end) = address(edit).2.unwrap_or((0, u32::MAX));
            if byte == start {
                out.push_str(replacement(edit));
            }
            is_kept &= byte < start || end <= byte;
        }
        if is_kept {
            out.push(character);
        }
    }
    match out.trim().is_empty() {
        true => Left::Nothing,
        false => Left::Text(out),
    }
}

/// Rule 5.
fn tears_a_group(shape: &Shape<'_>, outcome: &Outcome) -> bool {
    let messages: Vec<_> = shape.messages.iter().zip(outcome).collect();
    messages.iter().any(|(message, left)| {
        let Some(group) = message.group else {
            return false;
        };
        let is_torn = messages.iter().any(|(other, other_left)| {
            other.group == Some(group) && other_left.is_some() != left.is_some()
        });
        let loses_a_result = left
            .iter()
            .flatten()
            .zip(&message.parts)
            .any(|(left, part)| *left == Left::Nothing && matches!(part, PartShape::ToolResult(_)));
        is_torn || loses_a_result
    })
}

/// Message, part, and span of an edit.
type Address = (u32, Option<u32>, Option<(u32, u32)>);

fn address(edit: &Edit) -> Address {
    match edit.change {
        Change::DropMessage(message) => (message, None, None),
        Change::DropPart { message, part } => (message, Some(part), None),
        Change::DropSpan {
            message,
            part,
            start,
            end,
        }
        | Change::ReplaceSpan {
            message,
            part,
            start,
            end,
            ..
        } => (message, Some(part), Some((start, end))),
    }
}

fn replacement(edit: &Edit) -> &str {
    match &edit.change {
        Change::ReplaceSpan { text, .. } => text,
        Change::DropMessage(_) | Change::DropPart { .. } | Change::DropSpan { .. } => "",
    }
}

fn at<T>(list: &[T], position: u32) -> Option<&T> {
    list.get(usize::try_from(position).ok()?)
}
