//! What a request says, in one form for every endpoint: messages of parts, with their places in
//! the body, so that a cut of a text can be made in the bytes that the client sent.

use std::ops::Range;

/// The API of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
}

/// A parsed request, as plugins and routes see it.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) endpoint: Endpoint,
    /// As the client wrote it.
    pub(crate) model: String,
    /// In order; `sluicegate.terms` and `.context` are a message of their own in front of the last
    /// user message.
    pub(crate) messages: Vec<Message>,
    /// Position of the last message with the role `user`.
    pub(crate) last_user: Option<usize>,
    /// Position of the message made of `sluicegate.terms` and `.context`.
    pub(crate) inserted: Option<usize>,
    /// Names of the offered tools, in order.
    pub(crate) tools: Vec<String>,
    pub(crate) parameters: Parameters,
    /// OpenAI's `user`.
    pub(crate) user: Option<String>,
    /// Estimate of all tokens, tool schemas and media included.
    pub(crate) prompt_tokens: u32,
    /// Bytes of all text of all messages.
    pub(crate) text_bytes: usize,
}

impl Prompt {
    /// Whether it is made of messages, some of which may go; else of prompts or inputs, each of
    /// which has an answer.
    pub(crate) fn is_conversation(&self) -> bool {
        match self.endpoint {
            Endpoint::Chat => true,
            Endpoint::Completions => false,
            // Multimodal embedding models take a conversation.
            Endpoint::Embeddings => self.messages.iter().all(|message| message.source.is_some()),
        }
    }

    /// About the bytes of memory that it takes: a message costs its place also where it says nothing.
    pub(crate) fn memory_bytes(&self) -> usize {
        let parts: usize = self
            .messages
            .iter()
            .map(|message| message.parts.len())
            .sum();
        let texts: usize = self.texts().map(str::len).sum();
        texts + parts * size_of::<Part>() + self.messages.len() * size_of::<Message>()
    }

    /// All text that a model reads, in order: of messages and of tool results.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        parts.filter_map(|part| match part {
            Part::Text(text) => Some(text.text.as_str()),
            Part::ToolResult(result) => Some(result.content.text.as_str()),
            Part::Image(_)
            | Part::Audio(_)
            | Part::Video(_)
            | Part::File(_)
            | Part::ToolCall(_)
            | Part::Other(_) => None,
        })
    }
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part>,
    /// Estimate of its tokens.
    pub(crate) tokens: u32,
    /// Messages with the same number stand or fall together: tool calls and their results.
    pub(crate) group: Option<u32>,
    /// The message's value in the body; none for the inserted one and for prompts that are not
    /// chat.
    pub(crate) source: Option<Range<usize>>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Other,
}

/// One piece of a message.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Text(Text),
    Image(Media),
    Audio(Media),
    Video(Media),
    File(Media),
    ToolCall(ToolCall),
    ToolResult(ToolResult),
    /// A part of a type without a name here: its `type`, at most 64 bytes.
    Other(String),
}

/// A text and where it stands in the body.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Decoded.
    pub(crate) text: String,
    pub(crate) origin: Origin,
    /// The string literal, quotes included; none for what has no literal of its own.
    pub(crate) literal: Option<Range<usize>>,
    /// The part's value in the list of parts; none when the content is one string.
    pub(crate) source: Option<Range<usize>>,
}

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The client's message.
    Message,
    /// An entry of `sluicegate.terms`, as `term: definition`.
    Term,
    /// An entry of `sluicegate.context`.
    Chunk,
}

/// Something that is not text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Media {
    pub(crate) media_type: Option<String>,
    pub(crate) name: Option<String>,
    /// After base64 decoding.
    pub(crate) size: Option<u32>,
}

/// A tool call of the assistant.
#[derive(Debug, Clone)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Bytes of its arguments.
    pub(crate) size: u32,
}

/// A tool's answer.
#[derive(Debug, Clone)]
pub(crate) struct ToolResult {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) content: Text,
}

/// How the client wants the answer made. None: not given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) max_tokens: Option<u32>,
    /// 1 when not given.
    pub(crate) choices: u32,
    pub(crate) seeded: bool,
    pub(crate) streaming: bool,
    /// `stream_options.include_usage`
    pub(crate) include_usage: bool,
    pub(crate) format: AnswerFormat,
    pub(crate) tool_choice: ToolChoice,
    pub(crate) reasoning_effort: Option<String>,
    pub(crate) stored: bool,
    pub(crate) audio_output: bool,
}

/// `response_format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum AnswerFormat {
    #[default]
    Text,
    JsonObject,
    JsonSchema,
}

/// `tool_choice`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    Named,
}
