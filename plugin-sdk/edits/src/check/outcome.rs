//! What the cuts leave behind: the plan, and the rules that only it can break (rule 5 and the
//! paragraph after the list).

use std::collections::HashMap;

use super::address::Addressed;
use super::fault::{Fault, Refusal};
use crate::edit::Change;
use crate::plan::{Cut, MessagePlan, PartPlan, Plan};
use crate::shape::{MessageShape, PartShape, Shape};

/// For each message that goes, the edit to name when it should not.
pub(super) type DroppedBy = Vec<Option<usize>>;

/// Makes the plan, with what is left empty already turned into drops, and checks the part of rule 5
/// that is about parts: a tool result goes only with its whole group.
pub(super) fn build(
    shape: &Shape<'_>,
    sorted: &[Addressed<'_>],
) -> Result<(Plan, DroppedBy), Refusal> {
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
pub(super) fn check_groups(shape: &Shape<'_>, dropped_by: &[Option<usize>]) -> Result<(), Refusal> {
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
pub(super) fn check_user(shape: &Shape<'_>, plan: &Plan) -> Result<(), Refusal> {
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
