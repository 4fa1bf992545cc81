//! A mock model backend on raw sockets, scripted or with the behaviour of an OpenAI-like model.
//!
//! Invariants: connections and handshakes are counted when they happen, those that began with a
//! health check apart; every request is recorded as the bytes that came; dropping a [`Backend`]
//! closes its listener and all its connections.

mod exchange;
mod model;
mod serve;
mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use exchange::{Exchange, Reply};
pub use tls::Certificate;

use crate::faulty::Port;
use crate::wire::Head;
use crate::within;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Line and headers.
    pub head: Head,
    /// Without its framing; empty where the request was handed out at its head.
    pub body: Bytes,
    /// Ordinal of its connection, from 1.
    pub connection: usize,
}

impl Received {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the request's body is UTF-8")
    }
}

/// How an answer is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The connection is reset.
    Reset,
    /// The body ends in good order, without the stream's terminal.
    CleanEnd,
    /// Nothing more comes.
    Hang,
}

/// What a model backend does where a request's own `mock` member does not say otherwise: `status`,
/// `tokens`, `delay_ms`, `break` (`reset`, `clean-end`, `hang`) and `after`.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Answers every model request with an error of this status.
    pub status: Option<u16>,
    /// Tokens of an answer.
    pub tokens: usize,
    /// Wait before each token.
    pub delay: Duration,
    /// Breaks streams off after `after` tokens.
    pub breaks: Option<Break>,
    /// See `breaks`.
    pub after: usize,
    /// What the health check gets.
    pub health: u16,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            status: None,
            tokens: 4,
            delay: Duration::ZERO,
            breaks: None,
            after: 2,
            health: 200,
        }
    }
}

/// What is shared with the connections.
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) scripted: bool,
    pub(crate) at_head: bool,
    pub(crate) accepted: AtomicUsize,
    pub(crate) handshakes: AtomicUsize,
    pub(crate) health_connections: AtomicUsize,
    pub(crate) health_requests: AtomicUsize,
    pub(crate) model_connections: AtomicUsize,
    pub(crate) answered: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) keep_bodies: AtomicBool,
    pub(crate) requests: Mutex<Vec<Received>>,
    pub(crate) count: AtomicUsize,
    pub(crate) held: watch::Sender<bool>,
    pub(crate) incoming: mpsc::UnboundedSender<Exchange>,
}

/// How to start a [`Backend`].
pub struct Start {
    name: String,
    scripted: bool,
    at_head: bool,
    http2: bool,
    certificate: Option<Certificate>,
    behaviour: Behaviour,
}

impl Start {
    /// A model that speaks plain HTTP/1.1.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            scripted: false,
            at_head: false,
            http2: false,
            certificate: None,
            behaviour: Behaviour::default(),
        }
    }

    /// Hands every request but health checks to [`Backend::next_request`].
    #[must_use]
    pub fn scripted(mut self) -> Self {
        self.scripted = true;
        self
    }

    /// As [`Start::scripted`], before the body is read.
    #[must_use]
    pub fn scripted_at_head(mut self) -> Self {
        self.scripted = true;
        self.at_head = true;
        self
    }

    /// Speaks HTTP/2: by ALPN over TLS, by prior knowledge without.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Speaks TLS.
    #[must_use]
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// The model's behaviour from the start on.
    #[must_use]
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start(self) -> Backend {
        let port = Port::take();
        let (incoming, requests) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            name: self.name,
            behaviour: Mutex::new(self.behaviour),
            scripted: self.scripted,
            at_head: self.at_head,
            accepted: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            health_connections: AtomicUsize::new(0),
            health_requests: AtomicUsize::new(0),
            model_connections: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            keep_bodies: AtomicBool::new(true),
            requests: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
            held: watch::Sender::new(false),
            incoming,
        });
        let acceptor = self
            .certificate
            .as_ref()
            .map(|tls| tls.acceptor(self.http2));
        let backend = Backend {
            port,
            http2: self.http2,
            certificate: self.certificate,
            acceptor,
            state,
            requests: tokio::sync::Mutex::new(requests),
            accepting: Mutex::default(),
        };
        backend.revive();
        backend
    }
}

/// A running mock backend.
pub struct Backend {
    port: Port,
    pub(crate) http2: bool,
    pub(crate) certificate: Option<Certificate>,
    acceptor: Option<TlsAcceptor>,
    state: Arc<State>,
    requests: tokio::sync::Mutex<mpsc::UnboundedReceiver<Exchange>>,
    /// Accepts for as long as the backend is held; empty: it is dead.
    accepting: Mutex<JoinSet<()>>,
}

impl Backend {
    /// A model that speaks plain HTTP/1.1.
    pub async fn model(name: &str) -> Self {
        Start::new(name).start().await
    }

    /// A scripted backend that speaks plain HTTP/1.1.
    pub async fn scripted(name: &str) -> Self {
        Start::new(name).scripted().start().await
    }

    /// An address whose port is taken but not listened to: connections are refused for as long as
    /// the socket lives.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn refusing() -> (SocketAddr, tokio::net::TcpSocket) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        (socket.local_addr().unwrap(), socket)
    }

    /// Ends it as the end of its process would: nobody listens, and every connection is closed,
    /// whatever is under way on it.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    pub async fn kill(&self) {
        let mut accepting = std::mem::take(&mut *self.accepting.lock().unwrap());
        // The listener is closed when its task is gone.
        accepting.shutdown().await;
    }

    /// Starts it again at its old address.
    ///
    /// # Panics
    /// When it is alive.
    pub fn revive(&self) {
        let mut accepting = self.accepting.lock().unwrap();
        assert!(accepting.is_empty(), "it is alive");
        accepting.spawn(serve::accept(
            self.port.listen(),
            self.acceptor.clone(),
            self.http2,
            Arc::clone(&self.state),
        ));
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// As a config's `url`.
    #[must_use]
    pub fn url(&self) -> String {
        match self.certificate {
            Some(_) => format!("https://localhost:{}", self.port.address().port()),
            None => format!("http://{}", self.port.address()),
        }
    }

    /// The next request of a scripted backend.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next_request(&self) -> Exchange {
        let mut requests = self.requests.lock().await;
        within("the backend gets a request", requests.recv())
            .await
            .expect("the backend runs")
    }

    /// Whether a scripted backend has a request that nobody took.
    pub async fn has_request(&self) -> bool {
        !self.requests.lock().await.is_empty()
    }

    /// Changes the model's behaviour for requests to come.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.behaviour.lock().unwrap());
    }

    /// Lets the model read requests but not answer, until [`Backend::release`].
    pub fn hold(&self) {
        self.state.held.send_replace(true);
    }

    /// Ends [`Backend::hold`].
    pub fn release(&self) {
        self.state.held.send_replace(false);
    }

    /// From now on, request bodies are not recorded: for long runs.
    pub fn forget_bodies(&self) {
        self.state.keep_bodies.store(false, Ordering::SeqCst);
    }

    /// Requests but health checks, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The last of [`Backend::requests`].
    ///
    /// # Panics
    /// When there was none.
    #[must_use]
    pub fn last_request(&self) -> Received {
        self.state
            .requests
            .lock()
            .unwrap()
            .last()
            .expect("the backend got a request")
            .clone()
    }

    /// How many requests but health checks have come.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.state.count.load(Ordering::SeqCst)
    }

    /// Connections accepted so far, less those that began with a health check.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
            - self.state.health_connections.load(Ordering::SeqCst)
    }

    /// Connections that carried at least one request other than a health check.
    #[must_use]
    pub fn used_connections(&self) -> usize {
        self.state.model_connections.load(Ordering::SeqCst)
    }

    /// TLS handshakes done so far, less those of connections that began with a health check.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        let all = self.state.handshakes.load(Ordering::SeqCst);
        match self.certificate {
            Some(_) => all - self.state.health_connections.load(Ordering::SeqCst),
            None => all,
        }
    }

    /// Health checks that have come.
    #[must_use]
    pub fn health_checks(&self) -> usize {
        self.state.health_requests.load(Ordering::SeqCst)
    }

    /// Answers that the model finished.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.state.answered.load(Ordering::SeqCst)
    }

    /// Answers of the model whose reader went away.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.state.cancelled.load(Ordering::SeqCst)
    }
}
