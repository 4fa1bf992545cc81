//! Model backends inside the demo's process: real HTTP on real sockets, made-up answers.
//!
//! A backend speaks what an inference server speaks: chat and text completions plain and as a
//! stream with a delay per token, usage chunks, tool calls, embeddings, a list of models, a health
//! check, and errors on demand ([`faults`]). It remembers what it was sent, so that the tour can
//! compare what the proxy says with what arrived. Invariants: a stream leaves token by token and
//! never in one write; a connection is kept unless a fault wants it cut; dropping a [`Backend`]
//! ends its listener and its connections. Start at [`Backend::start`], then [`serve`].

mod chat;
mod completions;
mod embeddings;
mod faults;
mod persona;
mod reply;
mod serve;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp as _;
use pingora::protocols::l4::stream::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(super) use persona::Persona;
use serve::Model;

/// How fast the models pretend to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Before the first token.
    pub(super) first_token: Duration,
    /// Before each further one.
    pub(super) token: Duration,
}

impl Pace {
    /// Slow enough to see a stream grow, fast enough for a tour.
    pub(super) const DEMO: Self = Self {
        first_token: Duration::from_millis(60),
        token: Duration::from_millis(12),
    };
}

/// A running backend.
pub(super) struct Backend {
    address: SocketAddr,
    model: Arc<Model>,
    /// Accepts for as long as the backend is held.
    _accepting: JoinSet<()>,
}

impl Backend {
    /// Starts a backend on a free loopback port, on the current runtime.
    ///
    /// # Errors
    /// When there is no free port.
    pub(super) async fn start(
        name: &'static str,
        persona: Persona,
        pace: Pace,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let model = Arc::new(Model::new(name, persona, pace));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, model.clone()));
        Ok(Self {
            address,
            model,
            _accepting: accepting,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name in the config.
    pub(super) fn name(&self) -> &'static str {
        self.model.name()
    }

    /// Requests for an answer that it has received, health checks apart.
    pub(super) fn requests(&self) -> u64 {
        self.model.requests()
    }

    /// The body of the newest of them.
    pub(super) fn last_body(&self) -> serde_json::Value {
        self.model.last_body()
    }
}

/// Accepts until it is aborted; its connections end with it.
async fn accept(listener: TcpListener, model: Arc<Model>) {
    // pingora's apps watch for a shutdown; here the task's end is the shutdown.
    let (_never, shutdown) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An accept fails when the client is gone already, or for want of descriptors,
                // which passes.
                let Ok((socket, _)) = accepted else { continue };
                connections.spawn(connection(socket, model.clone(), shutdown.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(socket: TcpStream, model: Arc<Model>, shutdown: watch::Receiver<bool>) {
    let mut stream = Stream::from(socket);
    // Without it the second token of every stream waits for an acknowledgement of the first.
    if stream.set_nodelay().is_ok() {
        model.process_new(Box::new(stream), &shutdown).await;
    }
}

#[cfg(test)]
mod tests;
