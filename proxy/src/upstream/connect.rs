//! Connections: one set of connectors, with its own idle pools, per worker thread.
//!
//! A connection stays with the thread that opened it, so its reads wake no other thread, and a
//! thread that is busy in a plugin stalls no connection of its neighbours. With `w` workers a
//! backend thus sees at most as many HTTP/1.1 connections as requests ever were in flight at once
//! on each worker, added up; clients that keep `n` connections busy cause at most `n`, and
//! [`preconnect`] at most one for each worker that no client has reached yet.
//!
//! Invariants: a connection goes back to the set that it came from, also when its task has moved
//! to another thread; a new one is opened only when this thread has no idle one to the backend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use pingora::ErrorType;
use pingora::connectors::http::v2;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::upstreams::peer::{HttpPeer, Peer};
use tokio::time::{Instant, timeout_at};

use super::address::Unreachable;
use super::backend::{Backend, locked};
use super::errors::{AttemptError, brief};
use crate::config::Protocol;

/// Idle connections that a worker keeps, over all backends; the least recently used goes first.
const IDLE_CONNECTIONS: usize = 1024;

/// How long an idle connection is kept, unless the backend announced less.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A PEM file without certificates, for the connectors that never look at their own roots.
const NO_ROOTS: &str = "/dev/null";

thread_local! {
    static HERE: Arc<Connectors> = Arc::default();
}

/// The connectors of one thread, each built at first use: loading the system's roots takes some
/// milliseconds, and pure plain-text set-ups have no use for them.
#[derive(Default)]
struct Connectors {
    h1: OnceLock<TransportConnector>,
    h2: OnceLock<v2::Connector>,
    /// None: the system's roots cannot be loaded.
    h1_system_roots: OnceLock<Option<TransportConnector>>,
    h2_system_roots: OnceLock<Option<v2::Connector>>,
    /// HTTP/2 connections being opened, by peer, so that requests that come together share one.
    opening: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<()>>>>,
}

/// A place in [`Connectors::opening`], which goes with the last who waits there.
struct Opening {
    connectors: Arc<Connectors>,
    key: u64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Opening {
    fn of(connectors: &Arc<Connectors>, key: u64) -> Self {
        Self {
            connectors: Arc::clone(connectors),
            key,
            turn: Arc::clone(locked(&connectors.opening).entry(key).or_default()),
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = locked(&self.connectors.opening);
        // The table's and ours: handles are made under the lock alone.
        if Arc::strong_count(&self.turn) == 2 {
            opening.remove(&self.key);
        }
    }
}

/// Where a connection returns to when it becomes idle.
pub(super) struct Home {
    connectors: Arc<Connectors>,
    system_roots: bool,
    peers: Arc<[HttpPeer]>,
    /// Which of `peers` it is connected to.
    index: usize,
}

/// A connection, ready for a request.
pub(super) enum Connection {
    /// An HTTP/1.1 connection of its own.
    H1 {
        /// The bytes.
        stream: Stream,
        /// It served a request before.
        reused: bool,
        /// Where it returns to.
        home: Home,
    },
    /// A stream of an HTTP/2 connection.
    H2 {
        /// The stream.
        session: Box<Lease>,
        /// Its connection served a request before.
        reused: bool,
    },
}

/// An HTTP/2 stream that gives its place in the connection back when dropped. When its exchange is
/// not over by then, that also resets the stream (CANCEL) and leaves the connection to others.
pub(super) struct Lease {
    session: Option<Http2Session>,
    home: Home,
}

/// A connection to `backend` within `limit`: an idle one of this thread unless `fresh` is asked
/// for, else a new one, address by address.
pub(super) async fn connect(
    backend: &Backend,
    limit: Duration,
    fresh: bool,
) -> Result<Connection, AttemptError> {
    let until = Instant::now() + limit;
    let state = &backend.state;
    let peers = timeout_at(until, state.peers.get())
        .await
        .map_err(|_| AttemptError::ConnectTimeout)?
        .map_err(|error| match error {
            Unreachable::Name(why) => AttemptError::Connect(why),
            Unreachable::Trust(why) => AttemptError::Tls(why),
        })?;
    let mut home = Home {
        connectors: HERE.with(Arc::clone),
        system_roots: state.peers.uses_system_roots(),
        peers,
        index: 0,
    };
    let is_h1 = state.identity.protocol == Protocol::Http1;
    if !fresh {
        for index in 0..home.peers.len() {
            home.index = index;
            // A shared connection may have to wait until its backend allows one more stream.
            let reused = timeout_at(until, async {
                Ok::<_, AttemptError>(if is_h1 {
                    home.idle_h1().await?.map(Ok)
                } else {
                    home.shared_h2().await?.map(Err)
                })
            });
            match reused.await.map_err(|_| AttemptError::ConnectTimeout)?? {
                Some(Ok(stream)) => {
                    return Ok(Connection::H1 {
                        stream,
                        reused: true,
                        home,
                    });
                }
                Some(Err(session)) => return Ok(Connection::h2(session, true, home)),
                None => {}
            }
        }
        home.index = 0;
    }
    let opened = if is_h1 {
        open(backend, home, until).await
    } else {
        let key = home.peer().map(Peer::reuse_hash).unwrap_or_default();
        let opening = Opening::of(&home.connectors, key);
        let _turn = timeout_at(until, opening.turn.lock())
            .await
            .map_err(|_| AttemptError::ConnectTimeout)?;
        let shared = if fresh {
            None
        } else {
            timeout_at(until, home.shared_h2())
                .await
                .map_err(|_| AttemptError::ConnectTimeout)??
        };
        match shared {
            // Somebody else's has come up meanwhile.
            Some(session) => return Ok(Connection::h2(session, true, home)),
            None => open(backend, home, until).await,
        }
    };
    if opened.is_err() {
        state.peers.expire();
    }
    opened
}

/// Opens a new connection: each address gets an equal share of the time that is left.
async fn open(
    backend: &Backend,
    mut home: Home,
    until: Instant,
) -> Result<Connection, AttemptError> {
    let is_h1 = backend.state.identity.protocol == Protocol::Http1;
    let mut last = AttemptError::Connect("no address".to_owned());
    for index in 0..home.peers.len() {
        home.index = index;
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(home.peers.len() - index).unwrap_or(u32::MAX);
        let opened = timeout_at(Instant::now() + share, async {
            if is_h1 {
                home.new_h1().await.map(Ok)
            } else {
                home.new_h2().await.map(Err)
            }
        });
        match opened.await {
            Ok(Ok(opened)) => {
                backend.count_connection();
                return Ok(match opened {
                    Ok(stream) => Connection::H1 {
                        stream,
                        reused: false,
                        home,
                    },
                    Err(session) => Connection::h2(session, false, home),
                });
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = AttemptError::ConnectTimeout,
        }
    }
    Err(last)
}

/// Opens a connection from this thread to `backend` and leaves it idle, unless there is one.
pub(super) async fn preconnect(backend: &Backend, limit: Duration) -> Result<(), AttemptError> {
    match connect(backend, limit, false).await? {
        Connection::H1 { stream, home, .. } => home.release_h1(stream, None),
        Connection::H2 { session, .. } => drop(session),
    }
    Ok(())
}

impl Connection {
    fn h2(session: Http2Session, reused: bool, home: Home) -> Self {
        let session = Box::new(Lease {
            session: Some(session),
            home,
        });
        Self::H2 { session, reused }
    }
}

impl Home {
    fn peer(&self) -> Result<&HttpPeer, AttemptError> {
        let no_address = || AttemptError::Connect("no address".to_owned());
        self.peers.get(self.index).ok_or_else(no_address)
    }

    async fn idle_h1(&self) -> Result<Option<Stream>, AttemptError> {
        let connector = self.connectors.h1(self.system_roots)?;
        Ok(connector.reused_stream(self.peer()?).await)
    }

    async fn new_h1(&self) -> Result<Stream, AttemptError> {
        let connector = self.connectors.h1(self.system_roots)?;
        connector
            .new_stream(self.peer()?)
            .await
            .map_err(|error| failure(&error))
    }

    /// A stream of a connection that is open already. A connection that turns out dead counts as
    /// none.
    async fn shared_h2(&self) -> Result<Option<Http2Session>, AttemptError> {
        let connector = self.connectors.h2(self.system_roots)?;
        Ok(connector
            .reused_http_session(self.peer()?)
            .await
            .unwrap_or_default())
    }

    async fn new_h2(&self) -> Result<Http2Session, AttemptError> {
        let connector = self.connectors.h2(self.system_roots)?;
        let session = connector
            .new_http_session::<HttpPeer, ()>(self.peer()?)
            .await;
        match session.map_err(|error| failure(&error))? {
            HttpSession::H2(session) => Ok(session),
            HttpSession::H1(_) | HttpSession::Custom(_) => Err(AttemptError::Tls(
                "the backend does not offer h2 by ALPN".to_owned(),
            )),
        }
    }

    /// Puts an idle connection back. `announced`: how long the backend says that it keeps it.
    pub(super) fn release_h1(&self, stream: Stream, announced: Option<Duration>) {
        // A second less than announced, lest we write into a connection that is just being closed.
        let announced = announced.map(|for_| for_.saturating_sub(Duration::from_secs(1)));
        let idle = announced.map_or(IDLE_TIMEOUT, |for_| for_.min(IDLE_TIMEOUT));
        if let (Ok(connector), Ok(peer)) = (self.connectors.h1(self.system_roots), self.peer())
            && !idle.is_zero()
        {
            connector.release_stream(stream, peer.reuse_hash(), Some(idle));
        }
    }
}

impl Lease {
    /// The stream itself.
    ///
    /// # Panics
    /// Never: only dropping the lease takes the stream out.
    #[expect(clippy::expect_used, reason = "only the drop takes it")]
    pub(super) fn session(&mut self) -> &mut Http2Session {
        self.session.as_mut().expect("only drop takes it")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Releasing may start the idle timer, which needs a runtime; at the end of the process
        // there may be none, and then the connection is closed anyway.
        if let Some(session) = self.session.take()
            && tokio::runtime::Handle::try_current().is_ok()
            && let Ok(connector) = self.home.connectors.h2(self.home.system_roots)
            && let Ok(peer) = self.home.peer()
        {
            connector.release_http_session(session, peer, Some(IDLE_TIMEOUT));
        }
    }
}

impl Connectors {
    fn h1(&self, system_roots: bool) -> Result<&TransportConnector, AttemptError> {
        if system_roots {
            self.h1_system_roots
                .get_or_init(|| with_system_roots(TransportConnector::new))
                .as_ref()
                .ok_or_else(no_system_roots)
        } else {
            Ok(self
                .h1
                .get_or_init(|| TransportConnector::new(Some(options(Some(NO_ROOTS))))))
        }
    }

    fn h2(&self, system_roots: bool) -> Result<&v2::Connector, AttemptError> {
        if system_roots {
            self.h2_system_roots
                .get_or_init(|| with_system_roots(v2::Connector::new))
                .as_ref()
                .ok_or_else(no_system_roots)
        } else {
            Ok(self
                .h2
                .get_or_init(|| v2::Connector::new(Some(options(Some(NO_ROOTS))))))
        }
    }
}

fn options(ca_file: Option<&str>) -> ConnectorOptions {
    let mut options = ConnectorOptions::new(IDLE_CONNECTIONS);
    options.ca_file = ca_file.map(str::to_owned);
    options
}

/// Builds a connector that trusts the system's roots. pingora panics when one of them cannot be
/// read; that must cost the backends that need them, and not the process.
fn with_system_roots<C>(build: fn(Option<ConnectorOptions>) -> C) -> Option<C> {
    let built = std::panic::catch_unwind(|| build(Some(options(None))));
    if built.is_err() {
        tracing::error!("the system's root certificates cannot be loaded; set `ca_file`");
    }
    built.ok()
}

fn no_system_roots() -> AttemptError {
    AttemptError::Tls("the system's root certificates cannot be loaded; set `ca_file`".to_owned())
}

/// Sorts pingora's errors of connecting.
fn failure(error: &pingora::Error) -> AttemptError {
    match error.etype() {
        ErrorType::ConnectTimedout => AttemptError::ConnectTimeout,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert => AttemptError::Tls(brief(error)),
        _ => AttemptError::Connect(brief(error)),
    }
}
