//! Edits, checked by the host's own rules and made.

use sluicegate_edits::{
    MessagePlan, MessageShape, PartPlan, PartShape, Plan, Refusal, Rules, Shape, check, cut_text,
};

use crate::{Edit, Message, Part, Request, Role};

/// What is left of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the request before the edits.
    pub index: u32,
    /// Who speaks.
    pub role: Role,
    /// Its texts and tool results that are left, in order; other parts are left out.
    pub texts: Vec<String>,
}

/// Checks `edits` as the proxy does, with the default rules of a slot, and makes them: the messages
/// that are left. `request` must show all messages and all texts whole.
///
/// # Errors
/// The refusal names the edit and the broken rule, in the proxy's words.
pub fn apply(request: &Request, edits: &[Edit]) -> Result<Vec<Kept>, Refusal> {
    apply_with(request, edits, &Rules::default())
}

/// [`apply`] for a slot with rules of its own.
///
/// # Errors
/// The refusal names the edit and the broken rule, in the proxy's words.
pub fn apply_with(request: &Request, edits: &[Edit], rules: &Rules) -> Result<Vec<Kept>, Refusal> {
    let edits: Vec<_> = edits.iter().map(sluicegate_edits::Edit::from).collect();
    let plan = check(&shape(request), &edits, rules)?;
    Ok(kept(request, &plan))
}

fn shape(request: &Request) -> Shape<'_> {
    let messages = request
        .messages
        .iter()
        .map(|message| MessageShape {
            locked: message.locked,
            group: message.group,
            user: message.role == Role::User,
            parts: message.parts.iter().map(part_shape).collect(),
        })
        .collect();
    Shape { messages }
}

fn part_shape(part: &Part) -> PartShape<'_> {
    match part {
        Part::Text(text) => PartShape::Text(&text.head),
        Part::ToolResult(result) => PartShape::ToolResult(&result.content.head),
        Part::Image(_)
        | Part::Audio(_)
        | Part::Video(_)
        | Part::File(_)
        | Part::ToolCall(_)
        | Part::Other(_) => PartShape::Fixed,
    }
}

fn kept(request: &Request, plan: &Plan) -> Vec<Kept> {
    let mut left = Vec::new();
    for (message, plan) in request.messages.iter().zip(&plan.messages) {
        let texts = match plan {
            MessagePlan::Drop => continue,
            MessagePlan::Keep => texts(message, &vec![PartPlan::Keep; message.parts.len()]),
            MessagePlan::Edit(parts) => texts(message, parts),
        };
        left.push(Kept {
            index: message.index,
            role: message.role,
            texts,
        });
    }
    left
}

fn texts(message: &Message, plans: &[PartPlan]) -> Vec<String> {
    let mut left = Vec::new();
    for (part, plan) in message.parts.iter().zip(plans) {
        let (PartShape::Text(text) | PartShape::ToolResult(text)) = part_shape(part) else {
            continue;
        };
        match plan {
            PartPlan::Keep => left.push(text.to_owned()),
            PartPlan::Drop => {}
            PartPlan::Cut(cuts) => left.push(cut_text(text, cuts)),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chat, message, request, text, tool_call, tool_result, windowed};
    use crate::{Kind, Reason, Span};

    #[test]
    fn an_edit_is_made_in_the_text() {
        let request = chat(&[(Role::System, "Be very brief."), (Role::User, "Why?")]);
        let span = Span {
            message: 0,
            part: 0,
            start: 2,
            end: 7,
        };
        let edits = [Edit::drop_span(span, Kind::Filler, Reason::Irrelevant)];
        let left = apply(&request, &edits).unwrap();
        assert_eq!(left[0].texts, ["Be brief."]);
        assert_eq!(left[1].texts, ["Why?"]);
    }

    #[test]
    fn the_question_is_locked_and_the_refusal_says_so() {
        let request = chat(&[(Role::User, "Hi"), (Role::User, "Why?")]);
        let edits = [Edit::drop_message(1, Kind::History, Reason::Outdated)];
        let refusal = apply(&request, &edits).unwrap_err().to_string();
        assert_eq!(refusal, "edit 0: message 1 is locked (rule 3)");
    }

    #[test]
    fn a_call_and_its_result_are_one_group() {
        let request = request(vec![
            message(Role::User, vec![text("How many?")]),
            message(Role::Assistant, vec![tool_call("c1", "count")]),
            message(Role::Tool, vec![tool_result("c1", "count", "42")]),
            message(Role::User, vec![text("Thanks. Which?")]),
        ]);
        let drop = |index| Edit::drop_message(index, Kind::History, Reason::Outdated);
        assert!(apply(&request, &[drop(1)]).is_err());
        let left = apply(&request, &[drop(2), drop(1)]).unwrap();
        assert_eq!(
            left.iter().map(|kept| kept.index).collect::<Vec<_>>(),
            [0, 3]
        );
    }

    #[test]
    fn a_windowed_text_is_read_whole() {
        let whole = chat(&[(Role::User, &"é 你好 ".repeat(20_000))]);
        let request = windowed(&whole, 100, 50);
        let host = crate::testing::TestHost::new(&whole);
        let Part::Text(shown) = &request.messages[0].parts[0] else {
            panic!("a text")
        };
        assert!(!shown.is_whole() && shown.head.len() <= 100);
        let host: &dyn crate::Host = &host;
        assert_eq!(host.whole(0, 0, shown).unwrap(), whole.last_user_text());
    }
}
