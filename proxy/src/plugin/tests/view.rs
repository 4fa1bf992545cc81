//! Whatever a client writes, what a plugin is shown keeps the bounds that the contract names.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::api::request;
use crate::config::TextWindow;
use crate::plugin::host::v0_1::types as contract;
use crate::plugin::types::PluginInfo;
use crate::plugin::view::{Selection, ViewRules, select as choose, with_request};

/// A text of about so many bytes, with characters of every length.
fn long(bytes: usize) -> String {
    "aé你😀"
        .chars()
        .cycle()
        .scan(0, |size, c| {
            *size += c.len_utf8();
            (*size <= bytes).then_some(c)
        })
        .collect()
}

/// Mostly short, now and then around or beyond every bound of a name.
fn name() -> impl Strategy<Value = Value> {
    let bytes = prop_oneof![3 => 0_usize..6, 1 => 30_usize..36, 2 => 60_usize..300];
    bytes.prop_map(|bytes| long(bytes).into())
}

fn text_of_any_size() -> impl Strategy<Value = Value> {
    prop_oneof![4 => 0_usize..40, 1 => 200_usize..3_000].prop_map(|bytes| long(bytes).into())
}

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text_of_any_size().prop_map(|text| json!({"type": "text", "text": text})),
        1 => name().prop_map(|kind| json!({"type": kind})),
        1 => (name(), name()).prop_map(|(host, kind)| {
            let host = host.as_str().unwrap().replace(|c: char| !c.is_ascii(), "x");
            let kind = kind.as_str().unwrap();
            select_one(host.len(), [
                json!({"type": "image_url", "image_url": {"url": format!("https://{host}/x")}}),
                json!({"type": "image_url", "image_url": {"url": format!("data:IMAGE/{kind};base64,QUJD")}}),
            ])
        }),
        1 => (name(), name()).prop_map(|(file, format)| select_one(file.as_str().unwrap().len(), [
            json!({"type": "file", "file": {"filename": file.clone(), "file_data": "QUJD"}}),
            json!({"type": "input_audio", "input_audio": {"data": "QUJD", "format": format}}),
        ])),
    ]
}

fn select_one(by: usize, [even, odd]: [Value; 2]) -> Value {
    if by.is_multiple_of(2) { even } else { odd }
}

fn message() -> impl Strategy<Value = Value> {
    let roles = vec!["system", "developer", "user", "assistant", "tool", "critic"];
    let parts = prop_oneof![20 => vec(part(), 0..4), 1 => vec(Just(json!("x")), 1_020..1_030)];
    (select(roles), parts, name(), name()).prop_map(|(role, parts, id, tool)| {
        json!({
            "role": role, "content": parts, "tool_call_id": id, "name": tool,
            "tool_calls": [{"id": id, "function": {"name": tool, "arguments": "{}"}}],
        })
    })
}

fn body() -> impl Strategy<Value = Value> {
    let tool = || name().prop_map(|name| json!({"type": "function", "function": {"name": name}}));
    let numbers = vec![
        json!(-1e300),
        json!(-0.5),
        json!(0),
        json!(1.5),
        json!(2),
        json!(1e300),
        json!("0.5"),
    ];
    let numbers = select(numbers);
    (
        vec(message(), 0..90),
        prop_oneof![3 => vec(tool(), 0..4), 1 => vec(tool(), 250..260)],
        (1_usize..257).prop_map(long),
        (numbers.clone(), numbers),
        name(),
    )
        .prop_map(|(messages, tools, model, (temperature, top_p), effort)| {
            let model = if model.is_empty() {
                "m".to_owned()
            } else {
                model
            };
            json!({
                "model": model, "messages": messages, "tools": tools, "temperature": temperature,
                "top_p": top_p, "max_tokens": 1e300, "n": 1e300, "reasoning_effort": effort,
                "sluicegate": {"terms": [effort.clone()]},
            })
        })
}

/// A slot's rules, and the names of the headers that it grants.
fn rules() -> impl Strategy<Value = ViewRules> {
    let window = prop_oneof![
        Just(TextWindow::All),
        Just(TextWindow::Nothing),
        (0_u32..50, 0_u32..50).prop_map(|(head, tail)| TextWindow::Window { head, tail }),
    ];
    let most = prop_oneof![Just(4_096_u32), 0_u32..100];
    let drawn = (option::of(0_u32..10), most, window, any::<bool>());
    drawn.prop_map(|(last_messages, max_messages, window, edit_last_user)| {
        let mut slot = slot(Path::new("unused"));
        slot.last_messages = last_messages;
        slot.max_messages = max_messages;
        slot.text = Some(window);
        slot.edit_last_user = edit_last_user;
        slot.headers = ["x-a", "x-b"].map(|name| name.parse().unwrap()).into();
        ViewRules::new(
            Arc::new(slot),
            &PluginInfo {
                name: "p".to_owned(),
                version: "1".to_owned(),
                description: String::new(),
                config_schema: String::new(),
                wants_clock: false,
                headers: Vec::new(),
                last_messages: None,
                text: TextWindow::All,
                metrics: Vec::new(),
            },
        )
    })
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let value = prop_oneof![
        4 => "[ a-z]{0,9}".prop_map(String::into_bytes),
        1 => (1_000_usize..1_100).prop_map(|bytes| long(bytes).into_bytes()),
        1 => Just(vec![0xff, b'a']),
    ];
    vec((select(vec!["x-a", "X-B", "x-secret"]), value), 0..45).prop_map(|list| {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, http::HeaderValue::from_bytes(&value).unwrap());
        }
        headers
    })
}

/// Checks a request against the words of `types.wit`.
fn assert_within_bounds(
    request: &contract::Request<'_>,
    prompt: &Prompt,
    selection: &Selection,
    rules: &ViewRules,
) {
    let is_name = |text: &str, most| (1..=most).contains(&text.len());
    assert!(is_name(request.model, 256), "{:?}", request.model);
    let slot = rules.slot();
    assert!(request.messages.len() <= usize::try_from(slot.max_messages.min(4_096)).unwrap());
    assert_eq!(
        usize::try_from(request.message_count),
        Ok(prompt.messages.len())
    );
    let places = request.messages.iter().map(|message| message.index);
    let places: Vec<usize> = places
        .map(|place| usize::try_from(place).unwrap())
        .collect();
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
    let users = (0..)
        .zip(request.messages)
        .filter(|(_, it)| it.role == contract::Role::User);
    assert_eq!(request.last_user, users.map(|(at, _)| at).last());
    assert!(request.tools.len() <= 256);
    assert!(
        request.tools.iter().all(|tool| is_name(tool, 128)),
        "{:?}",
        request.tools
    );
    assert!(request.headers.len() <= 32);
    for header in request.headers {
        assert!(["x-a", "x-b"].contains(&header.name), "{}", header.name);
        assert!(header.value.len() <= 1_024 && header.value.trim_start() == header.value);
    }
    let parameters = &request.parameters;
    assert!(
        parameters
            .temperature
            .is_none_or(|it| (0.0..=2.0).contains(&it)),
        "{parameters:?}"
    );
    assert!(
        parameters.top_p.is_none_or(|it| (0.0..=1.0).contains(&it)),
        "{parameters:?}"
    );
    assert!(
        parameters
            .reasoning_effort
            .is_none_or(|effort| effort.len() <= 32)
    );

    let mut shown = 0;
    for (message, place) in request.messages.iter().zip(places) {
        let whole = &prompt.messages[place];
        assert!(message.parts.len() == whole.parts.len().min(1_024));
        let is_last_user = prompt.last_user == Some(place);
        assert_eq!(message.locked, is_last_user && !slot.edit_last_user);
        for (part, whole) in message.parts.iter().zip(&whole.parts) {
            shown += assert_part_within_bounds(part, whole, slot);
        }
    }
    assert_eq!(shown, selection.shown_bytes);
}

/// The same for one part; gives the bytes of text that it shows.
fn assert_part_within_bounds(part: &contract::Part<'_>, whole: &Part, slot: &Slot) -> usize {
    match (part, whole) {
        (contract::Part::Text(text), Part::Text(whole)) => {
            assert_text_within_bounds(text, &whole.text, slot)
        }
        (contract::Part::ToolResult(result), Part::ToolResult(whole)) => {
            assert!(result.id.len() <= 128 && result.name.len() <= 128);
            assert_text_within_bounds(&result.content, &whole.content.text, slot)
        }
        (contract::Part::ToolCall(call), Part::ToolCall(_)) => {
            assert!(call.id.len() <= 128 && call.name.len() <= 128);
            0
        }
        (contract::Part::Image(media), Part::Image(_))
        | (contract::Part::Audio(media), Part::Audio(_))
        | (contract::Part::Video(media), Part::Video(_))
        | (contract::Part::File(media), Part::File(_)) => {
            let is_type = |name: &str| name.len() <= 128 && name == name.to_ascii_lowercase();
            assert!(
                media.media_type.is_none_or(is_type),
                "{:?}",
                media.media_type
            );
            assert!(
                media.name.is_none_or(|name| name.len() <= 256),
                "{:?}",
                media.name
            );
            0
        }
        (contract::Part::Other(name), Part::Other(_)) => {
            assert!(name.len() <= 64, "{name}");
            0
        }
        (shown, whole) => panic!("{whole:?} is shown as {shown:?}"),
    }
}

fn assert_text_within_bounds(text: &contract::Text<'_>, whole: &str, slot: &Slot) -> usize {
    assert_eq!(usize::try_from(text.size), Ok(whole.len()));
    assert!(whole.starts_with(text.head));
    let tail = text.tail.unwrap_or_default();
    assert!(whole.ends_with(tail) && text.head.len() + tail.len() <= whole.len());
    match slot.text {
        Some(TextWindow::Nothing) => assert_eq!((text.head, text.tail), ("", None)),
        Some(TextWindow::Window { head, tail: most }) => {
            let bound = |bytes: u32| usize::try_from(bytes).unwrap();
            let is_whole = text.head.len() == whole.len();
            assert!(is_whole && text.tail.is_none() || text.head.len() <= bound(head));
            assert!(text.head.len() + tail.len() <= bound(head) + bound(most));
        }
        Some(TextWindow::All) | None => assert_eq!((text.head, text.tail), (whole, None)),
    }
    text.head.len() + tail.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_shown_keeps_every_bound_of_the_contract(
        body in body(), rules in rules(), headers in headers(), tenant in 1_usize..300,
    ) {
        let parsed = request::parse(Endpoint::Chat, Bytes::from(body.to_string())).unwrap();
        let prompt = &parsed.prompt;
        let tenant = long(tenant) + "t";
        let cx = CallContext { tenant: &tenant, session: Some(&tenant), ..context(prompt, &headers) };
        let selection = choose(prompt, &rules);
        with_request(&cx, &selection, &rules, |request| {
            assert_within_bounds(&request, prompt, &selection, &rules);
            prop_assert!((1..=128).contains(&request.tenant.len()));
            prop_assert!(request.session.is_some_and(|session| (1..=128).contains(&session.len())));
            Ok(())
        })?;
    }
}
