//! `[[routes]]`: which pool gets a request, and on what terms.

use std::time::Duration;

use super::{Label, PoolName, Tenant};

/// One of `[[routes]]`.
#[derive(Debug, PartialEq)]
pub(crate) struct Route {
    /// As typed, else `route-1`, `route-2`, …
    pub(crate) name: String,
    pub(crate) matches: RouteMatch,
    pub(crate) pool: PoolName,
    /// Pools to go to, in order, when `pool` fails before the commit point.
    pub(crate) fallback: Vec<PoolName>,
    /// A 429 of a pool goes to the next pool of the chain; default: it is passed on.
    pub(crate) fallback_on_429: bool,
    /// The route's pool and its first model win over a known model name in the request.
    pub(crate) override_model: bool,
    /// Used where the request is silent.
    pub(crate) defaults: Defaults,
    /// Most that a request may ask for.
    pub(crate) max_tokens_cap: Option<u32>,
    /// Runs the compressors; default false.
    pub(crate) compress: bool,
    /// Allows look-up and storage; default true.
    pub(crate) cache: bool,
    /// Attempts in each pool of the chain; default 2.
    pub(crate) attempts: u32,
    /// Retries when a connection broke after the request was sent and before any byte came back.
    /// None: by endpoint, on for chat, completions and embeddings.
    pub(crate) retry_ambiguous: Option<bool>,
    pub(crate) commit: Commit,
    pub(crate) timeouts: Timeouts,
}

/// What a route asks of a request; every condition that is present must hold.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RouteMatch {
    /// Any of these.
    pub(crate) labels: Vec<Label>,
    /// Any of these model names, as the client wrote them; `*` at the end matches any rest.
    pub(crate) models: Vec<String>,
    /// Prefix of the request's path.
    pub(crate) path: Option<String>,
    /// All of these, name and exact value.
    pub(crate) headers: Vec<(http::HeaderName, String)>,
    pub(crate) tenants: Vec<Tenant>,
    /// Any of `text`, `image`, `audio`, `video`, `embedding`.
    pub(crate) modalities: Vec<String>,
    /// 0 to 1; a request of unknown complexity does not match.
    pub(crate) complexity_at_least: Option<f32>,
    /// Whether the request offers tools.
    pub(crate) tools: Option<bool>,
}

/// Sampling parameters for a silent client. Each as the JSON text to insert.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Defaults {
    pub(crate) max_tokens: Option<u32>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) stop: Vec<String>,
}

/// When the client gets the head of a streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// With the first event that carries content, reasoning or a tool call.
    Content,
    /// As soon as the upstream's head is there.
    Head,
}

/// Time-outs of a route's upstream exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// TCP and TLS; default 2 s.
    pub(crate) connect: Duration,
    /// From the request's last byte to the first content; default 120 s.
    pub(crate) first_token: Duration,
    /// Between two reads after that; default 60 s.
    pub(crate) between_bytes: Duration,
    /// The whole request with all its attempts; default 600 s.
    pub(crate) total: Duration,
}
