//! Start, reload, stop: wires the other rooms together.
//!
//! [`Server::start`] builds the first snapshot, binds every listener and starts the workers;
//! `reload` swaps snapshots from then on; [`Server::stop`] drains. A bad config or plugin at the
//! start is an error, later it is a refusal that changes nothing.

mod accept;
mod admin_plane;
mod candidate;
mod connection;
mod data_plane;
mod listeners;
mod live;
mod phase;
mod reload;
mod tls;
mod upgrade;
mod views;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::candidate::Builder;
#[cfg(any(test, fuzzing))]
pub(crate) use self::connection::{Chunks, Framed, check_head};
use self::data_plane::DataPlane;
use self::listeners::{Listeners, Sockets};
use self::live::Live;
use self::phase::Phase;
pub(crate) use self::upgrade::{Predecessor, Program};
use self::views::Process;
use crate::admin::{self, Gate, Readiness, Scope};
use crate::config::{self, Config, Loaded, Overrides, Problems};
use crate::pipeline::Shared;
use crate::plugin::{Host, HostError};
use crate::telemetry::{self, AccessLog, Metrics};
use crate::upstream::Registry;

/// Connecting the pools never holds `readyz` for longer.
const PRECONNECT: Duration = Duration::from_secs(2);
/// What the log's writer gets at the end.
const LOG_FLUSH: Duration = Duration::from_secs(2);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the config cannot be used\n\n{0}")]
    Config(Problems),
    #[error("TLS cannot be served")]
    Tls(#[source] rustls::Error),
    #[error("cannot start a worker")]
    Worker { source: io::Error },
    #[error(transparent)]
    Log(#[from] telemetry::log::LogError),
    #[error("metrics cannot be registered")]
    Metrics(#[source] prometheus::Error),
}

/// A running proxy.
pub(crate) struct Server {
    live: Arc<Live>,
    reload: reload::Handle,
    control: tokio::runtime::Runtime,
    listeners: Listeners,
    data: SocketAddr,
    admin: Option<SocketAddr>,
    /// True once requests are welcome.
    ready: watch::Sender<bool>,
}

impl Server {
    /// Loads everything that a config names, plugins and their tables too, and starts nothing.
    ///
    /// # Errors
    /// [`StartError`] with everything that is wrong.
    pub(crate) fn dry_run(path: &Path, overrides: Overrides) -> Result<Loaded, StartError> {
        let control = control_runtime()?;
        let loaded = config::load(path, &overrides).map_err(StartError::Config)?;
        let metrics = Arc::new(Metrics::new().map_err(StartError::Metrics)?);
        let builder = builder(path, overrides, &loaded, &metrics, &control)?;
        let built = control.block_on(builder.build(loaded, None));
        Ok(built.map_err(StartError::Config)?.loaded)
    }

    /// Starts from a config file and returns once every listener is bound. What a predecessor has
    /// bound is taken over, and accepts when it has let go.
    ///
    /// # Errors
    /// [`StartError`], which a predecessor is told; nothing is left running then.
    pub(crate) fn start(
        path: &Path,
        overrides: Overrides,
        mut predecessor: Option<Predecessor>,
    ) -> Result<Self, StartError> {
        let started = Self::start_beside(path, overrides, &mut predecessor);
        if let (Err(error), Some(predecessor)) = (&started, predecessor) {
            predecessor.refuse(&telemetry::log::chain(error));
        }
        started
    }

    fn start_beside(
        path: &Path,
        overrides: Overrides,
        predecessor: &mut Option<Predecessor>,
    ) -> Result<Self, StartError> {
        let begun = Instant::now();
        let control = control_runtime()?;
        let raised = config::machine::raise_open_files();
        let loaded = config::load(path, &overrides).map_err(StartError::Config)?;
        let watch = reload::watch(&loaded);
        let config = Arc::clone(&loaded.config);
        telemetry::log::init(&config.telemetry)?;
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
        let metrics = Arc::new(Metrics::new().map_err(StartError::Metrics)?);
        report_panics(Arc::clone(&metrics));
        let builder = builder(path, overrides, &loaded, &metrics, &control)?;
        let registry = Arc::clone(&builder.registry);
        let first = control
            .block_on(builder.build(loaded, None))
            .map_err(StartError::Config)?;
        for warning in &first.loaded.warnings {
            tracing::warn!("{warning}");
        }
        let access_log = AccessLog::start(config.telemetry.log_format, Arc::clone(&metrics))
            .map_err(|source| StartError::Worker { source })?;
        let shared = Arc::new(Shared::new(metrics, access_log, control.handle().clone()));
        builder.adopt(&first.snapshot);
        shared.metrics.config_generation.set(1);
        let pools = first.snapshot.pools.clone();
        registry.supervise(&pools, &config);
        let live = Arc::new(Live::new(first.snapshot, shared));
        let reload = reload::start(
            builder,
            Arc::clone(&live),
            &first.loaded,
            watch,
            control.handle(),
        );
        let sockets = Sockets::bind(&first.loaded, |name, address| {
            predecessor.as_mut()?.socket(name, address)
        })?;
        let phase = match predecessor {
            Some(_) => Phase::Waiting,
            None => Phase::Serving,
        };
        let shared = Arc::clone(live.shared());
        let mut server = Self {
            data: local(&sockets.data)?,
            admin: sockets.admin.as_ref().map(local).transpose()?,
            listeners: Listeners::new(sockets, phase, shared),
            live,
            reload,
            control,
            ready: watch::channel(false).0,
        };
        server.listen(&config, &registry)?;
        server.announce_ready(begun, &registry, &pools, predecessor.take());
        Ok(server)
    }

    /// Starts the threads behind every socket.
    fn listen(&mut self, config: &Config, registry: &Arc<Registry>) -> Result<(), StartError> {
        let failed = |source| StartError::Worker { source };
        let tls = config
            .server
            .tls
            .as_ref()
            .map(|_| tls::acceptor(&self.live));
        let tls = tls.transpose().map_err(StartError::Tls)?;
        let app = DataPlane::new(Arc::clone(&self.live));
        let threads = config.server.workers;
        self.listeners
            .serve_data(app, tls, threads)
            .map_err(failed)?;
        let views: Arc<dyn admin::Views> = Arc::new(Process {
            live: Arc::clone(&self.live),
            reload: self.reload.clone(),
            registry: Arc::clone(registry),
        });
        let sockets = self.listeners.sockets();
        let copy = |socket: &Option<std::net::TcpListener>| {
            let copy = socket.as_ref().map(std::net::TcpListener::try_clone);
            copy.transpose().map_err(failed)
        };
        let restricted = [
            (copy(&sockets.admin)?, Scope::All),
            (copy(&sockets.metrics)?, Scope::Metrics),
        ];
        for (socket, scope) in restricted {
            let Some(socket) = socket else { continue };
            let gate = Gate::new(local(&socket)?, config.admin.token.as_ref(), scope);
            let app = admin::App::new(Arc::clone(&views), gate, scope);
            self.listeners
                .serve_operators(app, &socket)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Connects the pools on each worker, lets a predecessor go, then says `ready`.
    fn announce_ready(
        &self,
        begun: Instant,
        registry: &Arc<Registry>,
        pools: &crate::upstream::Pools,
        predecessor: Option<Predecessor>,
    ) {
        let workers: Vec<_> = self
            .listeners
            .workers()
            .iter()
            .map(|worker| {
                let (registry, pools) = (Arc::clone(registry), pools.clone());
                worker
                    .handle()
                    .spawn(async move { registry.preconnect(&pools, PRECONNECT).await })
            })
            .collect();
        let live = Arc::clone(&self.live);
        let generation = live.snapshot().generation;
        let listening = begun.elapsed();
        let (open, ready) = (self.listeners.opener(), self.ready.clone());
        self.control.spawn(async move {
            for worker in workers {
                // A panic has been reported by the hook; traffic connects on its own.
                let _ = worker.await;
            }
            if live.readiness() == Readiness::Draining {
                return; // and the process before, which loses its link, goes on
            }
            if let Some(predecessor) = predecessor
                && let Err(error) = predecessor.succeed().await
            {
                tracing::error!(%error, "the process before cannot be told");
            }
            open();
            if !live.set_ready() {
                return;
            }
            ready.send_replace(true);
            let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(
                generation,
                listening_after_ms = ms(listening),
                ready_after_ms = ms(begun.elapsed()),
                "ready"
            );
        });
    }

    /// Waits until requests are welcome.
    pub(crate) async fn ready(&self) {
        // The sender is in `self`, so the wait cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Starts the program beside this process, and waits until it accepts on the same sockets; then
    /// [`Self::hand_over`] is due. Gives its process id.
    ///
    /// # Errors
    /// Why this process goes on as before; it is in the log, too.
    ///
    /// # Cancel safety
    /// Dropping the future ends the new process.
    pub(crate) async fn upgrade(&self, program: Program) -> Result<u32, String> {
        let limit = self.live.snapshot().config.server.upgrade_timeout;
        tracing::info!(program = %program.path.display(), "upgrading");
        let started = upgrade::start(&program, self.listeners.sockets(), limit).await;
        started.map_err(|error| {
            let why = telemetry::log::chain(&error);
            tracing::error!("upgrade refused, this process goes on: {why}");
            why
        })
    }

    /// The data plane's bound address.
    pub(crate) fn data_address(&self) -> SocketAddr {
        self.data
    }

    /// The admin listener's bound address.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Orders reloads.
    pub(crate) fn reload_handle(&self) -> reload::Handle {
        self.reload.clone()
    }

    /// Waits on the control runtime.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.control.block_on(work)
    }

    /// Stops: no new connections, idle ones close, requests in flight get the config's
    /// `drain_timeout`, or until `cut` ends. True when all of them ended by themselves.
    pub(crate) fn stop(self, cut: impl Future<Output = ()>) -> bool {
        self.live.set_draining();
        self.end("stopping", cut)
    }

    /// Ends after an upgrade: the successor gets all new connections, idle ones may bring one more
    /// request, and whoever asks here is told `ready`, since the address is. The rest is as in
    /// [`Self::stop`].
    pub(crate) fn hand_over(self, cut: impl Future<Output = ()>) -> bool {
        self.listeners.hand_over();
        self.end("handed over", cut)
    }

    fn end(self, how: &str, cut: impl Future<Output = ()>) -> bool {
        let limit = self.live.snapshot().config.server.drain_timeout;
        let shared = self.live.shared();
        shared.closing.store(true, Ordering::Relaxed);
        let in_flight = shared.metrics.requests_in_flight.get();
        tracing::info!(in_flight, "{how}");
        let drained = self.control.block_on(self.listeners.end(limit, cut));
        // Records that wait for an exact count are written there: it ends before the log does.
        self.control.shutdown_timeout(LOG_FLUSH);
        let logged = self.live.shared().access_log.flush(LOG_FLUSH);
        tracing::info!(drained, logged, "stopped");
        drained
    }
}

/// Where everything runs that is not a request.
fn control_runtime() -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|source| StartError::Worker { source })
}

/// What makes snapshots, with the plugin host and the backends that outlive them.
fn builder(
    path: &Path,
    overrides: Overrides,
    loaded: &Loaded,
    metrics: &Arc<Metrics>,
    control: &tokio::runtime::Runtime,
) -> Result<Builder, StartError> {
    let config = loaded.config.as_ref();
    let host = Host::new(
        &config.pipeline,
        config.server.workers,
        Arc::clone(metrics),
        control.handle().clone(),
        crate::api::tokens::estimate,
    )
    .map_err(|error| {
        let field = match &error {
            HostError::CompileCache(_) => "/pipeline/compile_cache",
            HostError::Engine { .. } => "/pipeline/max_instances",
        };
        let problem = loaded.locator.problem(field, telemetry::log::chain(&error));
        StartError::Config(Problems::new(vec![problem]))
    })?;
    Ok(Builder {
        path: path.to_owned(),
        overrides,
        host,
        registry: Registry::new(Arc::clone(metrics), control.handle().clone()),
        metrics: Arc::clone(metrics),
    })
}

fn local(listener: &std::net::TcpListener) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|source| StartError::Worker { source })
}

/// Counts panics: one ends its own request, and is never silent.
fn report_panics(metrics: Arc<Metrics>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panics.inc();
        before(panic);
    }));
}
