//! What holds for any list of edits on any request: it does what the rules say, told by a second
//! reading of them, or it is refused for a rule that it breaks.

mod drawn;
mod refusal;

use drawn::{Message, edits, messages, rules, shape, wishes};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use refusal::is_true;
use sluicegate_edits::reference::{self, Outcome};
use sluicegate_edits::{Edit, MessagePlan, PartPlan, PartShape, Plan, Rules, Shape, check};

fn assert_holds(
    messages: &[Message],
    edits: &[Edit],
    rules: &Rules,
) -> Result<bool, TestCaseError> {
    let shape = shape(messages);
    let expected = reference::apply(&shape, edits, rules);
    match (check(&shape, edits, rules), expected) {
        (Ok(plan), Ok(expected)) => {
            prop_assert_eq!(reference::outcome(&shape, &plan), expected);
            is_in_its_form(&shape, &plan)?;
            Ok(true)
        }
        (Err(refusal), Err(broken)) => {
            prop_assert!(
                broken.contains(&refusal.fault.rule()),
                "{}, not {:?}",
                refusal,
                broken
            );
            prop_assert!(
                is_true(&refusal, &shape, edits, rules),
                "not so: {}",
                refusal
            );
            Ok(false)
        }
        (Ok(plan), Err(broken)) => Err(TestCaseError::fail(format!(
            "accepted as {plan:?}, breaks the rules {broken:?}"
        ))),
        (Err(refusal), Ok(expected)) => Err(TestCaseError::fail(format!(
            "refused with `{refusal}`, should leave {expected:?}"
        ))),
    }
}

/// What [`Plan`] says of its own form, besides what it means.
fn is_in_its_form(shape: &Shape<'_>, plan: &Plan) -> TestCaseResult {
    prop_assert_eq!(shape.messages.len(), plan.messages.len());
    for (message, plan) in shape.messages.iter().zip(&plan.messages) {
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
            let PartPlan::Cut(cuts) = plan else { continue };
            let (PartShape::Text(text) | PartShape::ToolResult(text)) = part else {
                return Err(TestCaseError::fail("a fixed part is cut"));
            };
            prop_assert!(!cuts.is_empty());
            let mut from = 0;
            for cut in cuts {
                prop_assert!(from <= cut.range.start && cut.range.start < cut.range.end);
                prop_assert!(text.get(cut.range.clone()).is_some(), "UTF-8 is torn");
                from = cut.range.end;
            }
        }
    }
    Ok(())
}

/// Guards what a reading of one's own cannot tell: that both readings leave something out.
fn assert_promises(shape: &Shape<'_>, outcome: &Outcome) -> TestCaseResult {
    for (message, left) in shape.messages.iter().zip(outcome) {
        let is_whole = left
            .iter()
            .flatten()
            .all(|left| *left == reference::Left::Whole);
        prop_assert!(!message.locked || left.is_some() && is_whole, "locked");
        for (other, other_left) in shape.messages.iter().zip(outcome) {
            let is_mate = message.group.is_some() && message.group == other.group;
            prop_assert!(
                !is_mate || left.is_some() == other_left.is_some(),
                "a torn group"
            );
        }
        for (left, part) in left.iter().flatten().zip(&message.parts) {
            match (left, part) {
                (reference::Left::Whole, _) => {}
                (_, PartShape::Fixed) => prop_assert!(false, "a fixed part"),
                (reference::Left::Text(new), PartShape::Text(old) | PartShape::ToolResult(old)) => {
                    prop_assert!(new.len() < old.len(), "nothing saved");
                    prop_assert!(new.chars().any(|c| !c.is_whitespace()), "a blank part");
                }
                (reference::Left::Nothing, PartShape::ToolResult(_)) => {
                    prop_assert!(message.group.is_none(), "a result without its call");
                }
                (reference::Left::Nothing, PartShape::Text(_)) => {}
            }
        }
    }
    let users = |is_left: bool| {
        let messages = shape.messages.iter().zip(outcome);
        messages
            .filter(|(message, left)| message.user && (!is_left || left.is_some()))
            .count()
    };
    prop_assert!(users(false) == 0 || users(true) > 0, "no user left");
    Ok(())
}

#[test]
fn any_list_does_what_the_rules_say_or_is_refused_for_a_rule_that_it_breaks() {
    const CASES: u32 = 20_000;
    let accepted = std::cell::Cell::new(0_u32);
    let config = ProptestConfig {
        cases: CASES,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let drawn = (messages(), wishes(), rules());
    TestRunner::new(config)
        .run(&drawn, |(messages, wishes, rules)| {
            let edits = edits(&wishes, &messages);
            let is_accepted = assert_holds(&messages, &edits, &rules)?;
            accepted.set(accepted.get() + u32::from(is_accepted && !edits.is_empty()));
            Ok(())
        })
        .unwrap();
    // A generator whose lists all fail would prove nothing of those that pass, and the reverse.
    assert!(
        (CASES / 5..CASES / 5 * 4).contains(&accepted.get()),
        "{accepted:?} of {CASES}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_keeps_every_promise(
        messages in messages(), wishes in wishes(), rules in rules(),
    ) {
        let edits = edits(&wishes, &messages);
        let shape = shape(&messages);
        if let Ok(plan) = check(&shape, &edits, &rules) {
            assert_promises(&shape, &reference::outcome(&shape, &plan))?;
        }
    }

    #[test]
    fn order_never_matters(messages in messages(), wishes in wishes()) {
        let rules = Rules { tool_results: true, ..Rules::default() };
        let edits = edits(&wishes, &messages);
        let reversed: Vec<_> = edits.iter().rev().cloned().collect();
        let (one, other) = (
            check(&shape(&messages), &edits, &rules),
            check(&shape(&messages), &reversed, &rules),
        );
        prop_assert_eq!(one.ok(), other.ok());
    }
}
