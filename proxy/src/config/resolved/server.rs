//! The listeners, `[server]` and `[admin]`, and `[telemetry]`, which has one too.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Secret, Tls};

/// `[server]`: the data plane's listener. Its address, its workers, and whether it serves TLS cannot
/// change live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<Tls>,
    /// Worker threads, each with its own connections; default: the number of cores.
    pub(crate) workers: usize,
    /// Connections from there begin with a PROXY protocol header; default none.
    pub(crate) proxy_protocol_from: Networks,
    /// For a TLS handshake, and for a request's head from its first byte; default 10 s.
    pub(crate) header_timeout: Duration,
    /// Largest request body; default 32 MiB. Above it: 413.
    pub(crate) max_body_bytes: usize,
    /// Largest head of a request; default 64 KiB. Above it: 431.
    pub(crate) max_header_bytes: usize,
    /// Most header fields of a request; default 100. Above it: 431.
    pub(crate) max_headers: usize,
    /// Connections of clients at once; default 10,000, or what the
    /// limit of open files allows. Above it: 503, and the connection closes.
    pub(crate) max_connections: usize,
    /// Requests at once on one HTTP/2 connection; default 100.
    pub(crate) max_streams_per_connection: u32,
    /// Requests at once; default 10,000. Above it: 503.
    pub(crate) max_requests_in_flight: usize,
    /// Bytes of requests and answers in memory; default a quarter of the machine's or control
    /// group's. Above it: 503 for requests; answers are neither held back nor stored.
    pub(crate) max_buffered_bytes: usize,
    /// Roles of messages that are let through besides those of OpenAI's API; default: none.
    pub(crate) extra_roles: Arc<[String]>,
    /// Largest `n`: answers to one prompt; default 128.
    pub(crate) max_choices: u32,
    /// From a request's first byte to the end of its body; default 60 s.
    pub(crate) body_timeout: Duration,
    /// How long an idle client connection stays; default 60 s.
    pub(crate) keepalive_timeout: Duration,
    /// How long a stop waits for requests in flight; default 30 s.
    pub(crate) drain_timeout: Duration,
    /// How long an upgrade waits for the new process; default 60 s.
    pub(crate) upgrade_timeout: Duration,
}

/// Addresses of other machines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Networks(pub(crate) Vec<IpNet>);

impl Networks {
    /// Whether one of them has the address; an IPv4 address on an IPv6 socket is one of IPv4.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses_however_they_are_written() {
        let networks = ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"];
        let networks = Networks(networks.map(|text| text.parse().unwrap()).to_vec());
        for (address, expected) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::7", true),
            ("::1", false),
        ] {
            let contained = networks.contain(address.parse().unwrap());
            assert_eq!(contained, expected, "{address}");
        }
        assert!(!Networks::default().contain([127, 0, 0, 1].into()));
    }
}
