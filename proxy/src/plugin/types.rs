//! What the stages and the plugins exchange: plain types, the same for every contract version.

use std::time::Duration;

/// What a classifier believes about a request. Checked: see [`super::check`].
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Opinion {
    /// None: it abstains.
    pub(crate) label: Option<Scored>,
    /// Runners-up, best first: at most 8.
    pub(crate) alternatives: Vec<Scored>,
    /// 0 to 1.
    pub(crate) complexity: Option<f32>,
    /// A well-formed BCP 47 tag.
    pub(crate) language: Option<String>,
    pub(crate) modality: Option<Modality>,
    /// At most 16, names unique.
    pub(crate) attributes: Vec<Attribute>,
    /// At most 16 of 256 bytes; empty unless the call asked for an explanation.
    pub(crate) reasons: Vec<String>,
}

/// A label with its confidence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    /// 1 to 64 bytes of `a-z 0-9 - _`.
    pub(crate) label: String,
    /// 0 to 1.
    pub(crate) confidence: f32,
}

/// A fact about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    /// 1 to 64 bytes of `a-z 0-9 - .`
    pub(crate) name: String,
    /// At most 256 bytes.
    pub(crate) value: String,
}

/// What an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modality {
    Text,
    Image,
    Audio,
    Video,
    Embedding,
}

impl Modality {
    /// The name that routes match.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Embedding => "embedding",
        }
    }
}

/// What a compressor is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Budget {
    /// Prompt tokens to come down to; none: cut only what is surely of no use.
    pub(crate) target_tokens: Option<u32>,
    /// What the classifiers settled on.
    pub(crate) label: Option<String>,
    pub(crate) language: Option<String>,
}

/// What a compressor wants, checked as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Compression {
    pub(crate) plan: sluicegate_edits::Plan,
}

/// What the classifiers settled on.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Summary {
    pub(crate) label: Option<String>,
    /// 0 without a label.
    pub(crate) confidence: f32,
    pub(crate) complexity: Option<f32>,
    pub(crate) language: Option<String>,
    pub(crate) attributes: Vec<Attribute>,
}

/// A cache policy for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) lookup: bool,
    pub(crate) store: bool,
    /// 1 s to 365 d; of no meaning when `store` is false.
    pub(crate) ttl: Duration,
    pub(crate) scope: Scope,
    /// Fields left out of the key, by their names in the contract; the slot allows each.
    pub(crate) ignore: Vec<&'static str>,
    /// At most 8 of 256 bytes.
    pub(crate) key_parts: Vec<String>,
    /// At most 1,024 bytes; handed back with [`AnswerFacts`].
    pub(crate) memo: String,
    pub(crate) reason: Option<String>,
}

/// Who shares a cached answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Global,
    Tenant,
    Session,
}

/// A whole answer, before it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerFacts {
    /// For the log.
    pub(crate) request_id: String,
    /// The model that answered.
    pub(crate) model: String,
    /// True when it is not the model that the route names first.
    pub(crate) fallback: bool,
    pub(crate) finish: Finish,
    pub(crate) text_bytes: u32,
    /// First bytes of the answer's text; cut to the slot's `answer_bytes` here.
    pub(crate) head: String,
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: u32,
    pub(crate) duration: Duration,
    /// [`Decision::memo`]
    pub(crate) memo: String,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    ToolCalls,
    Refusal,
    Other,
}

/// How a plugin introduces itself, as it said; checked by [`super::describe`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PluginInfo {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    /// JSON Schema of the config table; empty: takes none.
    pub(crate) config_schema: String,
    pub(crate) wants_clock: bool,
    pub(crate) headers: Vec<String>,
    /// None: all messages.
    pub(crate) last_messages: Option<u32>,
    pub(crate) text: crate::config::TextWindow,
    pub(crate) metrics: Vec<MetricDeclaration>,
}

/// A metric that a plugin wants to write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MetricDeclaration {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) kind: MetricKind,
}

/// What a metric is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MetricKind {
    Counter,
    /// Upper bounds of the buckets.
    Histogram(Vec<f64>),
}

/// A fault in a slot's config table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ConfigIssue {
    /// JSON Pointer to the value; empty for the whole table.
    pub(crate) pointer: String,
    pub(crate) message: String,
}
