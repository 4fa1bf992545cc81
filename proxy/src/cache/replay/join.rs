//! Makes a plain answer of a stream's events.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::fields::Fields;
use super::{data, elements, members, object_name, usage_json};
use crate::api::Endpoint;
use crate::api::json::{self, Kind};
use crate::cache::Stored;

/// The plain answer that the events add up to.
pub(super) fn body(stored: &Stored, events: &[Bytes]) -> Bytes {
    let mut answer = Fields::default();
    let mut choices: BTreeMap<u32, Fields> = BTreeMap::new();
    let mut usage = None;
    for event in events {
        let data = data(event);
        let chunk = members(std::str::from_utf8(&data).unwrap_or_default());
        for member in &chunk {
            match member.key.as_ref() {
                "choices" => {
                    for choice in elements(member.value) {
                        add_choice(&mut choices, choice);
                    }
                    // Keeps its place among the fields.
                    answer.set_raw("choices", "[]");
                }
                "usage" => {
                    if Kind::of(member.value) == Kind::Object {
                        usage = Some(member.value.to_owned());
                    }
                }
                "object" => answer.set_raw("object", object_name(stored.endpoint, false)),
                // Padding against eavesdroppers, of no use in one body.
                "obfuscation" => {}
                key => answer.set_first(key, member.value),
            }
        }
    }
    answer.set_list(
        "choices",
        choices
            .into_values()
            .map(|choice| finished(stored.endpoint, choice)),
    );
    if let Some(usage) = usage.or_else(|| stored.usage.map(usage_json)) {
        answer.set_raw("usage", &usage);
    }
    let mut out = String::new();
    answer.write(&mut out);
    out.into()
}

/// Adds a chunk's choice to the choice of that index.
fn add_choice(choices: &mut BTreeMap<u32, Fields>, choice: &str) {
    let parts = members(choice);
    let index = json::last(&parts, "index")
        .and_then(json::count)
        .unwrap_or_default();
    let fields = choices.entry(index).or_insert_with(|| {
        let mut fields = Fields::default();
        fields.set_raw("index", &index.to_string());
        fields
    });
    for part in &parts {
        match part.key.as_ref() {
            "index" => {}
            "delta" => fields.merge_one("message", part.value),
            // In completions a string that grows; lists that grow in both.
            "text" | "logprobs" => fields.merge_one(&part.key, part.value),
            // A chunk's share, as vLLM's `token_ids`: nobody says a whole list twice here.
            key if Kind::of(part.value) == Kind::Array => fields.merge_one(key, part.value),
            // Said once, mostly in the last chunk; a null before it says nothing.
            key => {
                if Kind::of(part.value) != Kind::Null || !fields.has(key) {
                    fields.set_raw(key, part.value);
                }
            }
        }
    }
}

/// A choice with the fields that a plain answer must have.
fn finished(endpoint: Endpoint, mut choice: Fields) -> Fields {
    if endpoint == Endpoint::Chat {
        choice.merge_one("message", "{}");
        choice.complete_message();
    }
    if !choice.has("finish_reason") {
        choice.set_raw("finish_reason", "null");
    }
    choice
}
