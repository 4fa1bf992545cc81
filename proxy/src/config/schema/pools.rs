//! `[[models]]` and `[[pools]]` as typed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// What is known about one model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    /// As clients write it.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) name: String,
    /// Longest prompt and answer together, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) context_length: Option<u32>,
    /// For example `chat`, `vision`, `tools`, `embeddings`.
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
}

/// Backends that serve the same models.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    /// What routes call it: 1 to 64 bytes of `a-z 0-9 - _ .`.
    pub(crate) name: String,
    /// Where its models are served; the one with the fewest requests in flight is asked.
    #[schemars(length(min = 1))]
    pub(crate) backends: Vec<Backend>,
    /// Model names that clients may ask for. The first is what `auto` and unknown names become.
    /// Empty: the client's model name is sent as it is.
    #[serde(default)]
    pub(crate) models: Vec<String>,
    /// Client's model name to the name that the backends know, where they differ.
    #[serde(default)]
    pub(crate) model_map: BTreeMap<String, String>,
    /// Sent to the backends as `Authorization: Bearer`, best as `"${NAME}"` or `"${file:/path}"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<String>,
    /// Sends the caller's own bearer; only in auth mode `pass_through`.
    #[serde(default)]
    pub(crate) pass_through: bool,
    /// Client headers that are sent on besides those that every pool gets. `authorization` and
    /// `cookie` never are.
    #[serde(default)]
    pub(crate) forward_headers: Vec<String>,
    /// Requests that the pool serves at once. Further ones go to the route's next pool, or get 503.
    /// Left out, any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) max_requests_in_flight: Option<u32>,
    /// Headers of answers that clients get although they are hidden by default: cookies, what names
    /// servers and accounts (`server`, `via`, `openai-organization`, `x-envoy-…`), and policies for
    /// the backend's own host (`strict-transport-security`, `alt-svc`).
    #[serde(default)]
    pub(crate) show_headers: Vec<String>,
    /// Headers of answers that clients do not get, besides those that are hidden by default.
    #[serde(default)]
    pub(crate) hide_headers: Vec<String>,
    /// Asks each backend regularly whether it is well. Left out, only traffic tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<Health>,
}

/// One address of a pool.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    /// `http://HOST:PORT` or `https://HOST`, with an optional base path. A `/v1` at its end is taken
    /// off, since requests carry it.
    pub(crate) url: String,
    /// Shown in logs and metrics, unique in its pool: 1 to 64 bytes of `a-z 0-9 - _ .`. Left out,
    /// `POOL-1`, `POOL-2` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What is spoken to it.
    #[serde(default)]
    pub(crate) protocol: Protocol,
    /// Name that its certificate must carry; left out, the host of `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
    /// PEM file of certificates that replaces the system's roots for this backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<String>,
}

/// What is spoken to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "h1")]
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    #[serde(rename = "h2")]
    Http2,
}

/// Active health check of a pool's backends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Health {
    /// Path that is asked for, below the backend's base path; a 2xx is healthy.
    pub(crate) path: String,
    /// Time between two checks.
    pub(crate) interval: Time,
    /// Longest time that one check may take.
    pub(crate) timeout: Time,
    /// Failures in a row that make a backend unhealthy.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) unhealthy_after: u32,
    /// Successes in a row that make it healthy again.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) healthy_after: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            interval: Time::seconds(5),
            timeout: Time::seconds(2),
            unhealthy_after: 3,
            healthy_after: 1,
        }
    }
}
