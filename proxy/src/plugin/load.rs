//! From a slot of the config to a plugin that has passed every check.
//!
//! In order: read (size first), SHA-256, compile or fetch from the compile cache, names, types,
//! `describe`, config by the plugin's own schema, metrics, `configure`, the built-in request, a full
//! pool. Whatever fails ends it there, with an error that says what to do, and leaves no trace.
//! Nothing here runs on a worker.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre};

use super::breaker::Breaker;
use super::error::LoadError;
use super::families::Prepared;
use super::host::v0_1::Indices;
use super::instance::{Blueprint, DESCRIBE, LiveInstance};
use super::plugin::{BlockingLane, History, Inner, Plugin, Tally};
use super::pool::Pool;
use super::rate::Rate;
use super::state::{MetricHandle, Shared, State};
use super::types::PluginInfo;
use super::view::ViewRules;
use super::{Host, builtin, config_schema, describe, inspect, smoke, text};
use crate::api::hex::hex;
use crate::config::{Slot, Source};
use crate::telemetry::Alive;

/// Log messages of one slot in a second.
const LOGS_PER_SECOND: u32 = 50;

/// A file that makes no sense is looked at again after this: someone may be writing it.
const SETTLE: Duration = Duration::from_millis(250);

/// Longest time to read a file.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);

/// A file that is still being written after this is refused.
const PATIENCE: Duration = Duration::from_secs(10);

impl Host {
    /// Loads a slot's plugin. When the slot and its component are those of the slot's latest
    /// plugin, and that one still lives, it is returned as it is. `patience` is how long its
    /// component may compile.
    ///
    /// # Errors
    /// Why the candidate is refused. It is also counted, and shown beside the slot's plugin; but not
    /// one that still compiles: [`Self::compiled`] says when to come back for that.
    pub(crate) async fn load(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        patience: Duration,
    ) -> Result<Arc<Plugin>, LoadError> {
        let history = self.history(&slot.name);
        let loaded = self.load_settled(&slot, &history, patience).await;
        match &loaded {
            Ok(_) => history.note(None),
            Err(LoadError::Stopping | LoadError::Compiling { .. }) => {}
            Err(error) => {
                self.metrics
                    .plugin_refused
                    .with_label_values(&[slot.name.as_str()])
                    .inc();
                history.note(Some(&slot.secrets.redact(&chain(error))));
            }
        }
        loaded
    }

    /// Waits until a component has been compiled for which a [`Self::load`] ran out of patience.
    pub(crate) async fn compiled(&self) {
        self.compiler.finished().await;
    }

    /// Loads; a file that changes while it is looked at is looked at again.
    async fn load_settled(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        history: &Arc<History>,
        patience: Duration,
    ) -> Result<Arc<Plugin>, LoadError> {
        let begun = Instant::now();
        loop {
            let before = fingerprint(&slot.source);
            match self.load_once(slot, history, patience).await {
                Err(error) if error.may_be_half_written() && begun.elapsed() < PATIENCE => {
                    #[expect(clippy::disallowed_methods, reason = "backs off from who writes it")]
                    tokio::time::sleep(SETTLE).await;
                    if fingerprint(&slot.source) == before {
                        return Err(error);
                    }
                }
                settled => return settled,
            }
        }
    }

    async fn load_once(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        history: &Arc<History>,
        patience: Duration,
    ) -> Result<Arc<Plugin>, LoadError> {
        let (host, wanted) = (Arc::clone(self), Arc::clone(slot));
        // A file system that hangs must not hold up what comes after.
        let fetching = self.blocking(move || host.fetch(&wanted));
        let fetched = tokio::time::timeout(FETCH_PATIENCE, fetching).await;
        let (bytes, sha256) = fetched.unwrap_or_else(|_| {
            Err(LoadError::Read {
                path: PathBuf::from(slot.source.to_string()),
                source: io::Error::new(io::ErrorKind::TimedOut, "reading it does not end"),
            })
        })?;
        if let Some(plugin) = self.current(slot, &sha256) {
            return Ok(plugin);
        }
        let component = self.compiler.compile(bytes, &sha256, patience).await?;
        inspect::names(&component, self.engine.engine(), slot.kind)?;
        // One candidate at a time has instances that the allocator's room does not count.
        let _turn = self.candidates.lock().await;
        let (host, wanted) = (Arc::clone(self), Arc::clone(slot));
        let candidate = self
            .blocking(move || host.try_out(&component, &wanted))
            .await?;
        self.accept(candidate, slot, sha256, history)
    }

    /// Runs `work` on a blocking thread of the control plane.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        let done = self.control.spawn_blocking(work).await;
        done.unwrap_or_else(|error| {
            Err(if error.is_panic() {
                LoadError::Panicked
            } else {
                LoadError::Stopping
            })
        })
    }

    fn fetch(&self, slot: &Slot) -> Result<(Bytes, [u8; 32]), LoadError> {
        let bytes = match &slot.source {
            Source::Builtin(name) => builtin::get(name)?,
            Source::File(path) => read(path, slot.max_component_bytes)?,
        };
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        if let Some(expected) = slot.sha256
            && expected != sha256
        {
            return Err(LoadError::Sha256 {
                expected: hex(&expected),
                found: hex(&sha256),
            });
        }
        Ok((bytes, sha256))
    }

    /// Takes a component through everything that needs it to run.
    fn try_out(&self, component: &Component, slot: &Arc<Slot>) -> Result<Candidate, LoadError> {
        let contract = |error: wasmtime::Error| LoadError::Contract {
            detail: text::of_engine(&error),
        };
        let pre = self.linker.instantiate_pre(component).map_err(contract)?;
        let indices = Indices::new(&pre, slot.kind).map_err(contract)?;
        let info = self.describe(&pre, &indices, slot)?;
        describe::check(&info, slot)?;
        config_schema::check(&info, slot)?;
        let metrics = self.families.prepare(&info, &slot.name)?;
        let shared = self.shared(slot, &info.name, info.wants_clock, metrics.handles.clone());
        let view = ViewRules::new(Arc::clone(slot), &info);
        let config = slot.config.to_string();
        let engine = Arc::clone(&self.engine);
        let blueprint = Blueprint {
            engine,
            pre,
            indices,
            shared,
            config,
        };
        let first = smoke::first(&view, || blueprint.make())?;
        let spares = usize::try_from(slot.spares).unwrap_or(usize::MAX);
        let labels = [slot.name.as_str()];
        let pool = Pool::fill(
            blueprint,
            first,
            self.workers.saturating_add(spares),
            self.metrics
                .plugin_idle_instances
                .with_label_values(&labels),
            Alive::new(self.metrics.plugin_pools.with_label_values(&labels)),
            self.control.clone(),
        )?;
        Ok(Candidate {
            info,
            view,
            metrics,
            pool,
        })
    }

    /// Asks a component who it is, on an instance of its own that knows no config and no grant.
    fn describe(
        &self,
        pre: &InstancePre<State>,
        indices: &Indices,
        slot: &Arc<Slot>,
    ) -> Result<PluginInfo, LoadError> {
        let nameless = self.shared(slot, slot.name.as_str(), false, Vec::new());
        let mut instance = LiveInstance::start(&self.engine, pre, indices, &nameless, DESCRIBE)?;
        instance
            .enter(DESCRIBE, |store, exports| exports.describe(store))
            .map_err(LoadError::Describe)
    }

    fn shared(
        &self,
        slot: &Arc<Slot>,
        plugin: &str,
        wants_clock: bool,
        metrics: Vec<MetricHandle>,
    ) -> Arc<Shared> {
        let dropped = |reason: &str| {
            self.metrics
                .plugin_dropped
                .with_label_values(&[slot.name.as_str(), reason])
        };
        Arc::new(Shared {
            plugin: plugin.to_owned(),
            clock: wants_clock && slot.grant_clock,
            metrics,
            log_rate: Rate::new(LOGS_PER_SECOND),
            logs_dropped: dropped("log"),
            metrics_dropped: dropped("metric"),
            clock_origin: self.started,
            estimate: self.estimate,
            slot: Arc::clone(slot),
        })
    }

    /// Makes a plugin of a candidate. It has no number before [`Host::adopt`].
    fn accept(
        &self,
        candidate: Candidate,
        slot: &Arc<Slot>,
        sha256: [u8; 32],
        history: &Arc<History>,
    ) -> Result<Arc<Plugin>, LoadError> {
        let Candidate {
            info,
            view,
            metrics,
            pool,
        } = candidate;
        self.families.publish(metrics)?;
        Ok(Arc::new(Plugin {
            inner: Arc::new(Inner {
                info,
                sha256,
                generation: AtomicU64::new(0),
                loaded_at: SystemTime::now(),
                view,
                pool,
                breaker: Breaker::new(
                    slot.quarantine_after,
                    self.metrics
                        .plugin_quarantined
                        .with_label_values(&[slot.name.as_str()]),
                ),
                tally: Tally::new(&self.metrics, &slot.name),
                lane: BlockingLane {
                    control: self.control.clone(),
                    cores: Arc::clone(&self.cores),
                    spares: Arc::new(Semaphore::new(
                        usize::try_from(slot.spares).unwrap_or(1).max(1),
                    )),
                },
                history: Arc::clone(history),
                slot: Arc::clone(slot),
            }),
        }))
    }
}

/// A component that has passed.
struct Candidate {
    info: PluginInfo,
    view: ViewRules,
    metrics: Prepared,
    pool: Arc<Pool>,
}

/// Reads a file of at most `limit` bytes. Its size is asked first, and not believed.
fn read(path: &Path, limit: u64) -> Result<Bytes, LoadError> {
    let failed = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let too_large = || LoadError::TooLarge {
        path: path.to_owned(),
        limit,
    };
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )));
    }
    if found.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes.into())
}

/// What tells a file from itself a moment ago. None: nothing there, or nothing that could change.
fn fingerprint(source: &Source) -> Option<(u64, u64, i64, i64)> {
    match source {
        Source::Builtin(_) => None,
        Source::File(path) => {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        }
    }
}

/// An error with its causes, on one line.
fn chain(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some texts hold their cause already.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
