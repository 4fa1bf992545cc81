//! What the tests of this room share: configs in a line, and a backend that does exactly what a
//! test tells it to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::address::Peers;
use super::backend::State;
use super::{Outgoing, Picked, Pool, Registry};
use crate::config::{self, BackendIdentity, BackendName, PoolName, Protocol, Timeouts};
use crate::telemetry::Metrics;

/// A plain-text HTTP/1.1 backend.
pub(super) fn identity(host: &str, port: u16) -> BackendIdentity {
    BackendIdentity {
        tls: false,
        host: host.to_owned(),
        port,
        base_path: String::new(),
        protocol: Protocol::Http1,
        server_name: host.to_owned(),
        ca_file: None,
    }
}

pub(super) fn pool_config(name: &str, backends: Vec<BackendIdentity>) -> config::Pool {
    let backends = backends
        .into_iter()
        .zip(1..)
        .map(|(identity, number)| config::Backend {
            name: BackendName::new(&format!("{name}-{number}")),
            identity,
        });
    config::Pool {
        name: PoolName::new(name),
        backends: backends.collect(),
        models: Vec::new(),
        model_map: BTreeMap::new(),
        api_key: None,
        pass_through: false,
        show_headers: Vec::new(),
        hide_headers: Vec::new(),
        forward_headers: Vec::new(),
        max_requests_in_flight: None,
        health: None,
    }
}

/// A state that no registry knows.
pub(super) fn state(identity: &BackendIdentity) -> State {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let peers = Arc::new(Peers::new(identity.clone(), runtime.handle().clone()));
    State::new(identity.clone(), peers)
}

pub(super) fn registry() -> (Arc<Registry>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    (
        Registry::new(Arc::clone(&metrics), tokio::runtime::Handle::current()),
        metrics,
    )
}

/// A pool `p` of backends `p-1`, `p-2`, …
pub(super) fn pool(backends: &[BackendIdentity]) -> Arc<Pool> {
    let pools = registry()
        .0
        .pools_of(&[Arc::new(pool_config("p", backends.to_vec()))]);
    Arc::clone(&pools[&PoolName::new("p")])
}

pub(super) fn pick(pool: &Pool) -> Picked {
    pool.pick(&[]).unwrap()
}

pub(super) fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        first_token: Duration::from_secs(20),
        between_bytes: Duration::from_secs(20),
        total: Duration::from_secs(60),
    }
}

pub(super) fn post(body: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        method: Method::POST,
        path: "/v1/chat/completions".to_owned(),
        headers: HeaderMap::new(),
        body: body.into(),
        may_resend: true,
    }
}

pub(super) fn get(path: &str) -> Outgoing {
    Outgoing {
        method: Method::GET,
        path: path.to_owned(),
        ..post("")
    }
}

/// Waits for something that only polling shows; gives up after ten seconds.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "this is the polling")]
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

/// A listener; the test plays the backend on the connections that it accepts.
pub(super) struct Server {
    listener: TcpListener,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(super) fn identity(&self) -> BackendIdentity {
        identity("127.0.0.1", self.listener.local_addr().unwrap().port())
    }

    pub(super) async fn accept(&self) -> Conn<TcpStream> {
        let accepted = tokio::time::timeout(Duration::from_secs(20), self.listener.accept()).await;
        let (stream, _) = accepted.expect("nobody connects").unwrap();
        stream.set_nodelay(true).unwrap();
        Conn::new(stream)
    }

    /// Whether nobody is waiting to be accepted.
    pub(super) async fn is_quiet(&self) -> bool {
        let waiting = tokio::time::timeout(Duration::from_millis(50), self.listener.accept());
        waiting.await.is_err()
    }
}

/// The backend's end of a connection.
pub(super) struct Conn<S> {
    pub(super) stream: S,
    read: Vec<u8>,
}

/// A request as it arrived.
pub(super) struct Received {
    /// Up to and with the blank line.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// Bytes of the first read, head included.
    pub(super) first_read: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Reads up to the end of the head.
    pub(super) async fn head(&mut self) -> (String, usize) {
        let mut first_read = 0;
        loop {
            if let Some(end) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = std::mem::replace(&mut self.read, rest);
                return (String::from_utf8(head).unwrap(), first_read);
            }
            let count = self.fill().await;
            assert!(count > 0, "closed before a whole head");
            first_read = if first_read == 0 { count } else { first_read };
        }
    }

    /// Reads a request with a `content-length`, or without a body.
    pub(super) async fn request(&mut self) -> Received {
        let (head, first_read) = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.fill().await > 0, "closed before a whole body");
        }
        let rest = self.read.split_off(length);
        let body = std::mem::replace(&mut self.read, rest);
        Received {
            head,
            body,
            first_read,
        }
    }

    async fn fill(&mut self) -> usize {
        let mut buffer = vec![0; 1 << 20];
        let count = self.stream.read(&mut buffer).await.unwrap();
        self.read.extend_from_slice(&buffer[..count]);
        count
    }

    /// Reads until the given bytes have arrived, and gives all up to their end.
    pub(super) async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, end) {
                let rest = self.read.split_off(at + end.len());
                return std::mem::replace(&mut self.read, rest);
            }
            assert!(self.fill().await > 0, "closed before {end:?}");
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// A whole answer with a `content-length`.
    pub(super) async fn answer(&mut self, status: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        self.write(answer.as_bytes()).await;
    }

    /// Waits until the other side has closed or reset the connection.
    pub(super) async fn closed(&mut self) {
        let mut buffer = [0; 4096];
        while !matches!(self.stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
    }
}

impl Conn<TcpStream> {
    /// Ends the connection with a RST.
    pub(super) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}
