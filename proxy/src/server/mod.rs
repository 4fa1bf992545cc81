//! Start, reload, stop: wires the other rooms together.
//!
//! [`Server::start`] builds the first snapshot, binds every listener and starts the workers;
//! `reload` swaps snapshots from then on; [`Server::stop`] drains. A bad config or plugin at the
//! start is an error, later it is a refusal that changes nothing.

mod candidate;
mod data_plane;
mod live;
mod reload;
mod views;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use self::candidate::Builder;
use self::data_plane::DataPlane;
use self::live::Live;
use self::views::Process;
use self::workers::Worker;
use crate::admin::{self, Gate, Scope};
use crate::config::{self, Loaded, Overrides, Problems, TlsFiles};
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
    #[error("certificate `{}` cannot be used", path.display())]
    Tls { path: PathBuf },
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
    data: SocketAddr,
    admin: Option<SocketAddr>,
    shutdown: watch::Sender<bool>,
    /// Dropped when the workers may end.
    released: Vec<oneshot::Sender<()>>,
    /// One per core, for the data plane.
    workers: Vec<Worker>,
    /// Admin and metrics.
    operators: Vec<Worker>,
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

    /// Starts from a config file and returns once every listener is bound.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub(crate) fn start(path: &Path, overrides: Overrides) -> Result<Self, StartError> {
        let begun = Instant::now();
        let control = control_runtime()?;
        let loaded = config::load(path, &overrides).map_err(StartError::Config)?;
        let watch = reload::watch(&loaded);
        let config = Arc::clone(&loaded.config);
        telemetry::log::init(&config.telemetry)?;
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
        let (shutdown, _) = watch::channel(false);
        let mut server = Self {
            live,
            reload,
            control,
            data: config.server.listen,
            admin: None,
            shutdown,
            released: Vec::new(),
            workers: Vec::new(),
            operators: Vec::new(),
        };
        server.listen(&first.loaded, &registry)?;
        server.announce_ready(begun, &registry, &pools);
        Ok(server)
    }

    /// Binds every listener, then starts the threads behind them.
    fn listen(&mut self, loaded: &Loaded, registry: &Arc<Registry>) -> Result<(), StartError> {
        let config = loaded.config.as_ref();
        let bind = |field: &str, address| {
            workers::bind(address).map_err(|error| not_bound(loaded, field, address, &error))
        };
        let optional = |field: &str, address: Option<SocketAddr>| {
            address.map(|address| bind(field, address)).transpose()
        };
        let data = bind("/server/listen", config.server.listen)?;
        let admin = optional("/admin/listen", config.admin.listen)?;
        let metrics = optional("/telemetry/listen", config.telemetry.listen)?;
        self.data = local(&data)?;
        self.admin = admin.as_ref().map(local).transpose()?;
        for number in 0..config.server.workers {
            let app = DataPlane::new(Arc::clone(&self.live));
            let tls = config.server.tls.as_ref();
            let worker = self.spawn(format!("worker-{number}"), &data, tls, app)?;
            self.workers.push(worker);
        }
        let views: Arc<dyn admin::Views> = Arc::new(Process {
            live: Arc::clone(&self.live),
            reload: self.reload.clone(),
            registry: Arc::clone(registry),
        });
        let restricted = [(admin, Scope::All), (metrics, Scope::Metrics)];
        for (listener, scope) in restricted {
            let Some(listener) = listener else { continue };
            let gate = Gate::new(local(&listener)?, config.admin.token.as_ref(), scope);
            let app = admin::App::new(Arc::clone(&views), gate, scope);
            let operator = self.spawn("admin".to_owned(), &listener, None, app)?;
            self.operators.push(operator);
        }
        Ok(())
    }

    fn spawn<A: pingora::apps::ServerApp + Send + Sync + 'static>(
        &mut self,
        name: String,
        listener: &std::net::TcpListener,
        tls: Option<&TlsFiles>,
        app: A,
    ) -> Result<Worker, StartError> {
        let (release, released) = oneshot::channel();
        let shutdown = self.shutdown.subscribe();
        let worker = workers::start(name, listener, tls, app, shutdown, released)?;
        self.released.push(release);
        Ok(worker)
    }

    /// Connects the pools on each worker, then says `ready`.
    fn announce_ready(
        &self,
        begun: Instant,
        registry: &Arc<Registry>,
        pools: &crate::upstream::Pools,
    ) {
        let workers: Vec<_> = self
            .workers
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
        self.control.spawn(async move {
            for worker in workers {
                // A panic has been reported by the hook; traffic connects on its own.
                let _ = worker.await;
            }
            live.set_ready();
            let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(
                generation,
                listening_after_ms = ms(listening),
                ready_after_ms = ms(begun.elapsed()),
                "ready"
            );
        });
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
    /// `drain_timeout`. True when all of them ended by themselves.
    pub(crate) fn stop(self) -> bool {
        let limit = self.live.snapshot().config.server.drain_timeout;
        self.live.set_draining();
        // Nobody listens any more when every worker has ended: that is fine.
        let _ = self.shutdown.send(true);
        let metrics = Arc::clone(&self.live.shared().metrics);
        tracing::info!(in_flight = metrics.requests_in_flight.get(), "stopping");
        let drained = self.control.block_on(drain(&metrics, limit));
        drop(self.released);
        for worker in self.workers.into_iter().chain(self.operators) {
            worker.join();
        }
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

/// Waits until no request is in flight, at most for `limit`.
async fn drain(metrics: &Metrics, limit: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    // The gauge has no event to await; a stop is rare, and 10 ms late is on time.
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while metrics.requests_in_flight.get() > 0 {
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tick.tick().await;
    }
    true
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
