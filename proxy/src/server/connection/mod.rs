//! From an accepted socket to its last request.
//!
//! [`run`] is the way in: the PROXY header and the TLS handshake where the listener has them, then
//! HTTP/1.1 ([`http1`]) or HTTP/2 ([`http2`]) until one side ends it. Written here rather than left
//! to pingora's service, whose waits for a handshake, a head and the first bytes have fixed limits
//! and go on through a stop.
//!
//! Invariants: every wait for a client's bytes has a limit and heeds the [`Phase`]; a request whose
//! bytes are here when a stop begins is served.
//!
//! [`Phase`]: super::phase::Phase

mod chunked;
mod grammar;
mod head;
mod http1;
mod http2;
mod proxy_header;
mod transport;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use prometheus::IntCounterVec;
use tokio::net::TcpStream;

#[cfg(any(test, fuzzing))]
pub(crate) use self::chunked::Chunks;
#[cfg(any(test, fuzzing))]
pub(crate) use self::grammar::{Framed, check as check_head};
use self::head::{Awaited, Waits};
use self::transport::Transport;
use super::phase;
use crate::admission::{Connections, Standing};
use crate::telemetry::Metrics;

/// What answers the requests of a listener.
#[async_trait]
pub(super) trait Application: Send + Sync + 'static {
    /// What holds for connections and requests that begin now.
    fn settings(&self) -> Settings;

    /// Whether a connection from there must begin with a PROXY protocol header.
    fn is_balancer(&self, address: IpAddr) -> bool;

    /// Answers the request whose head `session` has read.
    async fn serve(&self, session: &mut ServerSession, standing: Standing) -> After;

    /// What a client is told whose head is not served; the connection closes after it. None: nothing.
    fn refusal(&self, why: Unreadable) -> Option<(StatusCode, Bytes)>;
}

/// What a request leaves of its connection, or of its stream over HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Stays,
    /// It was ended from here, so that nobody takes an answer for whole.
    Cut,
    /// The client ended it.
    Left,
}

/// A connection's limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// For a handshake, the first head, and every further head from its first byte.
    pub(super) header_timeout: Duration,
    /// For the first byte of a further request.
    pub(super) keepalive_timeout: Duration,
    /// Largest head, and most fields in it.
    pub(super) max_header_bytes: usize,
    pub(super) max_headers: usize,
    /// Requests at once over HTTP/2.
    pub(super) max_streams: u32,
}

/// What a client above the limit of connections gets for its request's head: it is only there to be
/// told, and others wait for its place.
const CROWD_PATIENCE: Duration = Duration::from_secs(2);

impl Settings {
    /// What holds for a connection of this standing.
    fn of(self, standing: Standing) -> Self {
        match standing {
            Standing::Served => self,
            Standing::Crowd => Self {
                header_timeout: self.header_timeout.min(CROWD_PATIENCE),
                ..self
            },
        }
    }
}

/// Why a request's head is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// What is wrong with it.
    Malformed(&'static str),
    /// It began and did not end in time.
    Slow,
    TooLarge,
    TooManyHeaders,
}

/// What all connections of a listener share.
pub(super) struct Listener<A> {
    pub(super) app: Arc<A>,
    /// None: plain HTTP.
    pub(super) tls: Option<Arc<Acceptor>>,
    pub(super) metrics: Arc<Metrics>,
    /// Who may connect.
    pub(super) connections: Arc<Connections>,
}

/// Serves one accepted connection to its end.
pub(super) async fn run<A: Application>(
    listener: Arc<Listener<A>>,
    socket: TcpStream,
    peer: SocketAddr,
    standing: Standing,
    mut phase: phase::Watch,
) {
    let settings = listener.app.settings().of(standing);
    let mut transport = Transport::new(socket, peer);
    let activity = transport.activity();
    let waits = Waits {
        silence: settings.header_timeout,
        head: settings.header_timeout,
    };
    if listener.app.is_balancer(peer.ip()) {
        let header = proxy_header::read(&mut transport);
        let awaited = head::awaited(header, &activity, waits, &mut phase).await;
        let headers = &listener.metrics.proxy_headers;
        if counted(headers, "PROXY header", peer, awaited).is_none() {
            return;
        }
    }
    let opened = match &listener.tls {
        Some(acceptor) => {
            let handshake = acceptor.tls_handshake(transport);
            let awaited = head::awaited(handshake, &activity, waits, &mut phase).await;
            activity.arm(); // the handshake's bytes are no request's
            let handshakes = &listener.metrics.tls_handshakes;
            counted(handshakes, "TLS handshake", peer, awaited).map(|stream| {
                let stream: Stream = Box::new(stream);
                let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
                (stream, is_http2)
            })
        }
        None => {
            let speaks = transport.speaks_http2();
            match head::awaited(speaks, &activity, waits, &mut phase).await {
                Awaited::Here(Ok(is_http2)) => Some((Box::new(transport) as Stream, is_http2)),
                _ => None, // nothing that could be answered
            }
        }
    };
    match opened {
        Some((stream, true)) => http2::serve(stream, &activity, listener, standing, phase).await,
        Some((stream, false)) => {
            http1::serve(stream, &activity, &*listener.app, standing, phase).await;
        }
        None => {}
    }
}

/// Counts what came of a connection's beginning, and gives it. `what` is for the log.
fn counted<T, E: fmt::Display>(
    counts: &IntCounterVec,
    what: &str,
    peer: SocketAddr,
    awaited: Awaited<Result<T, E>>,
) -> Option<T> {
    let (result, begun) = match awaited {
        Awaited::Here(Ok(begun)) => ("ok", Some(begun)),
        Awaited::Here(Err(error)) => {
            // Scanners fail here all day: the count tells enough.
            tracing::debug!(%peer, %error, "{what} failed");
            ("failed", None)
        }
        Awaited::Silent | Awaited::Slow => ("timeout", None),
        Awaited::Stopping => return None,
    };
    counts.with_label_values(&[result]).inc();
    begun
}
