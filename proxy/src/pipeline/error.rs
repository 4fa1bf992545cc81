//! Why the proxy itself refused or failed a request: one table of status, type and code.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::api;
use crate::config::{BackendName, PoolName, SlotName};
use crate::upstream::{AttemptError, Retry, UpstreamError};

/// A refusal or failure of ours. An upstream 4xx is not one: it is an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no valid API key; send it as `Authorization: Bearer <key>`")]
    Unauthenticated,
    #[error("there is no `{method} {path}` here; the OpenAI API lives under `/v1`")]
    NotFound { method: String, path: String },
    #[error("no pool serves the model `{model}`")]
    UnknownModel { model: String },
    #[error("`{path}` takes {allowed}, not {method}")]
    MethodNotAllowed {
        method: String,
        path: String,
        allowed: &'static str,
    },
    #[error("connection upgrades are not supported")]
    UpgradeUnsupported,
    #[error("a request body with `content-encoding: {encoding}` is not supported; send it plain")]
    EncodedBody { encoding: String },
    #[error("too many connections; try again in a moment")]
    TooManyConnections,
    #[error("too many requests are in flight; try again in a moment")]
    Overloaded,
    #[error("pool `{pool}` serves as many requests as it may; try again in a moment")]
    PoolOverloaded { pool: PoolName },
    #[error("too many bytes of requests and answers are in memory; try again in a moment")]
    BuffersFull,
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the request body did not arrive within {within:?}")]
    BodyTimeout { within: Duration },
    #[error("the request could not be read: {reason}")]
    Unreadable { reason: String },
    #[error("{message}")]
    Invalid {
        message: String,
        param: Option<String>,
        code: &'static str,
    },
    #[error("the key does not grant `route`, which a forced label needs")]
    RouteNotGranted,
    #[error("the answer is not in the cache, and `only` was asked for")]
    NotCached,
    #[error("plugin slot `{slot}` gave no decision, and the operator requires one")]
    PluginDenied { slot: SlotName },
    #[error("pool `{pool}` has no backend left to try")]
    NoBackend { pool: PoolName },
    #[error("no backend of pool `{pool}` can be reached: `{backend}` failed last")]
    UpstreamUnreachable {
        pool: PoolName,
        backend: BackendName,
        source: AttemptError,
    },
    #[error("backend `{backend}` failed before its answer was there")]
    UpstreamFailed {
        backend: BackendName,
        source: AttemptError,
    },
    #[error("backend `{backend}` sent a broken answer")]
    UpstreamBroken {
        backend: BackendName,
        source: UpstreamError,
    },
    #[error("backend `{backend}` answered {status}")]
    UpstreamErrorStatus { backend: BackendName, status: u16 },
    #[error("backend `{backend}` sent an error in place of its first token")]
    UpstreamErrorEvent { backend: BackendName },
    #[error("backend `{backend}` ended its answer before it was complete")]
    UpstreamIncomplete { backend: BackendName },
    #[error("backend `{backend}` sent no first token in time")]
    UpstreamTimeout { backend: BackendName },
    #[error("the request took longer than its route allows")]
    DeadlineExceeded,
    #[error("the client left")]
    ClientGone,
}

/// How an error reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// HTTP status.
    pub(crate) status: u16,
    /// OpenAI error `type`.
    pub(crate) kind: &'static str,
    /// OpenAI error `code` and metric label: what a client quotes, an operator can find.
    pub(crate) code: &'static str,
}

const fn row(status: u16, kind: &'static str, code: &'static str) -> Row {
    Row { status, kind, code }
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl Error {
    /// The one table.
    pub(crate) fn row(&self) -> Row {
        match self {
            Self::Unauthenticated => row(401, INVALID, "invalid_api_key"),
            Self::NotFound { .. } => row(404, INVALID, "not_found"),
            Self::UnknownModel { .. } => row(404, INVALID, "model_not_found"),
            Self::MethodNotAllowed { .. } => row(405, INVALID, "method_not_allowed"),
            Self::UpgradeUnsupported => row(501, INVALID, "upgrade_unsupported"),
            Self::EncodedBody { .. } => row(415, INVALID, "unsupported_content_encoding"),
            Self::TooManyConnections => row(503, SERVER, "too_many_connections"),
            Self::Overloaded => row(503, SERVER, "overloaded"),
            Self::PoolOverloaded { .. } => row(503, SERVER, "pool_overloaded"),
            Self::BuffersFull => row(503, SERVER, "buffers_full"),
            Self::BodyTooLarge { .. } => row(413, INVALID, "request_too_large"),
            Self::BodyTimeout { .. } => row(408, INVALID, "request_timeout"),
            Self::Unreadable { .. } => row(400, INVALID, "unreadable_request"),
            Self::Invalid { code, .. } => row(400, INVALID, code),
            Self::RouteNotGranted => row(403, INVALID, "route_not_granted"),
            Self::NotCached => row(504, INVALID, "not_cached"),
            Self::PluginDenied { .. } => row(503, SERVER, "plugin_denied"),
            Self::NoBackend { .. } => row(503, SERVER, "no_backend"),
            Self::UpstreamUnreachable { .. } => row(503, SERVER, "upstream_unreachable"),
            Self::UpstreamFailed { .. } => row(502, SERVER, "upstream_failed"),
            Self::UpstreamBroken { .. } => row(502, SERVER, "upstream_broken"),
            Self::UpstreamErrorStatus { status, .. } => {
                row(*status, SERVER, "upstream_error_status")
            }
            Self::UpstreamErrorEvent { .. } => row(502, SERVER, "upstream_error"),
            Self::UpstreamIncomplete { .. } => row(502, SERVER, "upstream_incomplete"),
            Self::UpstreamTimeout { .. } => row(504, SERVER, "upstream_timeout"),
            Self::DeadlineExceeded => row(504, SERVER, "deadline_exceeded"),
            // Nobody reads it; the number is nginx's for the access log.
            Self::ClientGone => row(499, INVALID, "client_gone"),
        }
    }

    /// Why an attempt gave no answer.
    pub(crate) fn of_attempt(pool: PoolName, backend: BackendName, source: AttemptError) -> Self {
        match source {
            AttemptError::FirstByteTimeout => Self::UpstreamTimeout { backend },
            AttemptError::Request(reason) => Self::Unreadable {
                reason: reason.to_owned(),
            },
            source if source.retry() == Retry::Safe => Self::UpstreamUnreachable {
                pool,
                backend,
                source,
            },
            source => Self::UpstreamFailed { backend, source },
        }
    }

    /// The field of the request that is at fault.
    fn param(&self) -> Option<&str> {
        match self {
            Self::Invalid { param, .. } => param.as_deref(),
            _ => None,
        }
    }

    /// True when another try of the client's may do better, but ours are spent: the SDKs retry on
    /// 5xx unless told otherwise, and their tries multiply with ours.
    pub(crate) fn retries_spent(&self) -> bool {
        matches!(
            self,
            Self::UpstreamUnreachable { .. }
                | Self::UpstreamFailed { .. }
                | Self::UpstreamBroken { .. }
                | Self::UpstreamErrorStatus { .. }
                | Self::UpstreamErrorEvent { .. }
                | Self::UpstreamIncomplete { .. }
                | Self::UpstreamTimeout { .. }
                | Self::DeadlineExceeded
        )
    }

    /// Seconds after which another try may find room; none where it would find the same.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        matches!(
            self,
            Self::TooManyConnections
                | Self::Overloaded
                | Self::PoolOverloaded { .. }
                | Self::BuffersFull
        )
        .then_some(1)
    }

    /// The header that keeps an SDK from trying again what has been tried enough.
    pub(crate) const RETRIES_SPENT: (HeaderName, HeaderValue) = (
        HeaderName::from_static("x-should-retry"),
        HeaderValue::from_static("false"),
    );

    /// OpenAI's JSON for this error.
    pub(crate) fn body(&self) -> Bytes {
        let Row { kind, code, .. } = self.row();
        api::error::body(&self.to_string(), kind, self.param(), code)
    }
}

/// A result of a stage.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl From<api::request::RequestError> for Error {
    fn from(error: api::request::RequestError) -> Self {
        Self::Invalid {
            message: error.message,
            param: error.param,
            code: error.code,
        }
    }
}

impl From<crate::admission::Full> for Error {
    fn from(_: crate::admission::Full) -> Self {
        Self::BuffersFull
    }
}

impl From<crate::plugin::Denied> for Error {
    fn from(denied: crate::plugin::Denied) -> Self {
        Self::PluginDenied { slot: denied.slot }
    }
}
