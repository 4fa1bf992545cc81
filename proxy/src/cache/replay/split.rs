//! Makes a stream of a plain answer.

use bytes::Bytes;

use super::fields::Fields;
use super::{elements, event, members, object_name, usage_json};
use crate::api::Endpoint;
use crate::api::json::{self, Kind, Member};
use crate::cache::Stored;

/// The events of the answer, without the `[DONE]`.
pub(super) fn events(stored: &Stored, body: &Bytes, include_usage: bool) -> Vec<Bytes> {
    let answer = members(std::str::from_utf8(body).unwrap_or_default());
    let chunk = |choices: Vec<Fields>, usage: Option<&str>| {
        let mut chunk = Fields::default();
        for member in &answer {
            match member.key.as_ref() {
                "object" => chunk.set_raw("object", object_name(stored.endpoint, true)),
                "usage" | "choices" => {}
                key => chunk.set_raw(key, member.value),
            }
        }
        chunk.set_list("choices", choices);
        if let Some(usage) = usage {
            chunk.set_raw("usage", usage);
        }
        event(&chunk)
    };
    let usage = json::last(&answer, "usage").filter(|usage| Kind::of(usage) == Kind::Object);
    let usage = usage
        .map(str::to_owned)
        .or_else(|| stored.usage.map(usage_json));
    // As OpenAI streams it: null in every chunk but the last.
    let pending = (include_usage && usage.is_some()).then_some("null");
    let mut events = Vec::new();
    for choice in json::last(&answer, "choices")
        .map(elements)
        .unwrap_or_default()
    {
        let parts = members(choice);
        let pieces = match stored.endpoint {
            Endpoint::Chat => chat_pieces(&parts),
            Endpoint::Completions | Endpoint::Embeddings => vec![copy(&parts)],
        };
        events.extend(pieces.into_iter().map(|piece| chunk(vec![piece], pending)));
    }
    if let (true, Some(usage)) = (include_usage, usage) {
        events.push(chunk(Vec::new(), Some(&usage)));
    }
    events
}

/// A choice as chunks: the role, one for each thing that the message says, the end.
fn chat_pieces(choice: &[Member<'_>]) -> Vec<Fields> {
    let message = json::last(choice, "message")
        .map(members)
        .unwrap_or_default();
    let index = json::last(choice, "index").unwrap_or("0");
    let piece = |delta: Fields| {
        let mut piece = Fields::default();
        piece.set_raw("index", index);
        piece.set_object("delta", delta);
        piece.set_raw("finish_reason", "null");
        piece
    };
    let mut logprobs = json::last(choice, "logprobs").filter(|v| Kind::of(v) != Kind::Null);
    let mut pieces = Vec::new();

    let mut opening = Fields::default();
    opening.set_raw(
        "role",
        json::last(&message, "role").unwrap_or("\"assistant\""),
    );
    let is_text = json::last(&message, "content").is_some_and(|v| Kind::of(v) == Kind::Text);
    opening.set_raw("content", if is_text { "\"\"" } else { "null" });
    pieces.push(piece(opening));

    // A model thinks before it speaks: clients show the pieces in the order of their arrival.
    let mut said: Vec<&Member<'_>> = message.iter().filter(|m| m.key != "role").collect();
    said.sort_by_key(|member| match member.key.as_ref() {
        key if key.starts_with("reasoning") => 0,
        "content" => 1,
        _ => 2,
    });
    for member in said {
        if matches!(member.value, "null" | "\"\"" | "[]") {
            continue;
        }
        let mut delta = Fields::default();
        match member.key.as_ref() {
            "tool_calls" => delta.set_list("tool_calls", indexed(member.value)),
            key => delta.set_raw(key, member.value),
        }
        let mut piece = piece(delta);
        if member.key == "content"
            && let Some(logprobs) = logprobs.take()
        {
            piece.set_raw("logprobs", logprobs);
        }
        pieces.push(piece);
    }

    let mut end = piece(Fields::default());
    for member in choice
        .iter()
        .filter(|m| !matches!(m.key.as_ref(), "message" | "logprobs"))
    {
        end.set_raw(&member.key, member.value);
    }
    if let Some(logprobs) = logprobs {
        end.set_raw("logprobs", logprobs);
    }
    pieces.push(end);
    pieces
}

/// Tool calls with the `index` that a stream gives them.
fn indexed(calls: &str) -> Vec<Fields> {
    let calls = elements(calls)
        .into_iter()
        .enumerate()
        .map(|(index, call)| {
            let mut fields = Fields::default();
            fields.set_raw("index", &index.to_string());
            for member in members(call) {
                fields.set_raw(&member.key, member.value);
            }
            fields
        });
    calls.collect()
}

/// A choice as it is: a completion's chunk has the form of its answer.
fn copy(choice: &[Member<'_>]) -> Fields {
    let mut fields = Fields::default();
    for member in choice {
        fields.set_raw(&member.key, member.value);
    }
    fields
}
