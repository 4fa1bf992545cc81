//! What an answer, streamed or plain, says about itself.
//!
//! One borrowed pass per event or body: fields that nobody here reads are skipped, and what is read
//! stays a slice. Fields of unexpected types read as absent, since the upstream's dialect is its own.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, Kind};

/// Tokens as the upstream reported them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: u32,
    pub(crate) completion: u32,
}

impl Usage {
    /// From a `usage` object; none when it is not one.
    pub(crate) fn of(value: &str) -> Option<Self> {
        let members = json::members(value).ok()?;
        let count = |name| json::last(&members, name).and_then(json::count);
        let usage = Self {
            prompt: count("prompt_tokens").unwrap_or_default(),
            completion: count("completion_tokens").unwrap_or_default(),
        };
        (!members.is_empty()).then_some(usage)
    }
}

/// Why the model stopped. Of several choices, the worst: a refusal, then [`Self::Other`], then a
/// length, then tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finish {
    /// It was done, or met a stop sequence.
    Stop,
    /// It asks for tools.
    ToolCalls,
    /// `max_tokens` was reached.
    Length,
    /// None of these, or it did not say.
    Other,
    /// It, or a filter, refused.
    Refusal,
}

impl Finish {
    /// From a `finish_reason`.
    fn of(reason: &str) -> Self {
        match reason {
            "stop" | "eos" | "end_turn" | "stop_sequence" => Self::Stop,
            "tool_calls" | "function_call" | "tool_use" => Self::ToolCalls,
            "length" | "max_tokens" | "model_length" => Self::Length,
            "content_filter" | "refusal" | "safety" => Self::Refusal,
            _ => Self::Other,
        }
    }
}

/// The fields of a chunk or of a plain answer that are read.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub(super) model: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    /// Embeddings.
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// One choice of it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    /// Completions.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    /// Chat, streamed.
    #[serde(borrow)]
    delta: Option<Said<'a>>,
    /// Chat, plain.
    #[serde(borrow)]
    message: Option<Said<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads a chunk or a plain answer: also one with duplicate keys, of which the last one holds.
    ///
    /// `rewritten` is room for the rare body that must be written anew to be read.
    pub(super) fn read(
        bytes: &'a [u8],
        rewritten: &'a mut String,
    ) -> Result<Self, serde_json::Error> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return serde_json::from_slice(bytes);
        };
        // From a string: its slices need no check of their own.
        match serde_json::from_str(text) {
            Err(error) if error.is_data() => {
                let value: serde_json::Value = serde_json::from_slice(bytes)?;
                *rewritten = value.to_string();
                serde_json::from_str(rewritten)
            }
            read => read,
        }
    }

    /// The model's name.
    pub(super) fn model_name(&self) -> Option<String> {
        let name = json::text(self.model?.get())?;
        (!name.is_empty()).then(|| name.into_owned())
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        Usage::of(self.usage?.get())
    }

    /// It is an error in place of an answer.
    pub(super) fn is_error(&self) -> bool {
        self.error.is_some_and(has_content)
            || self
                .object
                .is_some_and(|object| object.get() == "\"error\"")
    }
}

impl Choice<'_> {
    pub(super) fn index(&self) -> u32 {
        self.index
            .and_then(|index| json::count(index.get()))
            .unwrap_or_default()
    }

    /// Why this choice ended; none while it goes on.
    pub(super) fn finish(&self) -> Option<Finish> {
        let reason = json::text(self.finish_reason?.get())?;
        Some(if self.refuses() {
            Finish::Refusal
        } else {
            Finish::of(&reason)
        })
    }

    /// The literal of its text, or of this piece of it.
    pub(super) fn text(&self) -> Option<&str> {
        let text = self.text.or_else(|| self.said()?.content)?.get();
        (Kind::of(text) == Kind::Text).then_some(text)
    }

    pub(super) fn refuses(&self) -> bool {
        self.said()
            .and_then(|said| said.refusal)
            .is_some_and(has_content)
    }

    /// It carries text, reasoning, a refusal, a tool call or sound.
    pub(super) fn has_content(&self) -> bool {
        self.text.is_some_and(has_content)
            || self.said().is_some_and(|said| {
                [
                    said.content,
                    said.reasoning_content,
                    said.reasoning,
                    said.refusal,
                    said.tool_calls,
                    said.function_call,
                    said.audio,
                ]
                .into_iter()
                .flatten()
                .any(has_content)
            })
    }

    fn said(&self) -> Option<&Said<'_>> {
        self.delta.as_ref().or(self.message.as_ref())
    }
}

/// Neither null nor empty.
fn has_content(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"" | "[]" | "{}" | "false")
}
