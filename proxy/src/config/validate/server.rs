//! `[server]`: listener and limits.

use std::net::SocketAddr;
use std::thread;

use super::Checker;
use crate::config::overrides::Overrides;
use crate::config::resolved::{Server, TlsFiles};
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
    let tls = typed.tls.as_ref().map(|tls| {
        let (cert_file, key_file) = checker.certified_key(
            ("/server/tls/cert_file", &tls.cert_file),
            ("/server/tls/key_file", &tls.key_file),
        );
        TlsFiles {
            cert_file,
            key_file,
        }
    });
    Server {
        listen,
        tls,
        workers: usize::try_from(workers).unwrap_or(usize::MAX),
        max_body_bytes: checker.size(
            "/server/max_body_bytes",
            typed.max_body_bytes,
            Size::kib(1),
            Size::mib(4096),
        ),
        body_timeout: typed.body_timeout.0,
        keepalive_timeout: typed.keepalive_timeout.0,
        drain_timeout: typed.drain_timeout.0,
    }
}

fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}
