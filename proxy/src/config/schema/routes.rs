//! `[[routes]]` as typed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Time;

/// Sends the requests that match to a pool.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// Shown in logs, unique: 1 to 64 bytes of `a-z 0-9 - _ .`. Left out, `route-1`, `route-2` and
    /// so on by position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What a request must be; every condition that is present must hold. Left out, everything
    /// matches.
    #[serde(default, rename = "match")]
    pub(crate) matches: Match,
    /// Name of the pool.
    pub(crate) pool: String,
    /// Pools to go to, in order, when the ones before failed and nothing was sent to the client.
    #[serde(default)]
    pub(crate) fallback: Vec<String>,
    /// A 429 of a pool goes to the next pool of the chain; otherwise the client gets it.
    #[serde(default)]
    pub(crate) fallback_on_429: bool,
    /// The route's pool and its first model win over a known model name in the request.
    #[serde(default)]
    pub(crate) override_model: bool,
    /// Sampling parameters for requests that are silent about them.
    #[serde(default)]
    pub(crate) defaults: Defaults,
    /// The most that a request may ask for.
    #[serde(default)]
    pub(crate) caps: Caps,
    /// Runs the compressors.
    #[serde(default)]
    pub(crate) compress: bool,
    /// Allows answers from the cache, and their storage.
    #[serde(default = "yes")]
    pub(crate) cache: bool,
    /// Attempts in each pool of the chain.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub(crate) attempts: u32,
    /// Retries when a connection broke after the request was sent and before any byte came back.
    /// Left out: for chat, completions and embeddings, not for other paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_ambiguous: Option<bool>,
    /// When the client gets the head of a streamed answer.
    #[serde(default)]
    pub(crate) commit: Commit,
    /// Time-outs towards the backends.
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
}

fn yes() -> bool {
    true
}

fn two() -> u32 {
    2
}

/// Conditions on a request. A list means any of its entries.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Match {
    /// What the classifiers said: 1 to 64 bytes of `a-z 0-9 - _`.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) label: OneOrMany,
    /// The model as the client wrote it; `*` at the end matches any rest.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) model: OneOrMany,
    /// Beginning of the path, for example `/v1/embeddings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Headers, all of them, with their exact values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) header: BTreeMap<String, String>,
    /// Who pays.
    #[serde(skip_serializing_if = "OneOrMany::is_empty")]
    pub(crate) tenant: OneOrMany,
    /// What the request carries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) modality: Vec<Modality>,
    /// Least complexity that a classifier must see, 0 to 1; a request of unknown complexity does
    /// not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) complexity_at_least: Option<f32>,
    /// Whether the request offers tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tools: Option<bool>,
}

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Modality {
    /// Text alone.
    Text,
    /// Pictures.
    Image,
    /// Sound.
    Audio,
    /// Video.
    Video,
    /// Texts to embed.
    Embedding,
}

impl Modality {
    /// The word that classifiers use.
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

/// A string or a list of strings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Typed")]
pub(crate) struct OneOrMany(pub(crate) Vec<String>);

impl OneOrMany {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Typed {
    One(String),
    Many(Vec<String>),
}

impl From<Typed> for OneOrMany {
    fn from(typed: Typed) -> Self {
        match typed {
            Typed::One(text) => Self(vec![text]),
            Typed::Many(texts) => Self(texts),
        }
    }
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "a string or a list of strings",
            "type": ["string", "array"],
            "items": { "type": "string" },
            "minItems": 1,
        })
    }
}

/// Sampling parameters for a silent client.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Defaults {
    /// Longest answer, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) max_tokens: Option<u32>,
    /// 0 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub(crate) temperature: Option<f64>,
    /// 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) top_p: Option<f64>,
    /// Texts at which the model stops.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1)))]
    pub(crate) stop: Vec<String>,
}

/// The most that a request may ask for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Caps {
    /// Longest answer, in tokens; a request that asks for more is lowered to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) max_tokens: Option<u32>,
}

/// When the client gets the head of a streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Commit {
    /// With the first content, reasoning or tool call: until then another backend can still take
    /// over.
    #[default]
    Content,
    /// As soon as the backend's head is there.
    Head,
}

/// Time-outs towards the backends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// For the connection, TLS included.
    pub(crate) connect: Time,
    /// From the request's last byte to the first content.
    pub(crate) first_token: Time,
    /// Between two reads after that.
    pub(crate) between_bytes: Time,
    /// For the whole request with all its attempts.
    pub(crate) total: Time,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Time::seconds(2),
            first_token: Time::seconds(120),
            between_bytes: Time::seconds(60),
            total: Time::seconds(600),
        }
    }
}
