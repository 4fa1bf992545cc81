//! `[server]` as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, Time};

/// The listener for clients. Its address, its workers, and whether it serves TLS cannot change while
/// running.
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
    /// Largest head of a request; a larger one gets 431.
    pub(crate) max_header_bytes: Size,
    /// Most header fields of a request; more get 431.
    #[schemars(range(min = 1, max = 200))]
    pub(crate) max_headers: u32,
    /// Connections of clients at once. Further ones are told 503 and closed; probes are answered on
    /// some of them. At most half of the files that the process may open; left out, that or 10,000,
    /// whichever is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) max_connections: Option<u32>,
    /// Requests at once on one HTTP/2 connection; further ones wait at the client.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) max_streams_per_connection: u32,
    /// Requests at once, over all connections; further ones get 503.
    #[schemars(range(min = 1))]
    pub(crate) max_requests_in_flight: u32,
    /// Bytes of requests and answers in memory at once, over all requests. A request that would go
    /// beyond gets 503; an answer is then neither held back nor stored. Left out, a quarter of the
    /// memory that the process may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_buffered_bytes: Option<Size>,
    /// Addresses of balancers, or networks such as `10.0.0.0/8`. A connection from there must begin
    /// with a PROXY protocol header, version 1 or 2, and the client's address is the one in it.
    /// Connections from elsewhere speak for themselves.
    pub(crate) proxy_protocol_from: Vec<String>,
    /// Roles of messages that are let through besides those of OpenAI's API: for models whose chat
    /// template knows more. A message of any other role gets 400.
    pub(crate) extra_roles: Vec<String>,
    /// Largest `n`, which is the number of answers to one prompt; a larger one gets 400.
    #[schemars(range(min = 1, max = 65536))]
    pub(crate) max_choices: u32,
    /// Longest time for a TLS handshake, then for the first request's head, and for the head of each
    /// further request from its first byte.
    pub(crate) header_timeout: Time,
    /// Longest time from a request's first byte to the end of its body.
    pub(crate) body_timeout: Time,
    /// How long a client connection may be idle between requests.
    pub(crate) keepalive_timeout: Time,
    /// How long a stop or an upgrade waits for requests in flight.
    pub(crate) drain_timeout: Time,
    /// How long an upgrade waits for the new process to be ready.
    pub(crate) upgrade_timeout: Time,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            tls: None,
            workers: None,
            proxy_protocol_from: Vec::new(),
            extra_roles: Vec::new(),
            max_choices: 128,
            header_timeout: Time::seconds(10),
            max_body_bytes: Size::mib(32),
            max_header_bytes: Size::kib(64),
            max_headers: 100,
            max_connections: None,
            max_streams_per_connection: 100,
            max_requests_in_flight: 10_000,
            max_buffered_bytes: None,
            body_timeout: Time::seconds(60),
            keepalive_timeout: Time::seconds(60),
            drain_timeout: Time::seconds(30),
            upgrade_timeout: Time::seconds(60),
        }
    }
}

/// The listener's certificates: one in place, or a list. A client gets the first that holds the name
/// that it asks for, else the first of all. Files are read again when they change.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// PEM file with the certificate chain, the server's own certificate first. Together with
    /// `key_file` it comes before those of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert_file: Option<String>,
    /// PEM file with the private key: PKCS#8, PKCS#1 or SEC1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<String>,
    /// Certificates for several names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<Certificate>,
}

/// A certificate and its key. The names are those in the certificate.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// PEM file with the certificate chain, the server's own certificate first.
    pub(crate) cert_file: String,
    /// PEM file with the private key: PKCS#8, PKCS#1 or SEC1.
    pub(crate) key_file: String,
}
