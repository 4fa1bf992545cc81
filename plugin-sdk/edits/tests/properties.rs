//! What holds for any list of edits on any request.

use proptest::collection::vec;
use proptest::prelude::*;
use sluicegate_edits::{
    Change, Edit, Kind, MessagePlan, MessageShape, PartPlan, PartShape, Reason, Rules, Shape,
    check, cut_text,
};

/// A part that owns its text, from which a shape borrows.
#[derive(Debug, Clone)]
enum Part {
    Text(String),
    ToolResult(String),
    Fixed,
}

#[derive(Debug, Clone)]
struct Message {
    locked: bool,
    group: Option<u32>,
    user: bool,
    parts: Vec<Part>,
}

fn shape(messages: &[Message]) -> Shape<'_> {
    let part = |part| match part {
        &Part::Fixed => PartShape::Fixed,
        Part::Text(text) => PartShape::Text(text),
        Part::ToolResult(text) => PartShape::ToolResult(text),
    };
    let message = |message| {
        let &Message {
            locked,
            group,
            user,
            ref parts,
        } = message;
        MessageShape {
            locked,
            group,
            user,
            parts: parts.iter().map(part).collect(),
        }
    };
    Shape {
        messages: messages.iter().map(message).collect(),
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-c \n\u{e9}\u{4f60}\u{1f600}]{0,12}"
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => text().prop_map(Part::Text),
        1 => text().prop_map(Part::ToolResult),
        1 => Just(Part::Fixed),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (
        prop::bool::weighted(0.15),
        prop::option::weighted(0.3, 0_u32..3),
        any::<bool>(),
        vec(part(), 0..4),
    )
        .prop_map(|(locked, group, user, parts)| Message {
            locked,
            group,
            user,
            parts,
        })
}

/// Mostly small numbers, so that some edits hit; now and then any.
fn number(small: u32) -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0..small, 1 => any::<u32>()]
}

fn change() -> impl Strategy<Value = Change> {
    let span = || (number(6), number(4), number(14), number(14));
    prop_oneof![
        number(6).prop_map(Change::DropMessage),
        (number(6), number(4)).prop_map(|(message, part)| Change::DropPart { message, part }),
        span().prop_map(|(message, part, start, end)| Change::DropSpan {
            message,
            part,
            start,
            end
        }),
        (span(), "[x\t\u{7}\u{e9}]{0,3}").prop_map(|((message, part, start, end), text)| {
            Change::ReplaceSpan {
                message,
                part,
                start,
                end,
                text,
            }
        }),
    ]
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = |change| Edit {
        change,
        kind: Kind::Other,
        reason: Reason::Irrelevant,
    };
    vec(change().prop_map(edit), 0..6)
}

/// Checks everything that an accepted plan promises.
fn assert_sound(messages: &[Message], plan: &[MessagePlan]) -> Result<(), TestCaseError> {
    prop_assert_eq!(messages.len(), plan.len());
    let gone: Vec<_> = plan
        .iter()
        .map(|plan| matches!(plan, MessagePlan::Drop))
        .collect();
    for ((message, plan), is_gone) in messages.iter().zip(plan).zip(&gone) {
        prop_assert!(
            !message.locked || matches!(plan, MessagePlan::Keep),
            "locked"
        );
        for (other, other_gone) in messages.iter().zip(&gone) {
            prop_assert!(
                message.group.is_none() || message.group != other.group || is_gone == other_gone,
                "a torn group"
            );
        }
        let MessagePlan::Edit(parts) = plan else {
            continue;
        };
        prop_assert_eq!(parts.len(), message.parts.len());
        prop_assert!(
            parts.iter().any(|part| !matches!(part, PartPlan::Keep)),
            "an idle edit"
        );
        prop_assert!(
            parts.iter().any(|part| !matches!(part, PartPlan::Drop)),
            "an empty message"
        );
        for (part, plan) in message.parts.iter().zip(parts) {
            match (part, plan) {
                (_, PartPlan::Keep) | (Part::Text(_), PartPlan::Drop) => {}
                (Part::Fixed, _) => prop_assert!(false, "a fixed part"),
                (Part::ToolResult(_), PartPlan::Drop) => prop_assert!(message.group.is_none()),
                (Part::Text(text) | Part::ToolResult(text), PartPlan::Cut(cuts)) => {
                    let mut from = 0;
                    for cut in cuts {
                        prop_assert!(from <= cut.range.start && cut.range.start < cut.range.end);
                        prop_assert!(text.get(cut.range.clone()).is_some(), "UTF-8 is torn");
                        prop_assert!(cut.replacement.len() < cut.range.len());
                        from = cut.range.end;
                    }
                    let after = cut_text(text, cuts);
                    prop_assert!(after.len() < text.len(), "nothing saved");
                    prop_assert!(after.chars().any(|c| !c.is_whitespace()), "a blank part");
                }
            }
        }
    }
    let users = |keep: &dyn Fn(usize) -> bool| {
        messages
            .iter()
            .enumerate()
            .any(|(at, message)| message.user && keep(at))
    };
    prop_assert!(!users(&|_| true) || users(&|at| !gone[at]), "no user left");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn any_list_is_refused_or_makes_a_sound_plan(
        messages in vec(message(), 0..6),
        edits in edits(),
        tool_results in any::<bool>(),
    ) {
        let rules = Rules { max_edits: 5, max_replacement_bytes: 6, tool_results };
        match check(&shape(&messages), &edits, &rules) {
            Ok(plan) => assert_sound(&messages, &plan.messages)?,
            Err(refusal) => {
                prop_assert!((1..=7).contains(&refusal.fault.rule()));
                prop_assert!(refusal.edit.is_none_or(|edit| edit < edits.len()));
            }
        }
    }

    #[test]
    fn order_never_matters(messages in vec(message(), 1..6), edits in edits()) {
        let rules = Rules { tool_results: true, ..Rules::default() };
        let reversed: Vec<_> = edits.iter().rev().cloned().collect();
        let (one, other) = (
            check(&shape(&messages), &edits, &rules),
            check(&shape(&messages), &reversed, &rules),
        );
        prop_assert_eq!(one.ok(), other.ok());
    }
}
