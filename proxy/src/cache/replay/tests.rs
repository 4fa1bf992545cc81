use super::*;
use serde_json::{Value, json};
use std::time::SystemTime;

mod round_trips;

fn stored(endpoint: Endpoint, body: StoredBody, usage: Option<Usage>) -> Stored {
    Stored {
        endpoint,
        body,
        model: "m".into(),
        created: SystemTime::UNIX_EPOCH,
        content_type: "x".into(),
        usage,
    }
}

fn events(endpoint: Endpoint, data: &[&str], usage: Option<Usage>) -> Stored {
    let events = data
        .iter()
        .map(|data| Bytes::from(format!("data: {data}\n\n")))
        .collect();
    stored(endpoint, StoredBody::Events(events), usage)
}

fn body(endpoint: Endpoint, body: &str, usage: Option<Usage>) -> Stored {
    stored(
        endpoint,
        StoredBody::Plain(Bytes::copy_from_slice(body.as_bytes())),
        usage,
    )
}

/// A stream's data as JSON, `[DONE]` checked and left out.
fn read(events: &[Bytes]) -> Vec<Value> {
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done, "data: [DONE]\n\n");
    chunks
        .iter()
        .map(|event| serde_json::from_slice(&data(event)).unwrap())
        .collect()
}

const USAGE: Option<Usage> = Some(Usage {
    prompt: 7,
    completion: 2,
});
const FIRST: &str = r#"{"id":"c-1","object":"chat.completion.chunk","created":17,"model":"m-1","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#;
const SECOND: &str = r#"{"id":"c-1","object":"chat.completion.chunk","created":17,"model":"m-1","choices":[{"index":0,"delta":{"content":"h\u00e9"},"logprobs":{"content":[{"token":"h","logprob":-0.10}],"refusal":null},"finish_reason":null}]}"#;
const THIRD: &str = r#"{"id":"c-1","object":"chat.completion.chunk","created":17,"model":"m-1","choices":[{"index":0,"delta":{"content":"llo"},"logprobs":{"content":[{"token":"llo","logprob":-1e-7}],"refusal":null},"finish_reason":"stop","stop_reason":null}]}"#;
const TOLD: &str = r#"{"id":"c-1","object":"chat.completion.chunk","created":17,"model":"m-1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}}"#;

#[test]
fn a_stored_stream_leaves_event_by_event_as_it_came() {
    let stored = events(Endpoint::Chat, &[FIRST, SECOND, THIRD, "[DONE]"], None);
    let StoredBody::Events(kept) = &stored.body else {
        panic!("a stream")
    };
    let replayed = stream(&stored, false);
    assert_eq!(&replayed, kept);
    assert!(
        replayed
            .iter()
            .zip(kept)
            .all(|(one, other)| one.as_ptr() == other.as_ptr())
    );
    assert_eq!(&stream(&stored, true), kept, "nobody knows the usage");
}

#[test]
fn a_missing_done_is_added() {
    let stored = events(Endpoint::Chat, &[FIRST, THIRD], None);
    assert_eq!(stream(&stored, false).last().unwrap(), "data: [DONE]\n\n");
}

#[test]
fn usage_is_told_to_who_asked() {
    let with = events(Endpoint::Chat, &[FIRST, THIRD, TOLD, "[DONE]"], USAGE);
    assert_eq!(read(&stream(&with, true)).len(), 3);
    let dropped = read(&stream(&with, false));
    assert_eq!(dropped.len(), 2);
    assert!(dropped.iter().all(|chunk| chunk.get("usage").is_none()));

    let without = events(Endpoint::Chat, &[FIRST, THIRD, "[DONE]"], USAGE);
    assert_eq!(read(&stream(&without, false)).len(), 2);
    let added = read(&stream(&without, true));
    assert_eq!(added.len(), 3);
    assert_eq!(
        added[2],
        json!({"id":"c-1","object":"chat.completion.chunk","created":17,"model":"m-1",
            "system_fingerprint":"fp","choices":[],
            "usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}})
    );
}

#[test]
fn usage_beside_content_stays_and_none_is_added() {
    let last = THIRD.replace(r#""stop_reason""#, r#""x""#);
    let last = last.strip_suffix('}').unwrap().to_owned()
        + r#","usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    let stored = events(Endpoint::Chat, &[FIRST, &last, "[DONE]"], USAGE);
    assert_eq!(stream(&stored, true).len(), 3);
    assert_eq!(stream(&stored, false).len(), 3);
}

#[test]
fn a_stream_joins_into_the_plain_answer_it_would_have_been() {
    let stored = events(
        Endpoint::Chat,
        &[FIRST, SECOND, THIRD, TOLD, "[DONE]"],
        None,
    );
    let expected = concat!(
        r#"{"id":"c-1","object":"chat.completion","created":17,"model":"m-1","system_fingerprint":"fp","#,
        r#""choices":[{"index":0,"message":{"role":"assistant","content":"h\u00e9llo"},"#,
        r#""logprobs":{"content":[{"token":"h","logprob":-0.10},{"token":"llo","logprob":-1e-7}],"refusal":null},"#,
        r#""finish_reason":"stop","stop_reason":null}],"#,
        r#""usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":4}}}"#,
    );
    assert_eq!(plain(&stored), expected);
    assert_eq!(text(&stored), "héllo");
}

#[test]
fn reasoning_tool_calls_and_several_choices_join() {
    let chunk = |choices: &str| format!(r#"{{"id":"x","choices":[{choices}]}}"#);
    let delta = |index: u32, delta: &str| {
        chunk(&format!(
            r#"{{"index":{index},"delta":{delta},"finish_reason":null}}"#
        ))
    };
    let data = [
        delta(1, r#"{"content":"b"}"#),
        delta(
            0,
            r#"{"role":"assistant","content":null,"reasoning_content":"th"}"#,
        ),
        delta(0, r#"{"reasoning_content":"ink"}"#),
        delta(
            0,
            r#"{"tool_calls":[{"index":1,"id":"t1","type":"function","function":{"name":"g","arguments":""}}]}"#,
        ),
        delta(
            0,
            r#"{"tool_calls":[{"index":0,"id":"t0","type":"function","function":{"name":"f","arguments":"{\"a"}}]}"#,
        ),
        delta(
            0,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"\":12345678901234567890}"}},{"index":1,"id":"t1","function":{"name":"g","arguments":"{}"}}]}"#,
        ),
        chunk(
            r#"{"index":0,"delta":{},"finish_reason":"tool_calls"},{"index":1,"delta":{"audio":{"id":"a","data":"AA"}},"finish_reason":"length"}"#,
        ),
        delta(1, r#"{"audio":{"data":"BB","expires_at":5}}"#),
    ];
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let stored = events(Endpoint::Chat, &data, USAGE);
    let answer: Value = serde_json::from_slice(&plain(&stored)).unwrap();
    assert_eq!(
        answer["choices"],
        json!([
            {"index":0,"message":{"role":"assistant","content":null,"reasoning_content":"think","tool_calls":[
                {"id":"t0","type":"function","function":{"name":"f","arguments":"{\"a\":12345678901234567890}"}},
                {"id":"t1","type":"function","function":{"name":"g","arguments":"{}"}}]},
             "finish_reason":"tool_calls"},
            {"index":1,"message":{"role":"assistant","content":"b","audio":{"id":"a","data":"AABB","expires_at":5}},
             "finish_reason":"length"}
        ])
    );
    assert_eq!(answer["usage"]["total_tokens"], 9);
    assert_eq!(text(&stored), "thinkf{\"a\":12345678901234567890}g{}b");
}

#[test]
fn tool_calls_without_an_index_begin_with_their_id() {
    let delta = |call: &str| format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{call}]}}}}]}}"#);
    let data = [
        delta(r#"{"id":"a","function":{"name":"f","arguments":"1"}}"#),
        delta(r#"{"function":{"arguments":"2"}}"#),
        delta(r#"{"id":"b","function":{"name":"f","arguments":"3"}}"#),
    ];
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let answer: Value =
        serde_json::from_slice(&plain(&events(Endpoint::Chat, &data, None))).unwrap();
    let calls = &answer["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[0]["function"]["arguments"], "12");
    assert_eq!(calls[1]["function"]["arguments"], "3");
}

#[test]
fn a_completions_stream_joins_its_text_and_logprobs() {
    let chunk = |text: &str, token: &str, finish: &str| {
        format!(
            r#"{{"id":"x","object":"text_completion","choices":[{{"index":0,"text":"{text}","logprobs":{{"tokens":["{token}"],"text_offset":[0]}},"finish_reason":{finish}}}],"usage":null}}"#
        )
    };
    let data = [chunk("a", "t1", "null"), chunk("b", "t2", "\"stop\"")];
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let stored = events(Endpoint::Completions, &data, None);
    assert_eq!(
        serde_json::from_slice::<Value>(&plain(&stored)).unwrap(),
        json!({"id":"x","object":"text_completion","choices":[{"index":0,"text":"ab",
            "logprobs":{"tokens":["t1","t2"],"text_offset":[0,0]},"finish_reason":"stop"}]})
    );
    assert_eq!(text(&stored), "ab");
}

#[test]
fn lists_of_a_choice_grow_chunk_by_chunk() {
    let chunk = |choice: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{}},{choice}}}]}}"#);
    let data = [
        chunk(r#""token_ids":[1,2],"stop_reason":null"#),
        chunk(r#""token_ids":null,"flags":{"a":1}"#),
        chunk(r#""token_ids":[3],"stop_reason":"x","flags":{"a":2}"#),
    ];
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let answer: Value =
        serde_json::from_slice(&plain(&events(Endpoint::Chat, &data, None))).unwrap();
    let choice = &answer["choices"][0];
    assert_eq!(choice["token_ids"], json!([1, 2, 3]));
    assert_eq!(choice["stop_reason"], "x");
    assert_eq!(choice["flags"], json!({"a": 2}), "the last one holds");
}

const ANSWER: &str = r#"{"id":"c-2","object":"chat.completion","created":18,"model":"m-2","choices":[
    {"index":0,"message":{"role":"assistant","content":"hi \ud83d\ude00","refusal":null,"reasoning_content":"hm","annotations":[]},
     "logprobs":{"content":[{"token":"hi","logprob":-0.50}]},"finish_reason":"stop","stop_reason":123456789012345678901234567890},
    {"index":1,"message":{"role":"assistant","content":null,"tool_calls":[
        {"id":"t0","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],
    "usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3},"service_tier":"default"}"#;

#[test]
fn a_stored_plain_answer_is_given_as_it_is() {
    let stored = body(Endpoint::Chat, ANSWER, None);
    assert_eq!(plain(&stored), ANSWER);
}

#[test]
fn a_plain_answer_becomes_a_stream_that_loses_nothing() {
    let stored = body(Endpoint::Chat, ANSWER, None);
    let chunks = read(&stream(&stored, false));
    let deltas: Vec<_> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"])
        .collect();
    assert_eq!(
        deltas,
        [
            &json!({"role":"assistant","content":""}),
            &json!({"reasoning_content":"hm"}),
            &json!({"content":"hi 😀"}),
            &json!({}),
            &json!({"role":"assistant","content":null}),
            &json!({"tool_calls":[{"index":0,"id":"t0","type":"function","function":{"name":"f","arguments":"{}"}}]}),
            &json!({}),
        ]
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk"
                && chunk["id"] == "c-2"
                && chunk["service_tier"] == "default"
                && chunk.get("usage").is_none())
    );
    assert_eq!(
        chunks[2]["choices"][0]["logprobs"]["content"][0]["token"],
        "hi"
    );
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[6]["choices"][0]["index"], 1);
    let all = stream(&stored, false).concat();
    for kept in [
        "123456789012345678901234567890",
        "-0.50",
        r"hi \ud83d\ude00",
    ] {
        assert!(
            memchr::memmem::find(&all, kept.as_bytes()).is_some(),
            "{kept}"
        );
    }
}

#[test]
fn a_plain_answers_usage_is_told_to_who_asked() {
    let stored = body(Endpoint::Chat, ANSWER, USAGE);
    let chunks = read(&stream(&stored, true));
    let (last, others) = chunks.split_last().unwrap();
    assert!(others.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 3, "the answer's own");
}

#[test]
fn plain_to_stream_and_back_is_the_same_answer() {
    let there = stream(&body(Endpoint::Chat, ANSWER, None), true);
    let back = plain(&stored(Endpoint::Chat, StoredBody::Events(there), None));
    let mut back: Value = serde_json::from_slice(&back).unwrap();
    let mut answer: Value = serde_json::from_str(ANSWER).unwrap();
    for value in [&mut back, &mut answer] {
        for choice in value["choices"].as_array_mut().unwrap() {
            let message = choice["message"].as_object_mut().unwrap();
            message.retain(|_, value| !value.is_null() && *value != json!([]));
        }
    }
    assert_eq!(back, answer);
}

#[test]
fn a_plain_completion_becomes_a_stream() {
    let answer = r#"{"id":"x","object":"text_completion","choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":"length"}]}"#;
    let chunks = read(&stream(&body(Endpoint::Completions, answer, USAGE), true));
    assert_eq!(chunks.len(), 2);
    assert_eq!(chunks[0]["choices"][0]["text"], "a");
    assert_eq!(chunks[1]["usage"]["completion_tokens"], 2);
}

#[test]
fn what_is_not_json_is_survived() {
    let stored = events(
        Endpoint::Chat,
        &["nonsense", "[1]", "{\"choices\":5}", "[DONE]"],
        USAGE,
    );
    assert_eq!(stream(&stored, true).len(), 5);
    assert!(serde_json::from_slice::<Value>(&plain(&stored)).is_ok());
    assert_eq!(
        read(&stream(&body(Endpoint::Chat, "nonsense", None), true)),
        [] as [Value; 0]
    );
}
