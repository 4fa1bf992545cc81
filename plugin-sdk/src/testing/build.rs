//! Requests as the host would build them: places numbered, tool calls grouped with their results,
//! the last user message locked.

use std::collections::HashMap;

use super::host::estimate_tokens;
use crate::{
    Answer, AnswerFormat, Budget, Endpoint, Finish, Media, Message, Origin, Parameters, Part,
    Request, Role, Summary, Text, ToolCall, ToolChoice, ToolResult,
};

/// A chat of one text each.
#[must_use]
pub fn chat(messages: &[(Role, &str)]) -> Request {
    request(
        messages
            .iter()
            .map(|(role, content)| message(*role, vec![text(content)]))
            .collect(),
    )
}

/// A chat of any messages, made by [`message`]: places, groups, locks and counts are filled in. All
/// else is as if the client had said nothing; fields are public, a test sets what it needs.
#[must_use]
pub fn request(mut messages: Vec<Message>) -> Request {
    let last_user = messages
        .iter()
        .rposition(|message| message.role == Role::User);
    if let Some(last) = last_user.and_then(|at| messages.get_mut(at)) {
        last.locked = true;
    }
    for (index, message) in (0_u32..).zip(&mut messages) {
        message.index = index;
    }
    group(&mut messages);
    Request {
        endpoint: Endpoint::Chat,
        model: "auto".to_owned(),
        message_count: count(messages.len()),
        last_user: last_user.map(count),
        tools: Vec::new(),
        parameters: Parameters {
            temperature: None,
            top_p: None,
            max_tokens: None,
            choices: 1,
            seeded: false,
            streaming: false,
            format: AnswerFormat::Text,
            tool_choice: ToolChoice::Auto,
            reasoning_effort: None,
            stored: false,
            audio_output: false,
        },
        prompt_tokens: messages.iter().map(|message| message.tokens).sum(),
        text_bytes: messages
            .iter()
            .flat_map(|message| &message.parts)
            .map(text_size)
            .sum(),
        messages,
        headers: Vec::new(),
        tenant: "anonymous".to_owned(),
        session: None,
        route_hint: None,
        draw: 0.5,
        explain: false,
    }
}

/// A message of any parts, for [`request`].
#[must_use]
pub fn message(role: Role, parts: Vec<Part>) -> Message {
    let tokens = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => estimate_tokens(&text.head),
            Part::ToolResult(result) => estimate_tokens(&result.content.head),
            Part::Image(_)
            | Part::Audio(_)
            | Part::Video(_)
            | Part::File(_)
            | Part::ToolCall(_)
            | Part::Other(_) => 0,
        })
        .sum();
    Message {
        index: 0,
        role,
        parts,
        tokens,
        locked: false,
        group: None,
    }
}

/// A text, shown whole.
#[must_use]
pub fn text(text: &str) -> Part {
    Part::Text(whole(text))
}

/// A picture of this media type.
#[must_use]
pub fn image(media_type: &str) -> Part {
    Part::Image(Media {
        media_type: Some(media_type.to_owned()),
        name: None,
        size: None,
    })
}

/// A tool call of the assistant.
#[must_use]
pub fn tool_call(id: &str, name: &str) -> Part {
    Part::ToolCall(ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        size: 2,
    })
}

/// A tool's answer to the call `id`.
#[must_use]
pub fn tool_result(id: &str, name: &str, content: &str) -> Part {
    Part::ToolResult(ToolResult {
        id: id.to_owned(),
        name: name.to_owned(),
        failed: false,
        content: whole(content),
    })
}

/// The same request with each text cut down to its first `head` and last `tail` bytes, as a slot's
/// `text` setting does. Give [`super::TestHost::new`] the whole request, so that reads find the
/// rest.
#[must_use]
pub fn windowed(request: &Request, head: usize, tail: usize) -> Request {
    let mut request = request.clone();
    for part in request
        .messages
        .iter_mut()
        .flat_map(|message| &mut message.parts)
    {
        match part {
            Part::Text(text) => cut_window(text, head, tail),
            Part::ToolResult(result) => cut_window(&mut result.content, head, tail),
            Part::Image(_)
            | Part::Audio(_)
            | Part::Video(_)
            | Part::File(_)
            | Part::ToolCall(_)
            | Part::Other(_) => {}
        }
    }
    request
}

/// A budget without a target, label or language.
#[must_use]
pub fn budget() -> Budget {
    Budget {
        target_tokens: None,
        label: None,
        language: None,
    }
}

/// The summary of an empty stage `classify`.
#[must_use]
pub fn summary() -> Summary {
    Summary {
        label: None,
        confidence: 0.0,
        complexity: None,
        language: None,
        attributes: Vec::new(),
    }
}

/// A short answer of the first model that ended in this way.
#[must_use]
pub fn answer(finish: Finish) -> Answer {
    Answer {
        model: "auto".to_owned(),
        fallback: false,
        finish,
        text_bytes: 400,
        head: String::new(),
        prompt_tokens: 20,
        completion_tokens: 100,
        duration_ms: 900,
        memo: String::new(),
    }
}

fn whole(text: &str) -> Text {
    Text {
        head: text.to_owned(),
        tail: None,
        size: count(text.len()),
        origin: Origin::Message,
    }
}

fn cut_window(text: &mut Text, head: usize, tail: usize) {
    if text.head.len() <= head.saturating_add(tail) {
        return;
    }
    let from = text.head.ceil_char_boundary(text.head.len() - tail);
    text.tail = (tail > 0).then(|| text.head.split_off(from));
    text.head.truncate(text.head.floor_char_boundary(head));
}

/// Gives an assistant's tool calls and their results a number in common.
fn group(messages: &mut [Message]) {
    let mut group_of: HashMap<String, u32> = HashMap::new();
    for message in messages {
        for part in &message.parts {
            match part {
                Part::ToolCall(call) => {
                    group_of.insert(call.id.clone(), message.index);
                    message.group = Some(message.index);
                }
                Part::ToolResult(result) => message.group = group_of.get(&result.id).copied(),
                Part::Text(_)
                | Part::Image(_)
                | Part::Audio(_)
                | Part::Video(_)
                | Part::File(_)
                | Part::Other(_) => {}
            }
        }
    }
}

fn text_size(part: &Part) -> u32 {
    match part {
        Part::Text(text) => text.size,
        Part::ToolResult(result) => result.content.size,
        Part::Image(_)
        | Part::Audio(_)
        | Part::Video(_)
        | Part::File(_)
        | Part::ToolCall(_)
        | Part::Other(_) => 0,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
