//! The bytes that must come out, put together by the slow readings.

use sluicegate_edits::reference::{Left, Outcome};
use sluicegate_edits::{Change, Edit};

use super::super::json::{self, Changes, Piece, Value};
use super::super::talk::{Kind, Part, Talk};
use super::script::{Script, count, index};
use super::text;
use crate::api::request::{self, Request};

/// The changes of the body that the outcome comes to.
pub(super) fn changes(talk: &Talk<'_>, outcome: &Outcome, edits: &[Edit]) -> Changes {
    let mut changes = Changes::default();
    for (at, (message, left)) in talk.messages.iter().zip(outcome).enumerate() {
        let parts = match (left, message.value) {
            (None, Some(value)) => {
                changes.gone.insert(value.place());
                continue;
            }
            (None, None) => &vec![Left::Nothing; message.parts.len()],
            (Some(parts), _) => parts,
        };
        for (number, (part, left)) in message.parts.iter().zip(parts).enumerate() {
            let of_part = |edit: &&Edit| address(edit) == (count(at), count(number));
            match left {
                Left::Whole => {}
                Left::Nothing => changes.gone.extend(part.entry.map(Value::place)),
                Left::Text(new) => match (part.literal, part.entry) {
                    (Some(literal), _) => {
                        let here: Vec<&Edit> = edits.iter().filter(of_part).collect();
                        changes
                            .new
                            .insert(literal.place(), rewritten(literal, &here));
                    }
                    // An entry of two strings becomes one.
                    (None, Some(entry)) => {
                        changes.new.insert(entry.place(), json::quoted(new));
                    }
                    (None, None) => {}
                },
            }
        }
        // Without a part of its content, a message with tool calls has none.
        let content = message.value.and_then(|value| value.member("content"));
        let is_gone = |(part, left): (&Part<'_>, &Left)| {
            part.kind == Kind::Fixed && part.entry.is_none() || *left == Left::Nothing
        };
        if let Some(content) = content
            && parts.contains(&Left::Nothing)
            && message.parts.iter().zip(parts).all(is_gone)
        {
            changes.new.insert(content.place(), "null".to_owned());
        }
    }
    changes
}

/// Message and part of an edit.
fn address(edit: &Edit) -> (u32, u32) {
    match edit.change {
        Change::DropMessage(message) => (message, u32::MAX),
        Change::DropPart { message, part }
        | Change::DropSpan { message, part, .. }
        | Change::ReplaceSpan { message, part, .. } => (message, part),
    }
}

/// A literal without the spans of these edits, piece by piece.
fn rewritten(literal: &Value<'_>, edits: &[&Edit]) -> String {
    let mut left: Vec<(String, Option<Piece<'_>>)> = Vec::new();
    let mut byte = 0;
    for piece in json::pieces(literal.text) {
        let mut is_kept = true;
        for edit in edits {
            let (span, new) = match &edit.change {
                Change::DropSpan { start, end, .. } => ((*start, *end), ""),
                Change::ReplaceSpan {
                    start, end, text, ..
                } => ((*start, *end), text.as_str()),
                Change::DropMessage(_) | Change::DropPart { .. } => continue,
            };
            let (start, end) = (index(span.0), index(span.1));
            if byte == start && !new.is_empty() {
                left.push((json::escaped(new), None));
            }
            is_kept &= byte < start || end <= byte;
        }
        byte += piece.bytes();
        if is_kept {
            left.push((piece.raw.to_owned(), Some(piece)));
        }
    }
    // Halves of pairs that stood apart stay apart: the first becomes what it reads as.
    for at in 1..left.len() {
        let is_first = left[at - 1].1.as_ref().is_some_and(Piece::is_first_half);
        if is_first && left[at].1.as_ref().is_some_and(Piece::is_second_half) {
            left[at - 1] = ("\\ufffd".to_owned(), None);
        }
    }
    let inside: String = left.into_iter().map(|(raw, _)| raw).collect();
    format!("\"{inside}\"")
}

/// What goes upstream is the edited body with the route's changes, and no other byte differs.
pub(super) fn assert_rendered(applied: &Request, script: &Script, rendered: &str) {
    let body = text(&applied.body);
    let object = body.strip_prefix('\u{feff}').unwrap_or(body);
    let tree = json::read(object).expect("an edited body is JSON");
    let talk = Talk::of(script.endpoint, &tree);
    talk.assert_is(&applied.prompt);
    let mut changes = Changes::default();
    let route = &script.changes;
    for member in tree.members() {
        let value = &member.value;
        match String::from_utf16_lossy(&member.key).as_str() {
            "sluicegate" => {
                changes.gone.insert(value.place());
            }
            "model" if route.model.is_some() && value.string() != route.model => {
                let name = route.model.as_deref().unwrap_or_default();
                changes.new.insert(value.place(), json::quoted(name));
            }
            "max_tokens" | "max_completion_tokens" => {
                let cap = route
                    .max_tokens_cap
                    .filter(|cap| is_above(value.text, *cap));
                changes
                    .new
                    .extend(cap.map(|cap| (value.place(), cap.to_string())));
            }
            _ => {}
        }
    }
    changes
        .last_inside
        .insert(tree.place(), added(&tree, route));
    if let (Some(at), Some(list)) = (talk.inserted, talk.list) {
        let message = system_message(&talk.messages[at].parts);
        match talk.messages.get(at + 1).and_then(|next| next.value) {
            Some(next) => changes.before.insert(next.place(), message + ","),
            None if at == 0 => changes.last_inside.insert(list.place(), message),
            None => changes
                .last_inside
                .insert(list.place(), format!(",{message}")),
        };
    }
    assert_eq!(rendered, body.replacen(tree.text, &tree.print(&changes), 1));
}

/// A limit of tokens, also as a text, that is above the cap.
fn is_above(value: &str, cap: u32) -> bool {
    let asked = json::read(value).and_then(|value| value.string());
    let asked = asked.as_deref().unwrap_or(value).trim().parse::<f64>();
    asked.is_ok_and(|asked| asked.is_finite() && asked > f64::from(cap))
}

/// The route's defaults for fields that the body lacks.
fn added(tree: &Value<'_>, route: &request::Changes) -> String {
    let has = |name: &str| tree.member(name).is_some();
    let mut added = String::new();
    let mut written = Vec::new();
    for (name, value) in &route.insert {
        let is_limit = *name == "max_tokens";
        if has(name) || is_limit && has("max_completion_tokens") || written.contains(name) {
            continue;
        }
        let cap = route
            .max_tokens_cap
            .filter(|cap| is_limit && is_above(value, *cap));
        let value = cap.map_or_else(|| value.clone(), |cap| cap.to_string());
        added.push_str(&format!(",\"{name}\":{value}"));
        written.push(*name);
    }
    added
}

/// Entries of the `sluicegate` field as the upstream gets them.
fn system_message(parts: &[Part<'_>]) -> String {
    let texts = parts.iter().map(|part| {
        let literal = part.literal.map(|literal| literal.text.to_owned());
        let literal = literal.unwrap_or_else(|| json::quoted(&part.text));
        format!("{{\"type\":\"text\",\"text\":{literal}}}")
    });
    let texts: Vec<String> = texts.collect();
    format!("{{\"role\":\"system\",\"content\":[{}]}}", texts.join(","))
}
