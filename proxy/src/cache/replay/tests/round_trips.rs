//! Any answer, plain and as a stream of any cut: the one makes the other, and back.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Map;

use super::*;

/// What models write: escapes, and characters of every length.
fn text() -> impl Strategy<Value = String> {
    "[a-z \"\\\\\n\u{e9}\u{4e2d}\u{1f600}]{1,12}"
}

/// An object of those fields that are there.
fn object(fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let there = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(there.collect::<Map<_, _>>())
}

fn call() -> impl Strategy<Value = Value> {
    ("[a-z0-9]{3}", "[a-z]{1,5}", text()).prop_map(|(id, name, arguments)| {
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
    })
}

fn message() -> impl Strategy<Value = Value> {
    (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        vec(call(), 0..3),
        option::of((text(), 0..99_u32)),
    )
        .prop_map(|(content, reasoning, refusal, calls, audio)| {
            object([
                ("role", Some(json!("assistant"))),
                ("reasoning_content", reasoning.map(Value::from)),
                ("content", Some(content.map_or(Value::Null, Value::from))),
                ("refusal", refusal.map(Value::from)),
                ("tool_calls", (!calls.is_empty()).then(|| calls.into())),
                (
                    "audio",
                    audio.map(|(data, until)| json!({"data": data, "expires_at": until})),
                ),
            ])
        })
}

/// Tokens with their probabilities, as a list of this name.
fn logprobs(name: &'static str) -> impl Strategy<Value = Option<Value>> {
    let token = (text(), -99..0_i32).prop_map(|(token, logprob)| json!([token, logprob]));
    option::of(vec(token, 1..4)).prop_map(move |tokens| Some(json!({name: tokens?})))
}

/// What a choice says besides its text.
fn ending() -> impl Strategy<Value = Vec<(&'static str, Option<Value>)>> {
    (
        option::of(vec(0..50_000_u32, 1..5)),
        select(vec!["stop", "length", "tool_calls"]),
        option::of(0..9_u32),
    )
        .prop_map(|(tokens, finish, stop)| {
            vec![
                ("token_ids", tokens.map(Value::from)),
                ("finish_reason", Some(finish.into())),
                ("stop_reason", stop.map(Value::from)),
            ]
        })
}

/// A choice without its index.
fn choice(endpoint: Endpoint) -> BoxedStrategy<Value> {
    let parts = match endpoint {
        Endpoint::Chat => (message().boxed(), logprobs("content").boxed(), "message"),
        _ => (
            text().prop_map(Value::from).boxed(),
            logprobs("tokens").boxed(),
            "text",
        ),
    };
    let (said, logprobs, name) = parts;
    (said, logprobs, ending())
        .prop_map(move |(said, logprobs, ending)| {
            object(
                [(name, Some(said)), ("logprobs", logprobs)]
                    .into_iter()
                    .chain(ending),
            )
        })
        .boxed()
}

fn answer(endpoint: Endpoint) -> impl Strategy<Value = Value> {
    let usage = option::of(Just(
        json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
    ));
    (vec(choice(endpoint), 1..4), usage).prop_map(move |(mut choices, usage)| {
        for (index, choice) in choices.iter_mut().enumerate() {
            choice["index"] = index.into();
        }
        object([
            ("id", Some(json!("x-1"))),
            (
                "object",
                Some(serde_json::from_str(object_name(endpoint, false)).unwrap()),
            ),
            ("created", Some(json!(1_700_000_000))),
            ("choices", Some(choices.into())),
            ("usage", usage),
        ])
    })
}

/// Cuts a text, or a list, into pieces of at most `most`.
fn pieces(value: &Value, most: usize) -> Vec<Value> {
    match value {
        Value::String(text) => {
            let characters: Vec<char> = text.chars().collect();
            let pieces = characters.chunks(most);
            pieces
                .map(|piece| piece.iter().collect::<String>().into())
                .collect()
        }
        Value::Array(list) => list
            .chunks(most)
            .map(|piece| piece.to_vec().into())
            .collect(),
        other => vec![other.clone()],
    }
}

/// The deltas that a server makes of a message.
fn deltas(message: &Value, most: usize) -> Vec<Value> {
    let mut deltas = vec![json!({"role": "assistant"})];
    for (name, value) in message.as_object().unwrap() {
        match name.as_str() {
            "role" => {}
            "tool_calls" => {
                for (index, call) in value.as_array().unwrap().iter().enumerate() {
                    let mut begin = call.clone();
                    begin["function"]["arguments"] = "".into();
                    begin["index"] = index.into();
                    deltas.push(json!({"tool_calls": [begin]}));
                    for piece in pieces(&call["function"]["arguments"], most) {
                        let more = json!({"index": index, "function": {"arguments": piece}});
                        deltas.push(json!({"tool_calls": [more]}));
                    }
                }
            }
            "audio" => {
                let begun = pieces(&value["data"], most).into_iter();
                deltas.extend(begun.map(|piece| json!({"audio": {"data": piece}})));
                deltas.push(json!({"audio": {"expires_at": value["expires_at"]}}));
            }
            name => deltas.extend(
                pieces(value, most)
                    .into_iter()
                    .map(|piece| json!({name: piece})),
            ),
        }
    }
    deltas
}

/// The chunks' choices that a server makes of a choice, in order.
fn cut(choice: &Value, most: usize) -> Vec<Value> {
    let mut chunks = Vec::new();
    let mut chunk = |field: &str, value: Value| {
        let mut chunk = json!({"index": choice["index"], "delta": {}, "finish_reason": null});
        chunk[field] = value;
        chunks.push(chunk);
    };
    for (name, value) in choice.as_object().unwrap() {
        match name.as_str() {
            "index" => {}
            "message" => {
                for delta in deltas(value, most) {
                    chunk("delta", delta);
                }
            }
            "logprobs" => {
                for (list, tokens) in value.as_object().unwrap() {
                    for piece in pieces(tokens, most) {
                        chunk("logprobs", json!({list: piece}));
                    }
                }
            }
            "text" | "token_ids" => {
                for piece in pieces(value, most) {
                    chunk(name, piece);
                }
            }
            name => chunk(name, value.clone()),
        }
    }
    if choice.get("message").is_none() {
        for chunk in &mut chunks {
            chunk.as_object_mut().unwrap().remove("delta");
        }
    }
    chunks
}

/// The answer as a server might have streamed it: its choices in any order, each in its own.
fn streamed(answer: &Value, most: usize, order: &[Index]) -> Vec<Bytes> {
    let mut waiting: Vec<_> = answer["choices"].as_array().unwrap().iter().collect();
    let mut waiting: Vec<_> = waiting
        .drain(..)
        .map(|one| cut(one, most).into_iter())
        .collect();
    let mut events = Vec::new();
    let mut order = order.iter().cycle();
    let mut push = |choices: Value, usage: Option<&Value>| {
        let mut chunk = answer.clone();
        let fields = chunk.as_object_mut().unwrap();
        fields.remove("usage");
        fields.insert("object".into(), "chunk".into());
        fields.insert("choices".into(), choices);
        fields.extend(usage.map(|usage| ("usage".to_owned(), usage.clone())));
        events.push(Bytes::from(format!("data: {chunk}\n\n")));
    };
    while !waiting.is_empty() {
        let next = order.next().map_or(0, |index| index.index(waiting.len()));
        match waiting[next].next() {
            Some(choice) => push(json!([choice]), None),
            None => drop(waiting.remove(next)),
        }
    }
    if let Some(usage) = answer.get("usage") {
        push(json!([]), Some(usage));
    }
    events.push(Bytes::from_static(DONE));
    events
}

fn read_plain(stored: &Stored) -> Value {
    serde_json::from_slice(&plain(stored)).unwrap()
}

fn endpoints() -> impl Strategy<Value = (Endpoint, Value)> {
    select(vec![Endpoint::Chat, Endpoint::Completions])
        .prop_flat_map(|endpoint| answer(endpoint).prop_map(move |answer| (endpoint, answer)))
}

proptest! {
    #[test]
    fn a_plain_answer_is_the_same_after_a_stream((endpoint, answer) in endpoints()) {
        let there = stream(&body(endpoint, &answer.to_string(), None), true);
        let back = stored(endpoint, StoredBody::Events(there), None);
        prop_assert_eq!(read_plain(&back), answer);
    }

    #[test]
    fn a_stream_is_the_plain_answer_however_it_was_cut(
        (endpoint, answer) in endpoints(),
        most in 1..5_usize,
        order in vec(any::<Index>(), 1..20),
    ) {
        let events = streamed(&answer, most, &order);
        let joined = stored(endpoint, StoredBody::Events(events), None);
        prop_assert_eq!(read_plain(&joined), answer);
    }

    #[test]
    fn a_stream_made_of_a_stream_says_the_same(
        (endpoint, answer) in endpoints(),
        most in 1..5_usize,
        order in vec(any::<Index>(), 1..20),
    ) {
        let events = streamed(&answer, most, &order);
        let once = plain(&stored(endpoint, StoredBody::Events(events), None));
        let again = stream(&stored(endpoint, StoredBody::Plain(once), None), true);
        let twice = stored(endpoint, StoredBody::Events(again), None);
        prop_assert_eq!(read_plain(&twice), answer);
    }
}
