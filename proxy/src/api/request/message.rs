//! Messages of a chat request and their parts.
//!
//! Invariant, relied on by edits: of a content that is a list, element `n` is part `n`; a content
//! that is a string is part 0; tool calls follow.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::RequestError;
use super::media;
use crate::api::json::{self, Kind, Member};
use crate::api::prompt::{Message, Origin, Part, Role, Text, ToolCall, ToolResult};
use crate::api::text::cut;
use crate::api::tokens;

/// Tokens that a chat template adds around one message.
const MESSAGE_TOKENS: u32 = 4;
/// Tokens around one tool call.
const TOOL_CALL_TOKENS: u32 = 8;
/// Most tokens that a part of an unknown type is taken for.
const MAX_UNKNOWN_TOKENS: usize = 1_000;
/// Longest list of messages, of parts or of prompts.
const MAX_ELEMENTS: usize = 64 * 1024;
/// Longest name of a part's type that is kept, in bytes.
const MAX_TYPE_BYTES: usize = 64;

/// The whole body, for the places of its slices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) body: &'a str,
}

impl Cursor<'_> {
    /// Where a slice of the body stands.
    pub(super) fn place(self, slice: &str) -> Range<usize> {
        json::place(self.body, slice)
    }
}

/// A message on its own, before it is known what it belongs to.
pub(super) struct Read {
    pub(super) message: Message,
    /// Of a tool's message: the id of the call that it answers, empty without one.
    answers: String,
    /// What decides what the message is, and is there more than once.
    pub(super) repeated: Option<&'static str>,
}

/// Reads message `index`.
pub(super) fn read(cursor: Cursor<'_>, index: usize, value: &str) -> Result<Read, RequestError> {
    let members = json::members(value)
        .map_err(|_| RequestError::wrong_type(format!("messages[{index}]"), "an object", value))?;
    let role = match json::last(&members, "role") {
        None => Role::Other,
        Some(role) => self::role(&json::text(role).ok_or_else(|| {
            RequestError::wrong_type(format!("messages[{index}].role"), "a string", role)
        })?),
    };
    let mut parts = content(cursor, index, &members)?;
    let mut answers = String::new();
    if role == Role::Tool {
        answers = field(&members, "tool_call_id").into_owned();
        as_results(&mut parts, &answers, &field(&members, "name"));
    } else {
        parts.extend(calls(&members));
    }
    let message = Message {
        role,
        tokens: parts
            .iter()
            .map(|(_, tokens)| *tokens)
            .fold(MESSAGE_TOKENS, u32::saturating_add),
        parts: parts.into_iter().map(|(part, _)| part).collect(),
        group: None,
        source: Some(cursor.place(value)),
    };
    Ok(Read {
        message,
        answers,
        repeated: repeated(&members),
    })
}

/// The first member that decides what a message is and is there again.
fn repeated(members: &[Member<'_>]) -> Option<&'static str> {
    ["role", "content", "tool_calls"].into_iter().find(|name| {
        let named = members.iter().filter(|member| member.key == *name);
        named.count() > 1
    })
}

/// The elements of a list, which has its bounds.
///
/// # Errors
/// When it is no list, or too long.
pub(super) fn elements<'a>(
    param: &str,
    expected: &str,
    value: &'a str,
) -> Result<Vec<&'a str>, RequestError> {
    let elements = json::elements(value)
        .map_err(|_| RequestError::wrong_type(param.to_owned(), expected, value))?;
    match elements.len() > MAX_ELEMENTS {
        true => {
            let problem = format!("has more than {MAX_ELEMENTS} elements");
            Err(RequestError::wrong_value(param, &problem))
        }
        false => Ok(elements),
    }
}

/// A member's text; empty when it has none.
fn field<'a>(members: &[Member<'a>], name: &str) -> Cow<'a, str> {
    json::last(members, name)
        .and_then(json::text)
        .unwrap_or_default()
}

fn role(name: &str) -> Role {
    match name {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => Role::Other,
    }
}

/// The parts of a message's `content`, each with an estimate of its tokens.
fn content(
    cursor: Cursor<'_>,
    index: usize,
    members: &[Member<'_>],
) -> Result<Vec<(Part, u32)>, RequestError> {
    let Some(value) = json::last(members, "content") else {
        return Ok(Vec::new());
    };
    match Kind::of(value) {
        Kind::Null => Ok(Vec::new()),
        Kind::Text => Ok(vec![text(cursor, value, None)]),
        Kind::Array => elements(&format!("messages[{index}].content"), "an array", value)?
            .into_iter()
            .enumerate()
            .map(|(at, element)| match Kind::of(element) {
                Kind::Text => Ok(text(cursor, element, Some(element))),
                Kind::Object => Ok(part(cursor, element)),
                Kind::Array | Kind::Number | Kind::Bool | Kind::Null => {
                    Err(RequestError::wrong_type(
                        format!("messages[{index}].content[{at}]"),
                        "an object",
                        element,
                    ))
                }
            })
            .collect(),
        Kind::Object | Kind::Number | Kind::Bool => Err(RequestError::wrong_type(
            format!("messages[{index}].content"),
            "a string or an array of parts",
            value,
        )),
    }
}

/// A text by its literal; `source` is the part that it is all of.
fn text(cursor: Cursor<'_>, literal: &str, source: Option<&str>) -> (Part, u32) {
    let text = json::decode(literal).into_owned();
    let tokens = tokens::estimate(&text);
    let text = Text {
        text,
        origin: Origin::Message,
        literal: Some(cursor.place(literal)),
        source: source.map(|source| cursor.place(source)),
    };
    (Part::Text(text), tokens)
}

/// One part of a content list.
fn part(cursor: Cursor<'_>, element: &str) -> (Part, u32) {
    let Ok(members) = json::members(element) else {
        return unknown(element);
    };
    let kind = json::last(&members, "type").and_then(json::text);
    let field = |name: &str| json::last(&members, name);
    let literal = match kind.as_deref() {
        // Without a type, servers go by the field that is there.
        Some("text" | "input_text" | "output_text") | None => field("text"),
        Some("refusal") => field("refusal"),
        Some(_) => None,
    };
    if let Some(literal) = literal.filter(|literal| Kind::of(literal) == Kind::Text) {
        return text(cursor, literal, Some(element));
    }
    media::read(kind.as_deref(), &members).unwrap_or_else(|| unknown(element))
}

/// A part of a type without a name here.
pub(super) fn unknown(element: &str) -> (Part, u32) {
    let kind = json::members(element)
        .ok()
        .and_then(|members| json::last(&members, "type").and_then(json::text))
        .unwrap_or_default();
    let kind = cut(&kind, MAX_TYPE_BYTES).to_owned();
    let tokens = (element.len() / 4).min(MAX_UNKNOWN_TOKENS);
    (Part::Other(kind), u32::try_from(tokens).unwrap_or(u32::MAX))
}

/// Turns the texts of a tool's message into results. One without content is an empty result.
fn as_results(parts: &mut Vec<(Part, u32)>, id: &str, name: &str) {
    let result = |content| {
        Part::ToolResult(ToolResult {
            id: id.to_owned(),
            name: name.to_owned(),
            content,
        })
    };
    if parts.is_empty() {
        let content = Text {
            text: String::new(),
            origin: Origin::Message,
            literal: None,
            source: None,
        };
        parts.push((result(content), 0));
        return;
    }
    for (part, _) in parts {
        if let Part::Text(text) = part {
            *part = result(text.clone());
        }
    }
}

/// The tool calls of an assistant's message, the older `function_call` among them.
fn calls(members: &[Member<'_>]) -> Vec<(Part, u32)> {
    let call = |id: Option<&str>, function: &[Member<'_>]| {
        let arguments = json::last(function, "arguments")
            .or_else(|| json::last(function, "input"))
            .unwrap_or_default();
        let (size, tokens) = match json::text(arguments) {
            Some(text) => (text.len(), tokens::estimate(&text)),
            None => (arguments.len(), tokens::estimate(arguments)),
        };
        let name = json::last(function, "name")
            .and_then(json::text)
            .unwrap_or_default();
        let tokens = tokens.saturating_add(tokens::estimate(&name));
        let part = Part::ToolCall(ToolCall {
            id: id.and_then(json::text).unwrap_or_default().into_owned(),
            name: name.into_owned(),
            size: u32::try_from(size).unwrap_or(u32::MAX),
        });
        (part, tokens.saturating_add(TOOL_CALL_TOKENS))
    };
    let mut parts = Vec::new();
    let listed = json::last(members, "tool_calls").and_then(|list| json::elements(list).ok());
    for element in listed.into_iter().flatten() {
        let Ok(members) = json::members(element) else {
            continue;
        };
        let id = json::last(&members, "id");
        let function = ["function", "custom"]
            .iter()
            .find_map(|kind| json::last(&members, kind))
            .and_then(|function| json::members(function).ok());
        parts.push(call(id, function.as_deref().unwrap_or(&members)));
    }
    let older = json::last(members, "function_call").and_then(|call| json::members(call).ok());
    parts.extend(older.map(|function| call(None, &function)));
    parts
}

/// Gives tool calls and the messages that answer them a common number, and results the names of
/// their tools.
///
/// An answer belongs to the latest call with its id, also when it is a picture and no text; one
/// without an id to the assistant's message that it follows.
pub(super) fn group(read: Vec<Read>) -> Vec<Message> {
    let mut calls: HashMap<String, (u32, String)> = HashMap::new();
    let mut groups = 0;
    let mut latest = None;
    let group = |Read {
                     mut message,
                     answers,
                     repeated: _,
                 }: Read| {
        if message.role == Role::Tool {
            let call = calls.get(&answers).filter(|_| !answers.is_empty());
            message.group = match answers.is_empty() {
                true => latest,
                false => call.map(|(group, _)| *group),
            };
            if let Some((_, name)) = call {
                name_results(&mut message, name);
            }
            return message;
        }
        latest = None;
        for part in &message.parts {
            if let Part::ToolCall(call) = part {
                calls.insert(call.id.clone(), (groups, call.name.clone()));
                latest = Some(groups);
            }
        }
        groups += u32::from(latest.is_some());
        message.group = latest;
        message
    };
    read.into_iter().map(group).collect()
}

/// Gives results without a name that of their tool.
fn name_results(message: &mut Message, name: &str) {
    for part in &mut message.parts {
        if let Part::ToolResult(result) = part
            && result.name.is_empty()
        {
            result.name = name.to_owned();
        }
    }
}
