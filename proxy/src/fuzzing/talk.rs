//! What a request says, read from its tree by the words of the contract and the API's reference,
//! without the proxy's own parser.

use std::collections::HashMap;

use sluicegate_edits::{MessageShape, PartShape, Shape};

use super::json::{Content, Value};
use crate::api::Endpoint;
use crate::api::prompt::{self, Prompt};

/// A conversation.
#[derive(Debug, Default)]
pub(super) struct Talk<'v> {
    pub(super) messages: Vec<Message<'v>>,
    /// Position of the message that is made of the `sluicegate` field.
    pub(super) inserted: Option<usize>,
    /// The list of messages, in a chat request.
    pub(super) list: Option<&'v Value<'v>>,
}

#[derive(Debug)]
pub(super) struct Message<'v> {
    /// None: it stands nowhere in the list of messages.
    pub(super) value: Option<&'v Value<'v>>,
    pub(super) role: String,
    pub(super) parts: Vec<Part<'v>>,
    /// Position of the message whose tools it calls or answers.
    pub(super) group: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Part<'v> {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// The string whose cuts are the part's.
    pub(super) literal: Option<&'v Value<'v>>,
    /// The entry of a list that goes with the part.
    pub(super) entry: Option<&'v Value<'v>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Result,
    Fixed,
}

impl<'v> Talk<'v> {
    /// Reads a body. Its types were found right before.
    pub(super) fn of(endpoint: Endpoint, body: &'v Value<'v>) -> Self {
        let is_chat = match endpoint {
            Endpoint::Chat => true,
            Endpoint::Completions => false,
            Endpoint::Embeddings => body.member("input").is_none(),
        };
        if !is_chat {
            let name = if endpoint == Endpoint::Completions {
                "prompt"
            } else {
                "input"
            };
            let messages = body.member(name).and_then(prompts);
            return Self {
                messages: messages.into_iter().collect(),
                ..Self::default()
            };
        }
        let list = body.member("messages");
        let elements = list.and_then(Value::elements).unwrap_or_default();
        let mut messages: Vec<Message<'v>> = elements.into_iter().map(message).collect();
        let inserted = body
            .member("sluicegate")
            .and_then(extension)
            .map(|message| {
                let at = messages
                    .iter()
                    .rposition(Message::is_user)
                    .unwrap_or(messages.len());
                messages.insert(at, message);
                at
            });
        group(&mut messages);
        Self {
            messages,
            inserted,
            list,
        }
    }

    /// As the rules see it.
    pub(super) fn shape(&self, is_last_user_open: bool) -> Shape<'_> {
        let last_user = self.messages.iter().rposition(Message::is_user);
        let messages = self
            .messages
            .iter()
            .enumerate()
            .map(|(at, message)| MessageShape {
                locked: last_user == Some(at) && !is_last_user_open,
                group: message.group.and_then(|group| u32::try_from(group).ok()),
                user: message.is_user(),
                parts: message.parts.iter().map(Part::shape).collect(),
            });
        Shape {
            messages: messages.collect(),
        }
    }

    /// Every text that is not empty, with its message and part.
    pub(super) fn texts(&self) -> impl Iterator<Item = (u32, u32, &str)> {
        (0..).zip(&self.messages).flat_map(|(at, message)| {
            let parts = (0..).zip(&message.parts);
            let texts = parts.map(move |(number, part)| (at, number, part.text.as_str()));
            texts.filter(|(_, _, text)| !text.is_empty())
        })
    }

    /// The messages that go with one, itself among them.
    pub(super) fn mates(&self, message: u32) -> Vec<u32> {
        let at = usize::try_from(message).unwrap_or(usize::MAX);
        let Some(group) = self.messages.get(at).and_then(|message| message.group) else {
            return vec![message];
        };
        let mates = (0..)
            .zip(&self.messages)
            .filter(|(_, other)| other.group == Some(group));
        mates.map(|(mate, _)| mate).collect()
    }

    /// Whether the proxy's own reading agrees: the same messages, parts and texts.
    pub(super) fn assert_is(&self, prompt: &Prompt) {
        assert_eq!(self.messages.len(), prompt.messages.len(), "messages");
        assert_eq!(self.inserted, prompt.inserted, "the inserted message");
        let last_user = self.messages.iter().rposition(Message::is_user);
        assert_eq!(last_user, prompt.last_user, "the last user message");
        for (at, (message, read)) in self.messages.iter().zip(&prompt.messages).enumerate() {
            let mine = message
                .parts
                .iter()
                .map(|part| (part.kind, part.text.as_str()));
            let theirs = read.parts.iter().map(|part| match part {
                prompt::Part::Text(text) => (Kind::Text, text.text.as_str()),
                prompt::Part::ToolResult(result) => (Kind::Result, result.content.text.as_str()),
                _ => (Kind::Fixed, ""),
            });
            assert_eq!(
                mine.collect::<Vec<_>>(),
                theirs.collect::<Vec<_>>(),
                "message {at}"
            );
            let mates = self.messages.iter().zip(&prompt.messages);
            for (mate, (other, other_read)) in mates.enumerate() {
                let is_mate = message.group.is_some() && message.group == other.group;
                let is_read = read.group.is_some() && read.group == other_read.group;
                assert_eq!(
                    is_mate, is_read,
                    "whether {at} and {mate} stand or fall together"
                );
            }
        }
    }
}

impl Message<'_> {
    pub(super) fn is_user(&self) -> bool {
        self.role == "user"
    }

    fn is_tool(&self) -> bool {
        matches!(self.role.as_str(), "tool" | "function")
    }
}

impl Part<'_> {
    fn shape(&self) -> PartShape<'_> {
        match self.kind {
            Kind::Text => PartShape::Text(&self.text),
            Kind::Result => PartShape::ToolResult(&self.text),
            Kind::Fixed => PartShape::Fixed,
        }
    }
}

fn message<'v>(value: &'v Value<'v>) -> Message<'v> {
    let role = value
        .member("role")
        .and_then(Value::string)
        .unwrap_or_default();
    let content = value.member("content");
    let mut parts = match content.map(|content| (content, &content.content)) {
        Some((content, Content::Text(_))) => vec![Part::text(content, None)],
        Some((content, Content::List(_))) => content
            .elements()
            .unwrap_or_default()
            .into_iter()
            .map(part)
            .collect(),
        _ => Vec::new(),
    };
    let mut message = Message {
        value: Some(value),
        role,
        parts: Vec::new(),
        group: None,
    };
    if message.is_tool() {
        if parts.is_empty() {
            parts.push(Part {
                kind: Kind::Text,
                ..Part::fixed()
            });
        }
        for part in parts.iter_mut().filter(|part| part.kind == Kind::Text) {
            part.kind = Kind::Result;
        }
    } else {
        parts.extend(calls(value).into_iter().map(|_| Part::fixed()));
    }
    message.parts = parts;
    message
}

impl<'v> Part<'v> {
    fn fixed() -> Self {
        Self {
            kind: Kind::Fixed,
            text: String::new(),
            literal: None,
            entry: None,
        }
    }

    fn text(literal: &'v Value<'v>, entry: Option<&'v Value<'v>>) -> Self {
        let text = literal.string().unwrap_or_default();
        Self {
            kind: Kind::Text,
            text,
            literal: Some(literal),
            entry,
        }
    }
}

/// An element of a content that is a list.
fn part<'v>(element: &'v Value<'v>) -> Part<'v> {
    let literal = match element.member("type").and_then(Value::string).as_deref() {
        _ if element.string().is_some() => Some(element),
        Some("text" | "input_text" | "output_text") | None => element.member("text"),
        Some("refusal") => element.member("refusal"),
        Some(_) => None,
    };
    match literal.filter(|literal| literal.string().is_some()) {
        Some(literal) => Part::text(literal, Some(element)),
        None => Part {
            entry: Some(element),
            ..Part::fixed()
        },
    }
}

/// The ids of a message's tool calls; empty for one without.
fn calls(message: &Value<'_>) -> Vec<String> {
    let listed = message
        .member("tool_calls")
        .and_then(Value::elements)
        .unwrap_or_default();
    let is_object = |call: &&Value<'_>| matches!(call.content, Content::Object(_));
    let ids = listed.into_iter().filter(is_object);
    let ids = ids.map(|call| {
        call.member("id")
            .and_then(Value::string)
            .unwrap_or_default()
    });
    let older = message
        .member("function_call")
        .filter(is_object)
        .map(|_| String::new());
    ids.chain(older).collect()
}

/// A result belongs to the latest call with its id; without one, to the message that it follows.
fn group(messages: &mut [Message<'_>]) {
    let mut callers: HashMap<String, usize> = HashMap::new();
    let mut followed = None;
    for (at, message) in messages.iter_mut().enumerate() {
        let Some(value) = message.value else {
            followed = None;
            continue;
        };
        if message.is_tool() {
            let id = value
                .member("tool_call_id")
                .and_then(Value::string)
                .unwrap_or_default();
            message.group = match id.as_str() {
                "" => followed,
                id => callers.get(id).copied(),
            };
            continue;
        }
        let calls = calls(value);
        followed = (!calls.is_empty()).then_some(at);
        message.group = followed;
        callers.extend(calls.into_iter().map(|id| (id, at)));
    }
}

/// The `sluicegate` field as a message; none when it has no entry.
fn extension<'v>(value: &'v Value<'v>) -> Option<Message<'v>> {
    let list = |name| {
        value
            .member(name)
            .and_then(Value::elements)
            .unwrap_or_default()
    };
    let terms = list("terms").into_iter().map(term);
    let chunks = list("context").into_iter().map(|element| {
        let literal = if element.string().is_some() {
            Some(element)
        } else {
            element.member("text")
        };
        literal.map_or_else(Part::fixed, |literal| Part::text(literal, Some(element)))
    });
    let parts: Vec<Part<'v>> = terms.chain(chunks).collect();
    (!parts.is_empty()).then(|| Message {
        value: None,
        role: "system".to_owned(),
        parts,
        group: None,
    })
}

fn term<'v>(element: &'v Value<'v>) -> Part<'v> {
    if element.string().is_some() {
        return Part::text(element, Some(element));
    }
    let field = |name| element.member(name).and_then(Value::string);
    let term = field("term").unwrap_or_default();
    let text = match field("definition") {
        Some(definition) => format!("{term}: {definition}"),
        None => term,
    };
    Part {
        text,
        entry: Some(element),
        kind: Kind::Text,
        literal: None,
    }
}

/// A prompt or an input: one message with a part for each.
fn prompts<'v>(value: &'v Value<'v>) -> Option<Message<'v>> {
    let parts = match &value.content {
        Content::Text(_) => vec![Part::text(value, None)],
        Content::List(_) => {
            let elements = value.elements().unwrap_or_default();
            match elements.first() {
                Some(first) if matches!(first.content, Content::Number) => vec![Part::fixed()],
                _ => {
                    let part = |element: &'v Value<'v>| match element.string() {
                        Some(_) => Part::text(element, None),
                        None => Part::fixed(),
                    };
                    elements.into_iter().map(part).collect()
                }
            }
        }
        Content::Word | Content::Number | Content::Object(_) => return None,
    };
    Some(Message {
        value: None,
        role: "user".to_owned(),
        parts,
        group: None,
    })
}
