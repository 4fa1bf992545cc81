//! From a body's bytes to a [`Request`].

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::message::{self, Cursor, elements};
use super::parameters::Fields;
use super::{Name, Place, Places, Request, RequestError, extension};
use crate::api::json::{self, Kind, Member};
use crate::api::prompt::{Endpoint, Message, Origin, Part, Prompt, Role, Text};
use crate::api::tokens;

/// Longest model name, in bytes.
const MAX_MODEL_BYTES: usize = 256;
/// Tokens that a chat template adds around all messages.
const TEMPLATE_TOKENS: u32 = 3;

/// Parses a request body.
///
/// # Errors
/// What keeps the request from being worked on, with the field's name.
pub(crate) fn parse(endpoint: Endpoint, body: Bytes) -> Result<Request, RequestError> {
    let text = std::str::from_utf8(&body)
        .map_err(|_| RequestError::not_json("The request body is not UTF-8.".to_owned()))?;
    let object = text.strip_prefix('\u{feff}').unwrap_or(text);
    let members = json::members(object).map_err(|error| not_an_object(&error))?;
    let fields = Fields::of(&members);
    let cursor = Cursor { body: text };

    let model = model(fields.model)?;
    let parameters = fields.parameters()?;
    let mut repeated = fields.repeated.clone();
    let (mut messages, prompts) = match endpoint {
        Endpoint::Chat => (chat(cursor, fields.messages, &mut repeated)?, 1),
        Endpoint::Completions => prompts(cursor, "prompt", fields.prompt)?,
        Endpoint::Embeddings => match (fields.input, fields.messages) {
            // Multimodal embedding models take a conversation in place of the input.
            (None, Some(_)) => (chat(cursor, fields.messages, &mut repeated)?, 1),
            (None, None) => return Err(RequestError::missing("input")),
            (input, _) => prompts(cursor, "input", input)?,
        },
    };
    let inserted = extension::read(cursor, fields.extension)?;
    if inserted.is_some() && endpoint != Endpoint::Chat {
        return Err(RequestError::wrong_value(
            "sluicegate",
            "is for chat requests only",
        ));
    }

    let mut last_user = messages
        .iter()
        .rposition(|message| message.role == Role::User);
    let inserted = inserted.map(|message| {
        let at = last_user.unwrap_or(messages.len());
        messages.insert(at, message);
        last_user = last_user.map(|user| user + 1);
        at
    });

    let tools = fields.tools();
    let tool_tokens = fields
        .tool_texts()
        .map(tokens::estimate)
        .fold(0, u32::saturating_add);
    let prompt_tokens = messages.iter().map(|message| message.tokens).fold(
        TEMPLATE_TOKENS.saturating_add(tool_tokens),
        u32::saturating_add,
    );
    let prompt = Prompt {
        endpoint,
        model,
        last_user,
        inserted,
        tools,
        parameters,
        user: fields.user.and_then(json::text).map(Cow::into_owned),
        prompt_tokens,
        text_bytes: messages.iter().map(text_bytes).sum(),
        messages,
    };
    let places = Places {
        members: members.iter().map(|member| place(text, member)).collect(),
        messages: (endpoint == Endpoint::Chat)
            .then(|| fields.messages.map(|value| json::place(text, value)))
            .flatten(),
        prompts,
        repeated,
    };
    Ok(Request {
        prompt: Arc::new(prompt),
        places,
        body,
    })
}

/// What to say of a body that is not one JSON object.
fn not_an_object(error: &serde_json::Error) -> RequestError {
    if error.is_data() {
        return RequestError::not_json("The request body must be a JSON object.".to_owned());
    }
    RequestError::not_json(format!("The request body is not valid JSON: {error}."))
}

/// The place of one member.
fn place(text: &str, member: &Member<'_>) -> Place {
    let name = match member.key.as_ref() {
        "model" => Name::Model,
        "max_tokens" => Name::MaxTokens,
        "max_completion_tokens" => Name::MaxCompletionTokens,
        "sluicegate" => Name::Extension,
        _ => Name::Unnamed,
    };
    Place {
        name,
        key: json::place(text, member.key_text),
        value: json::place(text, member.value),
    }
}

/// The model's name.
fn model(value: Option<&str>) -> Result<String, RequestError> {
    let value = value.ok_or_else(|| RequestError::missing("model"))?;
    let name = json::text(value)
        .ok_or_else(|| RequestError::wrong_type("model".to_owned(), "a string", value))?;
    match name.len() {
        0 => Err(RequestError::wrong_value("model", "is empty")),
        1..=MAX_MODEL_BYTES => Ok(name.into_owned()),
        _ => Err(RequestError::wrong_value(
            "model",
            "is longer than 256 bytes",
        )),
    }
}

/// The messages of a conversation.
fn chat(
    cursor: Cursor<'_>,
    value: Option<&str>,
    repeated: &mut Option<String>,
) -> Result<Vec<Message>, RequestError> {
    let value = value.ok_or_else(|| RequestError::missing("messages"))?;
    let read: Result<Vec<_>, _> = elements("messages", "an array", value)?
        .into_iter()
        .enumerate()
        .map(|(index, element)| message::read(cursor, index, element))
        .collect();
    let read = read?;
    for (index, message) in read.iter().enumerate() {
        if let (Some(name), None) = (message.repeated, repeated.as_ref()) {
            *repeated = Some(format!("messages[{index}].{name}"));
        }
    }
    Ok(message::group(read))
}

/// The one message that stands for a `prompt` or `input`, and how many of them there are.
///
/// A string is one prompt, an array of strings or of token arrays many, an array of numbers one.
/// OpenAI gives a default to a completion without a prompt, so none is no error.
fn prompts(
    cursor: Cursor<'_>,
    param: &str,
    value: Option<&str>,
) -> Result<(Vec<Message>, u32), RequestError> {
    let wrong = |param: String, value: &str| {
        Err(RequestError::wrong_type(
            param,
            "a string, an array of strings or of tokens",
            value,
        ))
    };
    let Some(value) = value else {
        return Ok((Vec::new(), 1));
    };
    let parts = match Kind::of(value) {
        Kind::Null => return Ok((Vec::new(), 1)),
        Kind::Text => vec![text_part(cursor, value)],
        Kind::Array => {
            if begins_with_number(value) {
                vec![token_part(commas(value) + 1)]
            } else {
                let elements = elements(param, "an array", value)?;
                let mut parts = Vec::with_capacity(elements.len());
                for (index, element) in elements.into_iter().enumerate() {
                    parts.push(match Kind::of(element) {
                        Kind::Text => text_part(cursor, element),
                        Kind::Array => token_part(commas(element) + 1),
                        Kind::Object => message::unknown(element),
                        Kind::Number | Kind::Bool | Kind::Null => {
                            return wrong(format!("{param}[{index}]"), element);
                        }
                    });
                }
                parts
            }
        }
        Kind::Object | Kind::Number | Kind::Bool => return wrong(param.to_owned(), value),
    };
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX).max(1);
    let message = Message {
        role: Role::User,
        tokens: parts
            .iter()
            .map(|(_, tokens)| *tokens)
            .fold(0, u32::saturating_add),
        parts: parts.into_iter().map(|(part, _)| part).collect(),
        group: None,
        source: None,
    };
    Ok((vec![message], count))
}

/// True for an array of tokens.
fn begins_with_number(array: &str) -> bool {
    let inside = array.get(1..).unwrap_or_default();
    matches!(
        inside.trim_start().as_bytes().first(),
        Some(b'-' | b'0'..=b'9')
    )
}

/// A prompt that is a string.
fn text_part(cursor: Cursor<'_>, literal: &str) -> (Part, u32) {
    let text = json::decode(literal).into_owned();
    let tokens = tokens::estimate(&text);
    let literal = Some(cursor.place(literal));
    (
        Part::Text(Text {
            text,
            origin: Origin::Message,
            literal,
            source: None,
        }),
        tokens,
    )
}

/// A prompt that is tokens already.
fn token_part(count: usize) -> (Part, u32) {
    (
        Part::Other("tokens".to_owned()),
        u32::try_from(count).unwrap_or(u32::MAX),
    )
}

/// Commas of an array of numbers.
fn commas(array: &str) -> usize {
    memchr::memchr_iter(b',', array.as_bytes()).count()
}

/// Bytes of all texts of a message.
fn text_bytes(message: &Message) -> usize {
    message
        .parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.text.len(),
            Part::ToolResult(result) => result.content.text.len(),
            Part::Image(_)
            | Part::Audio(_)
            | Part::Video(_)
            | Part::File(_)
            | Part::ToolCall(_)
            | Part::Other(_) => 0,
        })
        .sum()
}
