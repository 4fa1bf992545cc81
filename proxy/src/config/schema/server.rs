//! `[server]` as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, Time};

/// The listener for clients. Addresses, workers and TLS files cannot change while running.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Address and port for clients. Port 0 takes any free one and prints it. The environment
    /// variables `SLUICEGATE_HOST` and `SLUICEGATE_PORT` override its parts.
    pub(crate) listen: String,
    /// Serves TLS; left out, plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<Tls>,
    /// Worker threads; left out, one for each core. `SLUICEGATE_WORKERS` overrides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) workers: Option<u32>,
    /// Largest request body; a larger one gets 413.
    pub(crate) max_body_bytes: Size,
    /// Longest time from a request's first byte to the end of its body.
    pub(crate) body_timeout: Time,
    /// How long a client connection may be idle between requests.
    pub(crate) keepalive_timeout: Time,
    /// How long a stop waits for requests in flight.
    pub(crate) drain_timeout: Time,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            tls: None,
            workers: None,
            max_body_bytes: Size::mib(32),
            body_timeout: Time::seconds(60),
            keepalive_timeout: Time::seconds(60),
            drain_timeout: Time::seconds(30),
        }
    }
}

/// Certificate and key of a listener.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// PEM file with the certificate chain, the server's own certificate first.
    pub(crate) cert_file: String,
    /// PEM file with the private key: PKCS#8, PKCS#1 or SEC1.
    pub(crate) key_file: String,
}
