//! The sockets, the workers behind them, and how both end.
//!
//! Invariants: a process that succeeds another accepts nothing before that one has let go; the
//! operators' listeners answer until the data plane has drained, unless a successor answers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pingora::listeners::tls::Acceptor;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::StartError;
use super::connection::{Application, Listener};
use super::phase::Phase;
use super::workers::{self, Worker};
use crate::admission::Connections;
use crate::config::{Loaded, Problems};
use crate::pipeline::Shared;

/// What requests of operators get to end in, after those of clients.
const OPERATORS: Duration = Duration::from_secs(1);

/// The sockets of a config.
pub(super) struct Sockets {
    pub(super) data: TcpListener,
    pub(super) admin: Option<TcpListener>,
    pub(super) metrics: Option<TcpListener>,
}

impl Sockets {
    /// Binds what `inherited` does not give by name and address.
    ///
    /// # Errors
    /// The first address that cannot be had, at its field.
    pub(super) fn bind(
        loaded: &Loaded,
        mut inherited: impl FnMut(&str, SocketAddr) -> Option<TcpListener>,
    ) -> Result<Self, StartError> {
        let config = loaded.config.as_ref();
        let mut bind = |name: &str, field: &str, address| match inherited(name, address) {
            Some(socket) => Ok(socket),
            None => {
                workers::bind(address).map_err(|error| not_bound(loaded, field, address, &error))
            }
        };
        let data = bind("data", "/server/listen", config.server.listen)?;
        let mut optional = |name: &str, field: &str, address: Option<SocketAddr>| {
            address
                .map(|address| bind(name, field, address))
                .transpose()
        };
        Ok(Self {
            data,
            admin: optional("admin", "/admin/listen", config.admin.listen)?,
            metrics: optional("metrics", "/telemetry/listen", config.telemetry.listen)?,
        })
    }

    /// Each with its name.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &TcpListener)> {
        let others = [("admin", &self.admin), ("metrics", &self.metrics)];
        let others = others
            .into_iter()
            .filter_map(|(name, socket)| Some((name, socket.as_ref()?)));
        std::iter::once(("data", &self.data)).chain(others)
    }
}

/// Everything that accepts connections.
pub(super) struct Listeners {
    /// Kept for a successor.
    sockets: Sockets,
    shared: Arc<Shared>,
    data: Side,
    operators: Side,
}

/// Workers that end together.
struct Side {
    phase: watch::Sender<Phase>,
    workers: Vec<Worker>,
}

impl Side {
    fn new(phase: Phase) -> Self {
        let (phase, _) = watch::channel(phase);
        Self {
            phase,
            workers: Vec::new(),
        }
    }

    /// Waits for the last connection, and from `idle_until` on for none that is idle. False when
    /// some are left at `until`.
    async fn drained(&mut self, idle_until: Instant, until: Instant) -> bool {
        if timeout_at(idle_until, self.last()).await.is_ok() {
            return true;
        }
        self.phase.send_replace(Phase::Stopping);
        timeout_at(until, self.last()).await.is_ok()
    }

    async fn last(&mut self) {
        for worker in &mut self.workers {
            worker.drained().await;
        }
    }
}

impl Listeners {
    /// Without workers; `phase` is the one they begin in.
    pub(super) fn new(sockets: Sockets, phase: Phase, shared: Arc<Shared>) -> Self {
        Self {
            sockets,
            shared,
            data: Side::new(phase),
            operators: Side::new(phase),
        }
    }

    /// The sockets, for their addresses and for a successor.
    pub(super) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// The threads of the data plane.
    pub(super) fn workers(&self) -> &[Worker] {
        &self.data.workers
    }

    /// Starts the data plane's threads.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub(super) fn serve_data<A: Application>(
        &mut self,
        app: A,
        tls: Option<Acceptor>,
        threads: usize,
    ) -> io::Result<()> {
        let connections = Arc::clone(&self.shared.admission.connections);
        let listener = self.listener(app, tls, connections);
        for number in 0..threads {
            let worker = workers::start(
                format!("worker-{number}"),
                &self.sockets.data,
                Arc::clone(&listener),
                self.data.phase.subscribe(),
            )?;
            self.data.workers.push(worker);
        }
        Ok(())
    }

    /// Starts a thread for operators on one of the other sockets.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub(super) fn serve_operators<A: Application>(
        &mut self,
        app: A,
        socket: &TcpListener,
    ) -> io::Result<()> {
        let connections = Arc::clone(&self.shared.admission.operators);
        let listener = self.listener(app, None, connections);
        let phase = self.operators.phase.subscribe();
        let worker = workers::start("admin".to_owned(), socket, listener, phase)?;
        self.operators.workers.push(worker);
        Ok(())
    }

    fn listener<A>(
        &self,
        app: A,
        tls: Option<Acceptor>,
        connections: Arc<Connections>,
    ) -> Arc<Listener<A>> {
        Arc::new(Listener {
            app: Arc::new(app),
            tls: tls.map(Arc::new),
            metrics: Arc::clone(&self.shared.metrics),
            connections,
        })
    }

    /// Opens what waits, when it is called.
    pub(super) fn opener(&self) -> impl FnOnce() + Send + use<> {
        let phases = [self.data.phase.clone(), self.operators.phase.clone()];
        move || {
            for phase in phases {
                phase.send_if_modified(|phase| {
                    let waits = *phase == Phase::Waiting;
                    if waits {
                        *phase = Phase::Serving;
                    }
                    waits
                });
            }
        }
    }

    /// Lets a successor accept: what has begun goes on.
    pub(super) fn hand_over(&self) {
        self.data.phase.send_replace(Phase::HandedOver);
        self.operators.phase.send_replace(Phase::HandedOver);
    }

    /// Ends all: waits for the data plane's connections until `limit` has passed or `cut` has ended,
    /// then for the operators' for a moment. True when every connection of a client ended by itself.
    pub(super) async fn end(mut self, limit: Duration, cut: impl Future<Output = ()>) -> bool {
        // The socket refuses from now on: nothing else has it, unless a successor does.
        drop(self.sockets);
        let now = Instant::now();
        let idle_until = match *self.data.phase.borrow() {
            // Most clients ask once more within that, and the others leave time for what they ask
            // in the moment of the closing.
            Phase::HandedOver => now + limit / 2,
            Phase::Waiting | Phase::Serving | Phase::Stopping => now,
        };
        let drained = tokio::select! {
            drained = self.data.drained(idle_until, now + limit) => drained,
            () = cut => false,
        };
        // What is left after it is cut.
        let now = Instant::now();
        let _ = self.operators.drained(now, now + OPERATORS).await;
        let all = self.data.workers.into_iter().chain(self.operators.workers);
        let joined = tokio::task::spawn_blocking(|| all.for_each(Worker::join));
        // A panicked worker has been reported by the panic hook.
        let _ = joined.await;
        drained
    }
}

/// Why an address cannot be had, at the field that asks for it.
fn not_bound(loaded: &Loaded, field: &str, address: SocketAddr, error: &io::Error) -> StartError {
    let message = format!("cannot listen on {address}: {error}");
    let mut problem = loaded.locator.problem(field, message);
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            problem.help("another process listens there: stop it, or take another port");
        }
        io::ErrorKind::AddrNotAvailable => {
            problem.help("no network interface of this machine has this address");
        }
        io::ErrorKind::PermissionDenied => {
            problem.help("ports below 1024 need a privilege: take a higher one");
        }
        _ => {}
    }
    StartError::Config(Problems::new(vec![problem]))
}
