//! Gives a stored answer to an asker, in the form that this one wants.
//!
//! A stored stream leaves as its own events, byte for byte; a stored plain answer as its own body.
//! Otherwise one is made from the other: [`join`] merges deltas, [`split`] cuts an answer up, and
//! both carry every field along as it was written. Usage is told to who asked for it: a stored usage
//! chunk is left out for an asker without `include_usage`, and a stream stored without one gets one
//! from [`Stored::usage`].

mod fields;
mod join;
mod split;

use bytes::Bytes;

use super::stored::{Stored, StoredBody};
use crate::api::json::{self, Kind};
use crate::api::{Endpoint, Usage, sse};
use fields::Fields;

/// The end of every stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The answer as a stream, event by event, `[DONE]` at the end.
pub(crate) fn stream(stored: &Stored, include_usage: bool) -> Vec<Bytes> {
    let mut events = match &stored.body {
        StoredBody::Plain(body) => split::events(stored, body, include_usage),
        StoredBody::Events(events) => stored_events(stored, events, include_usage),
    };
    if !events.last().is_some_and(is_done) {
        events.push(Bytes::from_static(DONE));
    }
    events
}

/// The answer as one JSON body.
pub(crate) fn plain(stored: &Stored) -> Bytes {
    match &stored.body {
        StoredBody::Plain(body) => body.clone(),
        StoredBody::Events(events) => join::body(stored, events),
    }
}

/// All that the model wrote, of all choices: text, reasoning, refusals, names and arguments of tool
/// calls. For a count of its tokens where the upstream gave none.
pub(crate) fn text(stored: &Stored) -> String {
    let body = plain(stored);
    let mut out = String::new();
    let answer = members(std::str::from_utf8(&body).unwrap_or_default());
    for choice in json::last(&answer, "choices")
        .map(elements)
        .unwrap_or_default()
    {
        let choice = members(choice);
        let message = json::last(&choice, "message")
            .map(members)
            .unwrap_or_default();
        let written = ["reasoning_content", "reasoning", "content", "refusal"];
        let written = written
            .into_iter()
            .filter_map(|name| json::last(&message, name));
        for text in json::last(&choice, "text").into_iter().chain(written) {
            out.push_str(&json::text(text).unwrap_or_default());
        }
        let calls = json::last(&message, "tool_calls")
            .map(elements)
            .unwrap_or_default();
        let functions = calls
            .into_iter()
            .filter_map(|call| json::last(&members(call), "function"));
        for function in functions.chain(json::last(&message, "function_call")) {
            let function = members(function);
            for name in ["name", "arguments"] {
                let value = json::last(&function, name);
                out.push_str(&value.and_then(json::text).unwrap_or_default());
            }
        }
    }
    out
}

/// A stored stream's events, with the usage that this asker wants.
fn stored_events(stored: &Stored, events: &[Bytes], include_usage: bool) -> Vec<Bytes> {
    let mut out = Vec::with_capacity(events.len() + 2);
    let mut has_usage = false;
    for event in events {
        if is_done(event) {
            break;
        }
        match usage_of(event) {
            Told::Alone if !include_usage => continue,
            Told::Alone | Told::WithContent => has_usage = true,
            Told::Not => {}
        }
        out.push(event.clone());
    }
    if let (true, false, Some(usage)) = (include_usage, has_usage, stored.usage) {
        out.extend(events.iter().find_map(|first| usage_chunk(first, usage)));
    }
    out.extend(events.iter().find(|event| is_done(event)).cloned());
    out
}

/// Where an event tells the usage.
enum Told {
    Not,
    /// In a chunk without choices, as `include_usage` brings it.
    Alone,
    WithContent,
}

fn usage_of(event: &Bytes) -> Told {
    if memchr::memmem::find(event, b"\"usage\"").is_none() {
        return Told::Not;
    }
    let data = data(event);
    let chunk = members(std::str::from_utf8(&data).unwrap_or_default());
    let is_told = json::last(&chunk, "usage").is_some_and(|usage| Kind::of(usage) == Kind::Object);
    let is_alone = json::last(&chunk, "choices").is_none_or(|list| elements(list).is_empty());
    match (is_told, is_alone) {
        (false, _) => Told::Not,
        (true, true) => Told::Alone,
        (true, false) => Told::WithContent,
    }
}

/// A usage chunk that looks like the stream's own chunks; none when this event is not one of them.
fn usage_chunk(like: &Bytes, usage: Usage) -> Option<Bytes> {
    let data = data(like);
    let chunk = members(std::str::from_utf8(&data).ok()?);
    json::last(&chunk, "choices")?;
    let mut fields = Fields::default();
    for member in &chunk {
        if !matches!(member.key.as_ref(), "choices" | "usage" | "obfuscation") {
            fields.set_raw(&member.key, member.value);
        }
    }
    fields.set_raw("choices", "[]");
    fields.set_raw("usage", &usage_json(usage));
    Some(event(&fields))
}

/// OpenAI's `usage`.
fn usage_json(usage: Usage) -> String {
    let Usage { prompt, completion } = usage;
    let total = u64::from(prompt) + u64::from(completion);
    format!(
        "{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total}}}"
    )
}

/// The `object` of an answer or of its chunks.
fn object_name(endpoint: Endpoint, chunk: bool) -> &'static str {
    match (endpoint, chunk) {
        (Endpoint::Chat, true) => "\"chat.completion.chunk\"",
        (Endpoint::Chat, false) => "\"chat.completion\"",
        (Endpoint::Completions, _) => "\"text_completion\"",
        (Endpoint::Embeddings, _) => "\"list\"",
    }
}

/// An event with this object as its data.
fn event(fields: &Fields) -> Bytes {
    let mut out = String::from("data: ");
    fields.write(&mut out);
    out.push_str("\n\n");
    out.into()
}

/// The data of a stored event; empty when it has none.
fn data(event: &Bytes) -> Bytes {
    sse::read(event.clone(), true).data.unwrap_or_default()
}

fn is_done(event: &Bytes) -> bool {
    memchr::memmem::find(event, b"[DONE]").is_some() && data(event).trim_ascii() == b"[DONE]"
}

/// The members of a value; none when it is no object.
fn members(value: &str) -> Vec<json::Member<'_>> {
    json::members(value).unwrap_or_default()
}

/// The elements of a value; none when it is no array.
fn elements(value: &str) -> Vec<&str> {
    json::elements(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
