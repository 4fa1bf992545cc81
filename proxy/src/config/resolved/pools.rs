//! `[[models]]` and `[[pools]]`: what is served, and where.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{BackendName, PoolName, Secret};

/// One of `[[models]]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// In tokens.
    pub(crate) context_length: Option<u32>,
    /// For example `chat`, `vision`, `tools`, `embeddings`.
    pub(crate) capabilities: Vec<String>,
}

/// One of `[[pools]]`: backends that serve the same models.
#[derive(Debug, PartialEq)]
pub(crate) struct Pool {
    pub(crate) name: PoolName,
    /// Never empty.
    pub(crate) backends: Vec<Backend>,
    /// Model names that clients may ask for and this pool serves, in the file's order. The first is
    /// what `auto` becomes; empty: the client's model name is sent as it is.
    pub(crate) models: Vec<String>,
    /// Client's model name to the name that the backends know, where they differ.
    pub(crate) model_map: BTreeMap<String, String>,
    /// Sent as `Authorization: Bearer`.
    pub(crate) api_key: Option<Secret>,
    /// Sends the caller's own bearer; only in auth mode `pass_through`.
    pub(crate) pass_through: bool,
    /// Client headers that are sent on besides the ones that every pool gets; lower case.
    pub(crate) forward_headers: Vec<http::HeaderName>,
    /// Requests that it serves at once; none: any number.
    pub(crate) max_requests_in_flight: Option<usize>,
    /// Answer headers that clients get although they are hidden by default; lower case.
    pub(crate) show_headers: Vec<http::HeaderName>,
    /// Answer headers that clients do not get besides those hidden by default; lower case.
    pub(crate) hide_headers: Vec<http::HeaderName>,
    /// Health checks; none: only traffic tells.
    pub(crate) health: Option<HealthCheck>,
}

/// One of `[[pools.backends]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) name: BackendName,
    pub(crate) identity: BackendIdentity,
}

/// What makes two backends the same across reloads: where they are and how they are spoken to.
/// Health, in-flight counts and connections are kept by this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BackendIdentity {
    pub(crate) tls: bool,
    /// Host name or address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// In front of `/v1/…`; empty or `/prefix`, without a slash at the end.
    pub(crate) base_path: String,
    pub(crate) protocol: Protocol,
    /// Server name for TLS and certificate check; default: `host`.
    pub(crate) server_name: String,
    /// PEM bundle that replaces the system's roots for this backend.
    pub(crate) ca_file: Option<PathBuf>,
}

/// What is spoken to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.1, the default.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    Http2,
}

/// Active health check of a pool's backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    /// Default `/health`; 2xx is healthy.
    pub(crate) path: String,
    /// Default 5 s.
    pub(crate) interval: Duration,
    /// Default 2 s.
    pub(crate) timeout: Duration,
    /// Failures in a row that make a backend unhealthy; default 3.
    pub(crate) unhealthy_after: u32,
    /// Successes in a row that make it healthy again; default 1.
    pub(crate) healthy_after: u32,
}
