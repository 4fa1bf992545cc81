//! Cuts in the client's own bytes.

use super::super::edit::cut_natively;
use super::*;

fn cut(range: Range<usize>, replacement: &str) -> Cut {
    Cut {
        range,
        replacement: replacement.to_owned(),
    }
}

fn plan(messages: Vec<MessagePlan>) -> Plan {
    Plan { messages }
}

/// One message's text with one part's cuts made.
fn cut_literal(literal: &str, cuts: Vec<Cut>) -> String {
    let request = messages(&format!(r#"[{{"role":"user","content":{literal}}}]"#));
    let plan = plan(vec![MessagePlan::Edit(vec![PartPlan::Cut(cuts)])]);
    let applied = request.apply(&plan).unwrap();
    let body = String::from_utf8(applied.body.to_vec()).unwrap();
    let body = body
        .strip_prefix(r#"{"model":"m","messages":[{"role":"user","content":"#)
        .unwrap();
    body.strip_suffix("}]}").unwrap().to_owned()
}

#[test]
fn escapes_beside_a_cut_stay() {
    // Decoded: é\n"x"😀 end
    let literal = r#""\u00e9\n\"x\"\ud83d\ude00 end""#;
    assert_eq!(
        cut_literal(literal, vec![cut(3..4, "")]),
        r#""\u00e9\nx\"\ud83d\ude00 end""#
    );
    assert_eq!(
        cut_literal(literal, vec![cut(6..10, "")]),
        r#""\u00e9\n\"x\" end""#
    );
    assert_eq!(
        cut_literal(literal, vec![cut(0..2, "\n")]),
        r#""\n\n\"x\"\ud83d\ude00 end""#
    );
    assert_eq!(
        cut_literal(
            literal,
            vec![cut(2..3, ""), cut(3..6, "\"\\"), cut(12..13, "")]
        ),
        r#""\u00e9\"\\\ud83d\ude00 ed""#
    );
}

#[test]
fn halves_that_stood_apart_do_not_become_a_pair() {
    let literal = r#""a\ud83dxy\ude00\ud83dz\n""#;
    let request = messages(&format!(r#"[{{"role":"user","content":{literal}}}]"#));
    assert_eq!(
        texts(&request.prompt.messages[0]),
        ["a\u{fffd}xy\u{fffd}\u{fffd}z\n"]
    );
    // Both characters between go, in one cut or in two that touch.
    let expected = r#""a\ufffd\ude00\ud83dz\n""#;
    assert_eq!(cut_literal(literal, vec![cut(4..6, "")]), expected);
    assert_eq!(
        cut_literal(literal, vec![cut(4..5, ""), cut(5..6, "")]),
        expected
    );
    // Something stays between them: they stay as they are.
    assert_eq!(
        cut_literal(literal, vec![cut(5..6, "")]),
        r#""a\ud83dx\ude00\ud83dz\n""#
    );
    assert_eq!(
        cut_literal(literal, vec![cut(12..13, "")]),
        r#""a\ud83dxy\ude00\ud83d\n""#
    );
}

#[test]
fn messages_and_parts_go_with_their_commas() {
    let request = messages(
        r#"[ {"role":"system","content":"s"} , {"role":"user","content":"a"}, {"role":"user","content":[ {"type":"text","text":"b"} , {"type":"image_url","image_url":{"url":"https://x/y"}}, "c" ]} ]"#,
    );
    let drop_first = plan(vec![
        MessagePlan::Drop,
        MessagePlan::Keep,
        MessagePlan::Keep,
    ]);
    assert_eq!(
        request.apply(&drop_first).unwrap().body,
        r#"{"model":"m","messages":[ {"role":"user","content":"a"}, {"role":"user","content":[ {"type":"text","text":"b"} , {"type":"image_url","image_url":{"url":"https://x/y"}}, "c" ]} ]}"#
    );
    let edited = plan(vec![
        MessagePlan::Keep,
        MessagePlan::Edit(vec![PartPlan::Drop]),
        MessagePlan::Edit(vec![PartPlan::Drop, PartPlan::Keep, PartPlan::Drop]),
    ]);
    let applied = request.apply(&edited).unwrap();
    assert_eq!(
        applied.body,
        r#"{"model":"m","messages":[ {"role":"system","content":"s"} , {"role":"user","content":[ {"type":"image_url","image_url":{"url":"https://x/y"}} ]} ]}"#
    );
    assert_eq!(applied.prompt.messages.len(), 2);
}

#[test]
fn content_that_goes_before_tool_calls_becomes_null() {
    let calls = r#""tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]"#;
    for content in [
        r#""let me see""#,
        r#"[{"type":"text","text":"let me see"}]"#,
    ] {
        let request = messages(&format!(
            r#"[{{"role":"assistant","content":{content},{calls}}}]"#
        ));
        let plan = plan(vec![MessagePlan::Edit(vec![
            PartPlan::Drop,
            PartPlan::Keep,
        ])]);
        assert_eq!(
            request.apply(&plan).unwrap().body,
            format!(
                r#"{{"model":"m","messages":[{{"role":"assistant","content":null,{calls}}}]}}"#
            )
        );
    }
}

#[test]
fn entries_of_the_extension_are_dropped_and_cut() {
    let request = chat(
        r#"{"model":"m","messages":[{"role":"user","content":"q"}],"sluicegate":{"terms":["a", {"term":"t","definition":"def"},"z"],"context":[{"text":"one\n two","id":1},"x"]}}"#,
    );
    let edited = plan(vec![
        MessagePlan::Edit(vec![
            PartPlan::Drop,
            PartPlan::Cut(vec![cut(3..5, "")]),
            PartPlan::Keep,
            PartPlan::Cut(vec![cut(4..8, "")]),
            PartPlan::Drop,
        ]),
        MessagePlan::Keep,
    ]);
    let applied = request.apply(&edited).unwrap();
    assert_eq!(
        applied.body,
        r#"{"model":"m","messages":[{"role":"user","content":"q"}],"sluicegate":{"terms":["t: f","z"],"context":[{"text":"one\n","id":1}]}}"#
    );
    assert_eq!(texts(&applied.prompt.messages[0]), ["t: f", "z", "one\n"]);
    let dropped = request
        .apply(&plan(vec![MessagePlan::Drop, MessagePlan::Keep]))
        .unwrap();
    assert_eq!(dropped.prompt.inserted, None);
    assert_eq!(
        dropped.render(&Changes::default()),
        r#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#
    );
}

#[test]
fn prompts_and_inputs_can_be_cut_but_not_dropped() {
    let body = r#"{"model":"m","input":["one two","three"]}"#;
    let request = parse(Endpoint::Embeddings, Bytes::from(body)).unwrap();
    let cut_one = vec![PartPlan::Cut(vec![cut(3..7, "")]), PartPlan::Keep];
    let applied = request
        .apply(&plan(vec![MessagePlan::Edit(cut_one)]))
        .unwrap();
    assert_eq!(applied.body, r#"{"model":"m","input":["one","three"]}"#);
    for refused in [
        MessagePlan::Drop,
        MessagePlan::Edit(vec![PartPlan::Drop, PartPlan::Keep]),
        MessagePlan::Edit(vec![PartPlan::Drop, PartPlan::Drop]),
    ] {
        assert_eq!(
            request.apply(&plan(vec![refused])).unwrap_err().code,
            "edits_refused"
        );
    }
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let request = messages(
        r#"[{"role":"user","content":["é",{"type":"image_url","image_url":{"url":"https://x/y"}}]}]"#,
    );
    let parts = |first, second| MessagePlan::Edit(vec![first, second]);
    for refused in [
        vec![MessagePlan::Drop, MessagePlan::Drop],
        vec![MessagePlan::Edit(vec![
            PartPlan::Drop,
            PartPlan::Keep,
            PartPlan::Keep,
        ])],
        vec![parts(PartPlan::Keep, PartPlan::Drop)],
        vec![parts(PartPlan::Cut(vec![cut(1..2, "")]), PartPlan::Keep)],
        vec![parts(PartPlan::Cut(vec![cut(0..3, "")]), PartPlan::Keep)],
        vec![parts(
            PartPlan::Cut(vec![cut(0..2, ""), cut(0..2, "")]),
            PartPlan::Keep,
        )],
    ] {
        assert_eq!(
            request.apply(&plan(refused)).unwrap_err().code,
            "edits_refused"
        );
    }
    let same = request.apply(&plan(vec![MessagePlan::Keep])).unwrap();
    assert_eq!(same.body.as_ptr(), request.body.as_ptr());
}

/// A literal that mixes characters and escapes.
fn literals() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        "[a-z ]{1,6}",
        "[é漢😀\u{fffd}]",
        Just(r"\n".to_owned()),
        Just(r#"\""#.to_owned()),
        Just(r"\\".to_owned()),
        Just(r"\u00e9".to_owned()),
        Just(r"\ud83d\ude00".to_owned()),
        Just(r"\ud83d".to_owned()),
        Just(r"\ude00".to_owned()),
    ];
    prop::collection::vec(unit, 0..8).prop_map(|units| format!("\"{}\"", units.concat()))
}

/// A message's content, as JSON text.
fn contents() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        literals(),
        literals().prop_map(|text| format!(r#" {{"type":"text","x":1.0,"text":{text}}} "#)),
        Just(r#"{"type":"image_url","image_url":{"url":"https://x/y"}}"#.to_owned()),
    ];
    prop_oneof![
        literals(),
        prop::collection::vec(part, 1..5).prop_map(|parts| format!("[{}]", parts.join(" ,"))),
    ]
}

fn bodies() -> impl Strategy<Value = String> {
    let role = "(system|user|assistant)";
    let message = (role, contents()).prop_map(|(role, content)| {
        format!(r#"{{"role" : "{role}","content": {content},"z":[1.0,"\u0061"]}}"#)
    });
    let term = prop_oneof![
        literals(),
        literals().prop_map(|text| format!(r#"{{"term":{text},"definition":"d"}}"#)),
    ];
    (prop::collection::vec(message, 0..6), prop::collection::vec(term, 0..4)).prop_map(
        |(messages, terms)| {
            format!(
                r#"{{"seed":12345678901234567890,"messages": [ {} ],"sluicegate":{{"terms":[{}]}},"model":"m"}}"#,
                messages.join(" , "),
                terms.join(",")
            )
        },
    )
}

/// A plan for a request, made of numbers drawn before the request was known.
fn plan_for(request: &Request, draws: &[u8]) -> Plan {
    let mut draws = draws.iter().copied().cycle();
    let mut draw = move |below: usize| usize::from(draws.next().unwrap()) % below.max(1);
    let mut messages = Vec::new();
    for (index, message) in request.prompt.messages.iter().enumerate() {
        messages.push(match draw(4) {
            // The inserted message has its place by the last user message, which is locked.
            _ if Some(index) == request.prompt.last_user => MessagePlan::Keep,
            0 => MessagePlan::Keep,
            1 => MessagePlan::Drop,
            _ => {
                let parts = message.parts.iter().map(|part| match part {
                    Part::Text(text) => match draw(4) {
                        0 => PartPlan::Keep,
                        1 => PartPlan::Drop,
                        _ => {
                            let borders: Vec<usize> =
                                text.text.char_indices().map(|(at, _)| at).collect();
                            let mut ends: Vec<usize> = (0..4)
                                .filter_map(|_| borders.get(draw(borders.len())).copied())
                                .collect();
                            ends.sort_unstable();
                            let cuts = ends.chunks_exact(2).filter(|ends| ends[0] < ends[1]);
                            let replacement = ["", "\n\"", "é"][draw(3)];
                            PartPlan::Cut(cuts.map(|e| cut(e[0]..e[1], replacement)).collect())
                        }
                    },
                    _ => PartPlan::Keep,
                });
                MessagePlan::Edit(parts.collect())
            }
        });
    }
    Plan { messages }
}

/// The texts that the plan leaves, cut natively. Whole messages that go leave none.
fn expected(request: &Request, plan: &Plan) -> Vec<Vec<String>> {
    let mut messages = Vec::new();
    for (message, plan) in request.prompt.messages.iter().zip(&plan.messages) {
        let parts: Vec<PartPlan> = match plan {
            MessagePlan::Keep => vec![PartPlan::Keep; message.parts.len()],
            MessagePlan::Drop => continue,
            MessagePlan::Edit(parts) => parts.clone(),
        };
        if !parts.is_empty() && parts.iter().all(|part| *part == PartPlan::Drop) {
            continue;
        }
        let texts =
            message
                .parts
                .iter()
                .zip(&parts)
                .filter_map(|(part, plan)| match (part, plan) {
                    (Part::Text(text), PartPlan::Keep) => Some(text.text.clone()),
                    (Part::Text(text), PartPlan::Cut(cuts)) => {
                        Some(cut_natively(&text.text, cuts).unwrap())
                    }
                    _ => None,
                });
        messages.push(texts.collect());
    }
    messages
}

/// Whether `less` is `more` with some bytes taken out and some put in, told by its longest common
/// beginning and end: what both have around the first and last change.
fn is_same_around(more: &[u8], less: &[u8], first: usize, last_from_end: usize) -> bool {
    more[..first] == less[..first]
        && more[more.len() - last_from_end..] == less[less.len() - last_from_end..]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_result_parses_and_its_texts_are_the_texts_cut_natively(
        body in bodies(),
        draws in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let request = chat(&body);
        let plan = plan_for(&request, &draws);
        let applied = request.apply(&plan).unwrap();
        let after: Vec<Vec<String>> = applied
            .prompt
            .messages
            .iter()
            .map(|message| texts(message).into_iter().map(str::to_owned).collect())
            .collect();
        let expected = expected(&request, &plan);
        prop_assert_eq!(after, expected);
        // What the upstream gets is valid as well, and as long a list.
        let rendered = applied.render(&Changes::default());
        let members = json::members(std::str::from_utf8(&rendered).unwrap()).unwrap();
        let list = json::elements(json::last(&members, "messages").unwrap()).unwrap();
        prop_assert_eq!(list.len(), applied.prompt.messages.len());
        prop_assert!(json::last(&members, "sluicegate").is_none());
    }

    #[test]
    fn bytes_outside_of_one_cut_are_the_same(
        before in literals(), literal in literals(), after in literals(),
        ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let body = format!(
            r#"{{"a":1.0,"model":"m","messages":[{{"content":{before}}},{{"content":{literal}}},{{"content":{after}}}],"b":"\u0062"}}"#
        );
        let request = chat(&body);
        let Part::Text(text) = &request.prompt.messages[1].parts[0] else { panic!("a text") };
        let borders: Vec<usize> =
            text.text.char_indices().map(|(at, _)| at).chain([text.text.len()]).collect();
        let (one, other) = (*ends.0.get(&borders), *ends.1.get(&borders));
        let range = one.min(other)..one.max(other);
        prop_assume!(!range.is_empty());
        let plan = plan(vec![
            MessagePlan::Keep,
            MessagePlan::Edit(vec![PartPlan::Cut(vec![cut(range, "")])]),
            MessagePlan::Keep,
        ]);
        let applied = request.apply(&plan).unwrap();
        let place = text.literal.clone().unwrap();
        let tail = body.len() - place.end;
        prop_assert!(is_same_around(body.as_bytes(), &applied.body, place.start, tail));
        // Inside of the literal: a beginning and an end of it, unless two halves had to be parted.
        let left = &applied.body[place.start..applied.body.len() - tail];
        let whole = literal.as_bytes();
        let head = whole.iter().zip(left).take_while(|(one, other)| one == other).count();
        let is_split = (0..=head).any(|head| whole.ends_with(&left[head..]));
        prop_assert!(is_split || left.windows(6).any(|w| w == b"\\ufffd"));
    }
}

#[test]
fn a_request_of_many_messages_is_cut_in_linear_time() {
    let list: Vec<String> = (0..5_000)
        .map(|n| json!({"role": "user", "content": format!("message \n {n}")}).to_string())
        .collect();
    let request = messages(&format!("[{}]", list.join(",")));
    let plans = (0..5_000).map(|n| {
        if n % 2 == 0 {
            MessagePlan::Drop
        } else {
            MessagePlan::Keep
        }
    });
    let started = std::time::Instant::now();
    let applied = request.apply(&plan(plans.collect())).unwrap();
    assert_eq!(applied.prompt.messages.len(), 2_500);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    let value: Value = serde_json::from_slice(&applied.body).unwrap();
    assert_eq!(value["messages"].as_array().unwrap().len(), 2_500);
}
