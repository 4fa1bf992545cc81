//! `[server]`: listener and limits.

use std::net::SocketAddr;
use std::thread;

use super::Checker;
use crate::config::overrides::Overrides;
use crate::config::resolved::{self, Server};
use crate::config::schema::{self, Size};

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
        proxy_protocol: typed.proxy_protocol,
        header_timeout: typed.header_timeout.0,
        max_body_bytes: checker.size(
            "/server/max_body_bytes",
            typed.max_body_bytes,
            Size::kib(1),
            Size::mib(4096),
        ),
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

fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}
