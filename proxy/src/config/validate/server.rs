//! `[server]`: listener and limits.

use std::net::SocketAddr;

use super::Checker;
use crate::config::machine::{self, cores};
use crate::config::overrides::Overrides;
use crate::config::resolved::{self, Server};
use crate::config::schema::{self, Size};

/// Connections of clients where neither the config nor the system says fewer.
const MAX_CONNECTIONS: u32 = 10_000;

/// Descriptors that are neither a client's connection nor its upstream's.
const OTHER_FILES: usize = 256;

pub(super) fn resolve(
    typed: &mut schema::Server,
    overrides: &Overrides,
    checker: &mut Checker<'_>,
) -> Server {
    let from_file = checker.address("/server/listen", &typed.listen);
    let listen = SocketAddr::new(
        overrides.host.unwrap_or(from_file.ip()),
        overrides.port.unwrap_or(from_file.port()),
    );
    typed.listen = listen.to_string();
    let workers = overrides.workers.or(typed.workers).unwrap_or_else(cores);
    typed.workers = Some(workers);
    let tls = typed.tls.as_ref().map(|typed| tls(typed, checker));
    Server {
        listen,
        tls,
        workers: usize::try_from(workers).unwrap_or(usize::MAX),
        proxy_protocol_from: checker
            .networks("/server/proxy_protocol_from", &typed.proxy_protocol_from),
        header_timeout: typed.header_timeout.0,
        max_body_bytes: checker.size(
            "/server/max_body_bytes",
            typed.max_body_bytes,
            Size::kib(1),
            Size::mib(4096),
        ),
        max_header_bytes: checker.size(
            "/server/max_header_bytes",
            typed.max_header_bytes,
            Size::kib(1),
            Size::kib(512),
        ),
        max_headers: count(typed.max_headers),
        max_connections: max_connections(typed, checker),
        max_streams_per_connection: typed.max_streams_per_connection,
        max_requests_in_flight: count(typed.max_requests_in_flight),
        max_buffered_bytes: max_buffered_bytes(typed, checker),
        extra_roles: typed.extra_roles.as_slice().into(),
        max_choices: typed.max_choices,
        body_timeout: typed.body_timeout.0,
        keepalive_timeout: typed.keepalive_timeout.0,
        drain_timeout: typed.drain_timeout.0,
        upgrade_timeout: typed.upgrade_timeout.0,
    }
}

fn tls(typed: &schema::Tls, checker: &mut Checker<'_>) -> resolved::Tls {
    let mut certificates = Vec::new();
    match (&typed.cert_file, &typed.key_file) {
        (Some(cert), Some(key)) => {
            certificates.extend(checker.certificate("/server/tls", cert, key));
        }
        (Some(_), None) => {
            checker.error("/server/tls", "`cert_file` without its `key_file`");
        }
        (None, Some(_)) => {
            checker.error("/server/tls", "`key_file` without its `cert_file`");
        }
        (None, None) if typed.certificates.is_empty() => {
            checker
                .error("/server/tls", "no certificate")
                .help("set `cert_file` and `key_file`, or `[[server.tls.certificates]]` with both");
        }
        (None, None) => {}
    }
    for (index, one) in typed.certificates.iter().enumerate() {
        let pointer = format!("/server/tls/certificates/{index}");
        let certificate = checker.certificate(&pointer, &one.cert_file, &one.key_file);
        if let Some(certificate) = &certificate
            && certificate.names.is_empty()
            && !certificates.is_empty()
        {
            checker
                .warn(
                    &format!("{pointer}/cert_file"),
                    "the certificate names no host: no client ever gets it",
                )
                .help("ask for one with subject alternative names, or put it first");
        }
        certificates.extend(certificate);
    }
    resolved::Tls { certificates }
}

/// Each connection of a client needs a descriptor, and one for its upstream.
fn max_connections(typed: &schema::Server, checker: &mut Checker<'_>) -> usize {
    let most = (machine::open_files().saturating_sub(OTHER_FILES) / 2).max(1);
    let wanted = count(typed.max_connections.unwrap_or(MAX_CONNECTIONS));
    if typed.max_connections.is_some() && wanted > most {
        checker
            .warn(
                "/server/max_connections",
                format!("the limit of open files allows {most} connections"),
            )
            .help("raise the limit of the process (`LimitNOFILE=` for systemd, `ulimit -Hn`)");
    }
    wanted.min(most)
}

/// A quarter of the memory, unless the file says so.
fn max_buffered_bytes(typed: &schema::Server, checker: &mut Checker<'_>) -> usize {
    let default = || Size(machine::memory() / 4);
    let size = typed.max_buffered_bytes.unwrap_or_else(default);
    if typed.max_buffered_bytes.is_some() && size < typed.max_body_bytes {
        checker
            .warn(
                "/server/max_buffered_bytes",
                "less than `max_body_bytes`: the largest requests are always refused",
            )
            .help("raise it, or lower `max_body_bytes`");
    }
    checker.size(
        "/server/max_buffered_bytes",
        size,
        Size::mib(1),
        Size(u64::MAX),
    )
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
