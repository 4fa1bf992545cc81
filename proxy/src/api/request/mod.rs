//! A request body: what it says ([`Request::prompt`]), and changes to it in the client's own bytes.
//!
//! [`parse()`] reads the body once and keeps the places of its values. [`Request::apply`] makes the
//! cuts of a compressor, [`Request::render`] gives the body that goes to an upstream. Both splice:
//! what no decision touches leaves as it came, down to duplicate keys, number spellings and escapes.
//!
//! Lenient towards what is unknown (types of parts, fields): the upstream judges that. Strict where
//! the request cannot be routed, shown to a plugin or cut: not JSON, or `model`, `stream`,
//! `messages`, a message, its role or its content of another type than the API says. A byte order
//! mark is tolerated and stays; half a surrogate pair reads as U+FFFD and stays; anything behind the
//! object is an error. Of duplicate keys the last one holds.
//!
//! For requests of clients that is not all: [`screen()`] bounds what may be parsed, and
//! [`Request::check`] refuses what an upstream could trip over or read in another way.

mod check;
mod edit;
mod extension;
mod media;
mod message;
mod parameters;
mod parse;
mod render;
mod screen;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::prompt::Prompt;

pub(crate) use check::Rules;
pub(crate) use parse::parse;
pub(crate) use render::Changes;
pub(crate) use screen::screen;

/// A parsed request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// As the client sent it, or as [`Request::apply`] left it.
    pub(crate) body: Bytes,
    /// Shared: a plugin call may go to another thread.
    pub(crate) prompt: Arc<Prompt>,
    places: Places,
}

/// Where things stand in the body.
#[derive(Debug, Clone, Default)]
struct Places {
    /// All members of the body, in order.
    members: Vec<Place>,
    /// The value of `messages` that holds, in a chat request.
    messages: Option<Range<usize>>,
    /// Prompts or inputs in the request; 1 for chat.
    prompts: u32,
    /// A field that something is read from, and that is there more than once.
    repeated: Option<String>,
}

/// A member of the body.
#[derive(Debug, Clone)]
struct Place {
    name: Name,
    /// The key's literal, quotes included.
    key: Range<usize>,
    value: Range<usize>,
}

impl Place {
    /// From the first byte of the key to the last one of the value.
    fn whole(&self) -> Range<usize> {
        self.key.start..self.value.end
    }
}

/// Keys that something is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Model,
    MaxTokens,
    MaxCompletionTokens,
    Extension,
    Unnamed,
}

/// Why a request cannot be worked on; the client gets it with status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct RequestError {
    /// One sentence for the client.
    pub(crate) message: String,
    /// The field, for example `messages[2].content`.
    pub(crate) param: Option<String>,
    /// OpenAI's error code.
    pub(crate) code: &'static str,
}

impl RequestError {
    /// The body is not JSON.
    fn not_json(message: String) -> Self {
        Self {
            message,
            param: None,
            code: "invalid_json",
        }
    }

    /// A field that must be there is not.
    fn missing(param: &str) -> Self {
        Self {
            message: format!("`{param}` is missing."),
            param: Some(param.to_owned()),
            code: "missing_required_parameter",
        }
    }

    /// A field has another type than it must.
    fn wrong_type(param: String, expected: &str, value: &str) -> Self {
        let got = super::json::Kind::of(value).as_str();
        Self {
            message: format!("`{param}` must be {expected}, not {got}."),
            param: Some(param),
            code: "invalid_type",
        }
    }

    /// A field is there twice: who reads the first does something else than who reads the last.
    fn repeated(param: &str) -> Self {
        Self {
            message: format!("`{param}` is there more than once."),
            param: Some(param.to_owned()),
            code: "repeated_parameter",
        }
    }

    /// A field has a value that it must not have.
    fn wrong_value(param: &str, problem: &str) -> Self {
        Self {
            message: format!("`{param}` {problem}."),
            param: Some(param.to_owned()),
            code: "invalid_value",
        }
    }
}

impl Request {
    /// Answers that a whole response holds: `n` for each prompt.
    pub(crate) fn expected_choices(&self) -> u32 {
        self.prompt
            .parameters
            .choices
            .saturating_mul(self.places.prompts)
    }

    /// The members of the body in order, duplicates included: the key's literal and the value.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        let places = self.places.members.iter();
        places.map(|place| (self.slice(&place.key), self.slice(&place.value)))
    }

    /// A piece of the body. Whatever has a place in it begins and ends between characters.
    fn slice(&self, range: &Range<usize>) -> &str {
        let bytes = self.body.get(range.clone()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}
