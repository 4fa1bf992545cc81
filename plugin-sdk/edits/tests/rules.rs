//! One test per promise of the rules, with the words that an author reads.

use sluicegate_edits::{
    Change, Cut, Edit, Kind, MessagePlan, MessageShape, PartPlan, PartShape, Plan, Reason, Refusal,
    Rules, Shape, check, cut_text,
};

/// 0 system, 1 user (text, image), 2 assistant (text, tool call) and 3 its result, 4 a user message
/// of two texts, 5 the locked question.
fn shape() -> Shape<'static> {
    let message = |user, group, parts: &[PartShape<'static>]| MessageShape {
        locked: false,
        group,
        user,
        parts: parts.to_vec(),
    };
    let mut question = message(true, None, &[PartShape::Text("what is new?")]);
    question.locked = true;
    Shape {
        messages: vec![
            message(
                false,
                None,
                &[PartShape::Text("Be brief. Soyez bref, été comme hiver.")],
            ),
            message(true, None, &[PartShape::Text("look"), PartShape::Fixed]),
            message(
                false,
                Some(7),
                &[PartShape::Text("one moment"), PartShape::Fixed],
            ),
            message(
                false,
                Some(7),
                &[PartShape::ToolResult("42 rows, all of them old")],
            ),
            message(
                true,
                None,
                &[PartShape::Text("first"), PartShape::Text("second")],
            ),
            question,
        ],
    }
}

fn edit(change: Change) -> Edit {
    Edit {
        change,
        kind: Kind::Other,
        reason: Reason::Irrelevant,
    }
}

fn drop_span(message: u32, part: u32, start: u32, end: u32) -> Change {
    Change::DropSpan {
        message,
        part,
        start,
        end,
    }
}

fn replace(message: u32, part: u32, start: u32, end: u32, text: &str) -> Change {
    Change::ReplaceSpan {
        message,
        part,
        start,
        end,
        text: text.to_owned(),
    }
}

fn run_with(rules: &Rules, changes: &[Change]) -> Result<Plan, Refusal> {
    let edits: Vec<_> = changes.iter().cloned().map(edit).collect();
    check(&shape(), &edits, rules)
}

fn run(changes: &[Change]) -> Result<Plan, Refusal> {
    run_with(&Rules::default(), changes)
}

fn refusal(changes: &[Change]) -> String {
    run(changes)
        .expect_err("the list breaks a rule")
        .to_string()
}

#[test]
fn no_edits_change_nothing() {
    let plan = run(&[]).unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.messages.len(), 6);
}

#[test]
fn order_of_edits_means_nothing() {
    let (a, b) = (drop_span(0, 0, 10, 22), drop_span(0, 0, 0, 10));
    assert_eq!(run(&[a.clone(), b.clone()]).unwrap(), run(&[b, a]).unwrap());
}

#[test]
fn touching_spans_are_cut_in_order() {
    let plan = run(&[replace(0, 0, 9, 22, " "), drop_span(0, 0, 0, 9)]).unwrap();
    let MessagePlan::Edit(parts) = &plan.messages[0] else {
        panic!("{plan:?}")
    };
    let PartPlan::Cut(cuts) = &parts[0] else {
        panic!("{plan:?}")
    };
    assert_eq!(
        cuts,
        &[
            Cut {
                range: 0..9,
                replacement: String::new()
            },
            Cut {
                range: 9..22,
                replacement: " ".to_owned()
            },
        ]
    );
    assert_eq!(
        cut_text("Be brief. Soyez bref, été comme hiver.", cuts),
        " été comme hiver."
    );
}

#[test]
fn amounts_are_bounded() {
    let rules = Rules {
        max_edits: 1,
        max_replacement_bytes: 3,
        tool_results: false,
    };
    let two = [drop_span(0, 0, 0, 1), drop_span(0, 0, 1, 2)];
    assert_eq!(
        run_with(&rules, &two).unwrap_err().to_string(),
        "2 edits are more than 1 (rule 1)"
    );
    assert!(run_with(&rules, &[replace(0, 0, 0, 9, "abc")]).is_ok());
    assert_eq!(
        run_with(&rules, &[replace(0, 0, 0, 9, "abcd")])
            .unwrap_err()
            .to_string(),
        "the replacements have more than 3 bytes in all (rule 1)"
    );
}

#[test]
fn addresses_must_exist() {
    assert_eq!(
        refusal(&[Change::DropMessage(6)]),
        "edit 0: no message 6: the request has 6 (rule 2)"
    );
    assert_eq!(
        refusal(&[Change::DropPart {
            message: 4,
            part: 2
        }]),
        "edit 0: no part 2 in message 4: it has 2 (rule 2)"
    );
    assert_eq!(
        refusal(&[drop_span(4, 0, 2, 2)]),
        "edit 0: the span 2..2 is empty (rule 2)"
    );
    assert_eq!(
        refusal(&[drop_span(4, 0, 3, 2)]),
        "edit 0: the span 3..2 is empty (rule 2)"
    );
    assert_eq!(
        refusal(&[drop_span(4, 0, 0, u32::MAX)]),
        "edit 0: the span ends at byte 4294967295, the text at 5 (rule 2)"
    );
    assert!(run(&[drop_span(4, 0, 1, 5)]).is_ok());
}

#[test]
fn spans_begin_and_end_between_characters() {
    // `é` takes the bytes 22 and 23.
    assert_eq!(
        refusal(&[drop_span(0, 0, 23, 24)]),
        "edit 0: byte 23 lies within a character (rule 2)"
    );
    assert_eq!(
        refusal(&[drop_span(0, 0, 20, 23)]),
        "edit 0: byte 23 lies within a character (rule 2)"
    );
    assert!(run(&[drop_span(0, 0, 22, 24)]).is_ok());
}

#[test]
fn what_is_locked_or_not_text_stays() {
    assert_eq!(
        refusal(&[Change::DropMessage(5)]),
        "edit 0: message 5 is locked (rule 3)"
    );
    assert_eq!(
        refusal(&[drop_span(5, 0, 0, 1)]),
        "edit 0: message 5 is locked (rule 3)"
    );
    assert_eq!(
        refusal(&[Change::DropPart {
            message: 1,
            part: 1
        }]),
        "edit 0: part 1 of message 1 is neither text nor a tool result (rule 3)"
    );
    assert_eq!(
        refusal(&[drop_span(3, 0, 0, 2)]),
        "edit 0: message 3: the slot does not allow edits of tool results (rule 3)"
    );
    assert!(
        run(&[Change::DropMessage(1)]).is_ok(),
        "a whole message takes its picture along"
    );
}

#[test]
fn edits_must_not_meet() {
    let part = Change::DropPart {
        message: 4,
        part: 0,
    };
    for (one, other) in [
        (Change::DropMessage(4), Change::DropMessage(4)),
        (Change::DropMessage(4), part.clone()),
        (Change::DropMessage(4), drop_span(4, 1, 0, 1)),
        (part.clone(), part.clone()),
        (part, drop_span(4, 0, 0, 1)),
        (drop_span(4, 0, 0, 2), drop_span(4, 0, 1, 3)),
        (drop_span(4, 0, 0, 4), replace(4, 0, 1, 3, "")),
        (drop_span(4, 0, 0, 2), drop_span(4, 0, 0, 2)),
    ] {
        for pair in [[one.clone(), other.clone()], [other, one]] {
            assert_eq!(refusal(&pair), "edit 1: meets edit 0 (rule 4)", "{pair:?}");
        }
    }
}

#[test]
fn a_far_drop_meets_a_span_behind_other_edits() {
    let changes = [
        drop_span(4, 1, 0, 1),
        drop_span(4, 1, 2, 3),
        Change::DropPart {
            message: 4,
            part: 1,
        },
    ];
    assert_eq!(refusal(&changes), "edit 2: meets edit 0 (rule 4)");
}

#[test]
fn a_group_goes_whole_or_stays_whole() {
    let torn = "group 7 would go in part; it goes whole or stays whole (rule 5)";
    assert_eq!(
        refusal(&[Change::DropMessage(2)]),
        format!("edit 0: {torn}")
    );
    assert_eq!(
        refusal(&[Change::DropMessage(3)]),
        format!("edit 0: {torn}")
    );
    let whole = run(&[Change::DropMessage(3), Change::DropMessage(2)]).unwrap();
    assert_eq!(whole.messages[2..4], [MessagePlan::Drop, MessagePlan::Drop]);
    assert!(
        run(&[drop_span(2, 0, 0, 4)]).is_ok(),
        "a text beside a call may be cut"
    );
}

#[test]
fn a_tool_result_emptied_by_spans_counts_as_gone() {
    let rules = Rules {
        tool_results: true,
        ..Rules::default()
    };
    assert!(run_with(&rules, &[drop_span(3, 0, 0, 8)]).is_ok());
    let emptied = [drop_span(3, 0, 0, 8), drop_span(3, 0, 8, 24)];
    assert!(
        run_with(&rules, &emptied)
            .unwrap_err()
            .to_string()
            .contains("group 7")
    );
    let with_its_call = [drop_span(3, 0, 0, 24), Change::DropMessage(2)];
    let plan = run_with(&rules, &with_its_call).unwrap();
    assert_eq!(plan.messages[2..4], [MessagePlan::Drop, MessagePlan::Drop]);
}

#[test]
fn one_of_several_results_in_a_message_cannot_go_alone() {
    let shape = Shape {
        messages: vec![
            MessageShape {
                locked: false,
                group: Some(1),
                user: false,
                parts: vec![PartShape::Fixed, PartShape::Fixed],
            },
            MessageShape {
                locked: false,
                group: Some(1),
                user: true,
                parts: vec![PartShape::ToolResult("a"), PartShape::ToolResult("b")],
            },
        ],
    };
    let rules = Rules {
        tool_results: true,
        ..Rules::default()
    };
    let one = [edit(Change::DropPart {
        message: 1,
        part: 0,
    })];
    let refusal = check(&shape, &one, &rules).unwrap_err();
    assert_eq!(refusal.fault.rule(), 5);
}

#[test]
fn replacements_are_shorter_and_plain() {
    assert_eq!(
        refusal(&[replace(4, 0, 0, 5, "12345")]),
        "edit 0: 5 bytes do not replace 5 bytes by fewer (rule 6)"
    );
    assert_eq!(
        refusal(&[replace(4, 0, 0, 5, "a\u{1b}b")]),
        "edit 0: the replacement holds the control character '\\u{1b}' (rule 6)"
    );
    assert!(run(&[replace(4, 0, 0, 5, "a\tb\n")]).is_ok());
}

#[test]
fn what_is_left_blank_goes() {
    let plan = run(&[drop_span(4, 0, 0, 5)]).unwrap();
    assert_eq!(
        plan.messages[4],
        MessagePlan::Edit(vec![PartPlan::Drop, PartPlan::Keep])
    );
    let plan = run(&[drop_span(4, 0, 0, 5), replace(4, 1, 0, 6, " \n")]).unwrap();
    assert_eq!(plan.messages[4], MessagePlan::Drop);
    let plan = run(&[drop_span(1, 0, 0, 4)]).unwrap();
    assert_eq!(
        plan.messages[1],
        MessagePlan::Edit(vec![PartPlan::Drop, PartPlan::Keep]),
        "the picture keeps its message"
    );
}

#[test]
fn a_user_message_must_stay() {
    let lone = |locked| Shape {
        messages: vec![
            MessageShape {
                locked: true,
                group: None,
                user: false,
                parts: vec![PartShape::Text("rules")],
            },
            MessageShape {
                locked,
                group: None,
                user: true,
                parts: vec![PartShape::Text("hello")],
            },
        ],
    };
    let edits = [edit(drop_span(1, 0, 0, 5))];
    let refused = check(&lone(false), &edits, &Rules::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no user message would be left (rule 7)"
    );
    assert!(
        run(&[Change::DropMessage(1), Change::DropMessage(4)]).is_ok(),
        "one is left"
    );
}
