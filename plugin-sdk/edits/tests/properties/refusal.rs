//! Whether a refusal is right, whatever the rules say of it.

use sluicegate_edits::{Change, Edit, Fault, PartShape, Refusal, Rules, Shape, reference};

/// Whether what a refusal says is so.
pub(crate) fn is_true(refusal: &Refusal, shape: &Shape<'_>, edits: &[Edit], rules: &Rules) -> bool {
    let at = |number: u32| usize::try_from(number).expect("32 bits fit");
    let named = refusal.edit.map(|edit| &edits[edit].change);
    let (message, part, span) = match named {
        None => (None, None, None),
        Some(Change::DropMessage(message)) => (Some(*message), None, None),
        Some(Change::DropPart { message, part }) => (Some(*message), Some(*part), None),
        Some(
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
            },
        ) => (Some(*message), Some(*part), Some((*start, *end))),
    };
    let new = match named {
        Some(Change::ReplaceSpan { text, .. }) => text.as_str(),
        _ => "",
    };
    let found = message.and_then(|message| shape.messages.get(at(message)));
    let found_part = found.and_then(|found| found.parts.get(at(part?)));
    let text = match found_part {
        Some(PartShape::Text(text) | PartShape::ToolResult(text)) => Some(*text),
        _ => None,
    };
    match refusal.fault {
        Fault::TooManyEdits { edits: many, limit } => {
            many == edits.len() && limit == rules.max_edits && many > limit
        }
        Fault::TooMuchReplacement { limit } => limit == rules.max_replacement_bytes,
        Fault::NoMessage {
            message: missing,
            messages,
        } => message == Some(missing) && found.is_none() && messages == shape.messages.len(),
        Fault::NoPart {
            message: of,
            part: missing,
            parts,
        } => {
            (message, part) == (Some(of), Some(missing))
                && found.is_some_and(|found| found.parts.len() == parts && at(missing) >= parts)
        }
        Fault::EmptySpan { start, end } => span == Some((start, end)) && start >= end,
        Fault::BeyondText { end, size } => {
            span.is_some_and(|span| span.1 == end)
                && text.is_some_and(|text| text.len() == size && at(end) > size)
        }
        Fault::InsideCharacter { at: byte } => {
            span.is_some_and(|(start, end)| byte == start || byte == end)
                && text.is_some_and(|text| !text.is_char_boundary(at(byte)))
        }
        Fault::Locked { message: locked } => {
            message == Some(locked) && found.is_some_and(|found| found.locked)
        }
        Fault::FixedPart {
            message: of,
            part: fixed,
        } => {
            (message, part) == (Some(of), Some(fixed))
                && matches!(found_part, Some(PartShape::Fixed))
        }
        Fault::ToolResult { message: of } => {
            message == Some(of) && matches!(found_part, Some(PartShape::ToolResult(_)))
        }
        Fault::Meets { other } => refusal.edit.is_some_and(|edit| {
            let pair = [edits[other].clone(), edits[edit].clone()];
            let lax = Rules {
                tool_results: true,
                ..Rules::default()
            };
            let broken = reference::apply(shape, &pair, &lax).err();
            other < edit && broken.is_some_and(|broken| broken.contains(&4))
        }),
        Fault::TornGroup { group } => found.is_some_and(|found| found.group == Some(group)),
        Fault::NotShorter {
            replacement,
            span: bytes,
        } => {
            replacement == new.len()
                && replacement >= bytes
                && span.is_some_and(|(start, end)| at(end - start) == bytes)
        }
        Fault::ControlCharacter { character } => {
            new.contains(character) && character.is_control() && !"\t\n".contains(character)
        }
        Fault::NoUserLeft => refusal.edit.is_none(),
        // Rules of a later day belong into this list.
        _ => false,
    }
}
