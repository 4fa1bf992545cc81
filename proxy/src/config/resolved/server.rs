//! The listeners, `[server]` and `[admin]`, and `[telemetry]`, which has one too.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// `[server]`: the data plane's listener. Addresses, workers and TLS files cannot change live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
    /// Worker threads, each with its own connections; default: the number of cores.
    pub(crate) workers: usize,
    /// Largest request body; default 32 MiB. Above it: 413.
    pub(crate) max_body_bytes: usize,
    /// From a request's first byte to the end of its body; default 60 s.
    pub(crate) body_timeout: Duration,
    /// How long an idle client connection stays; default 60 s.
    pub(crate) keepalive_timeout: Duration,
    /// How long a stop waits for requests in flight; default 30 s.
    pub(crate) drain_timeout: Duration,
}

/// Certificate chain and private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admin {
    /// Default `127.0.0.1:9090`; none: no admin listener.
    pub(crate) listen: Option<SocketAddr>,
    /// Required when `listen` is not loopback.
    pub(crate) token: Option<Secret>,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Telemetry {
    /// A second listener for `/metrics` alone.
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    /// Filter in `tracing_subscriber::EnvFilter` form; default `info`.
    pub(crate) log_level: String,
    /// One line per request; default true.
    pub(crate) access_log: bool,
    /// Response headers `-pool`, `-backend` and `server-timing`; default: on a loopback listener.
    pub(crate) expose_all: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}
