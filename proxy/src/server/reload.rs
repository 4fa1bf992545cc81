//! Builds the next snapshot off to the side, and swaps it in when it is whole.
//!
//! One task does it, one candidate at a time: changes that come meanwhile are met by the next round.
//! A config is taken as a whole or not at all. A plugin file that turned bad does not hold back the
//! rest: its slot keeps the plugin that runs, as long as the slot's own config is what it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::live::Live;
use crate::cache::Memory;
use crate::config::watch::Watcher;
use crate::config::{self, Config, Loaded, Locator, Overrides, Problems, Slot, SlotName};
use crate::pipeline::{Plugins, Snapshot};
use crate::plugin::{Host, LoadError, Plugin};
use crate::telemetry::forget::Names;
use crate::telemetry::{Alive, Metrics, log};
use crate::upstream::Registry;

/// Reloads that may wait; more of them would find the same files.
const QUEUE: usize = 16;
/// What a config edit gets of time to settle, and a file that inotify is silent about at most waits.
const DEBOUNCE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_secs(10);

/// Why a candidate did not become the running state.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// Everything that is wrong, as `sluicegate check` prints it.
    pub(crate) message: String,
    /// The same, one text for each problem.
    pub(crate) problems: Vec<String>,
    /// Files whose change may mend it.
    files: Vec<PathBuf>,
}

/// What the last rounds gave, for the admin API.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// The running config, without secrets.
    pub(super) config: serde_json::Value,
    /// Why the newest candidate was refused.
    pub(super) refused: Option<String>,
}

/// Asks for a reload.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    orders: mpsc::Sender<Order>,
    status: Arc<Mutex<Status>>,
}

struct Order {
    cause: &'static str,
    done: Option<oneshot::Sender<Result<u64, Refused>>>,
}

impl Handle {
    /// Reloads and says what came of it. The round goes on when the future is dropped.
    ///
    /// # Errors
    /// [`Refused`] when the candidate is bad, or the server stops.
    pub(crate) async fn reload(&self, cause: &'static str) -> Result<u64, Refused> {
        let (done, outcome) = oneshot::channel();
        let order = Order {
            cause,
            done: Some(done),
        };
        let stopping = |_| Refused {
            message: "the server is stopping".to_owned(),
            problems: Vec::new(),
            files: Vec::new(),
        };
        self.orders
            .send(order)
            .await
            .map_err(|error| stopping(error.to_string()))?;
        match outcome.await {
            Ok(outcome) => outcome,
            Err(error) => Err(stopping(error.to_string())),
        }
    }

    /// Reads the status.
    pub(super) fn status<T>(&self, read: impl FnOnce(&Status) -> T) -> T {
        read(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes snapshots.
pub(super) struct Builder {
    /// The config file.
    pub(super) path: PathBuf,
    pub(super) overrides: Overrides,
    pub(super) host: Arc<Host>,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<Metrics>,
}

/// A candidate that may be swapped in.
pub(super) struct Candidate {
    pub(super) snapshot: Snapshot,
    pub(super) loaded: Loaded,
    /// Slots that keep their old plugin, and why.
    pub(super) kept: BTreeMap<String, String>,
    /// False when nothing differs from what runs.
    pub(super) changed: bool,
}

impl Builder {
    /// Loads the config alone.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn load(&self) -> Result<Loaded, Problems> {
        config::load(&self.path, &self.overrides)
    }

    /// Builds a candidate beside `running`, which is none at the start.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub(super) async fn build(&self, running: Option<&Snapshot>) -> Result<Candidate, Refused> {
        let loaded = self.load().map_err(|problems| refused_config(&problems))?;
        let config = Arc::clone(&loaded.config);
        if let Some(running) = running {
            config::check_reload(&running.config, &config)
                .map_err(|problems| refused_config(&problems))?;
        }
        let mut kept = BTreeMap::new();
        let mut problems = Vec::new();
        let slots = all_slots(&config);
        let loads = slots.iter().map(|slot| self.host.load(Arc::clone(slot)));
        let mut plugins = Vec::with_capacity(slots.len());
        for (slot, outcome) in slots.iter().zip(join_all(loads).await) {
            match outcome {
                Ok(plugin) => plugins.push(plugin),
                Err(error) => {
                    let text = describe(&loaded.locator, &slot.name, &error);
                    match running.and_then(|running| find(running, slot)) {
                        Some(plugin) => {
                            plugins.push(plugin);
                            kept.insert(slot.name.to_string(), text);
                        }
                        None => problems.push(text),
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(Refused {
                message: problems.join("\n"),
                problems,
                files: loaded.watched,
            });
        }
        let changed = running
            .is_none_or(|running| *running.config != *config || !same_plugins(running, &plugins));
        let generation = running.map_or(1, |running| running.generation + 1);
        let snapshot = self.assemble(generation, &config, plugins, running);
        Ok(Candidate {
            snapshot,
            loaded,
            kept,
            changed,
        })
    }

    /// Forgets the names that neither the running config nor what is left of older ones uses.
    fn forget_gone(&self, running: &Snapshot) {
        let slots = running_plugins(running).map(|plugin| &plugin.slot().name);
        let backends = self.registry.names();
        self.metrics.forget_gone(&Names {
            slots: self.host.forget_slots(&slots.collect()),
            pools: backends.iter().map(|(pool, _)| pool.clone()).collect(),
            backends,
            labels: running.labels().map(ToString::to_string).collect(),
        });
    }

    fn assemble(
        &self,
        generation: u64,
        config: &Arc<Config>,
        plugins: Vec<Arc<Plugin>>,
        running: Option<&Snapshot>,
    ) -> Snapshot {
        let cache = running
            .filter(|running| same_limits(&running.config.cache, &config.cache))
            .map_or_else(
                || Arc::new(Memory::new(&config.cache)),
                |running| Arc::clone(&running.cache),
            );
        let pools = self.registry.pools(config);
        let mut plugins = plugins.into_iter();
        let (classify, compress) = (&config.pipeline.classify, &config.pipeline.compress);
        let plugins = Plugins {
            classifiers: plugins.by_ref().take(classify.len()).collect(),
            compressors: plugins.by_ref().take(compress.len()).collect(),
            cache_policy: plugins.next(),
        };
        let alive = Alive::new(self.metrics.snapshots.clone());
        Snapshot::new(generation, Arc::clone(config), pools, cache, plugins, alive)
    }
}

/// All slots in the order in which a snapshot takes them.
fn all_slots(config: &Config) -> Vec<Arc<Slot>> {
    let pipeline = &config.pipeline;
    let lists = pipeline.classify.iter().chain(&pipeline.compress);
    lists.chain(&pipeline.cache_policy).cloned().collect()
}

fn running_plugins(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Plugin>> {
    let lists = snapshot.classifiers.iter().chain(&snapshot.compressors);
    lists.chain(&snapshot.cache_policy)
}

/// The plugin that runs in an equal slot.
fn find(running: &Snapshot, slot: &Slot) -> Option<Arc<Plugin>> {
    running_plugins(running)
        .find(|plugin| **plugin.slot() == *slot)
        .cloned()
}

fn same_plugins(running: &Snapshot, plugins: &[Arc<Plugin>]) -> bool {
    running_plugins(running).count() == plugins.len()
        && running_plugins(running)
            .zip(plugins)
            .all(|(old, new)| Arc::ptr_eq(old, new))
}

/// Other limits need another cache; everything else is read per request.
fn same_limits(old: &config::Cache, new: &config::Cache) -> bool {
    (old.max_entries, old.max_bytes) == (new.max_entries, new.max_bytes)
}

/// A plugin's refusal, with the line of the operator's file where its own table is at fault.
fn describe(locator: &Locator, slot: &SlotName, error: &LoadError) -> String {
    let LoadError::Config { issues } = error else {
        return format!("plugin slot `{slot}`: {}", log::chain(error));
    };
    let places: Vec<String> = issues
        .iter()
        .map(|issue| {
            let place = locator.slot(slot, &issue.pointer).unwrap_or_default();
            format!("  {place}: {}", issue.message)
        })
        .collect();
    format!(
        "plugin slot `{slot}`: its config is not valid\n{}",
        places.join("\n")
    )
}

fn refused_config(problems: &Problems) -> Refused {
    Refused {
        message: problems.to_string(),
        problems: problems.list().iter().map(ToString::to_string).collect(),
        files: problems.files().to_vec(),
    }
}

/// Begins to watch a config's files. Before the plugins load, so that no change is missed.
pub(super) fn watch(loaded: &Loaded) -> (Watcher, mpsc::Receiver<()>) {
    Watcher::new(loaded.watched.clone(), DEBOUNCE, POLL)
}

/// Starts the task that reloads on file changes and on orders, until all handles are gone.
pub(super) fn start(
    builder: Builder,
    live: Arc<Live>,
    first: &Loaded,
    (watcher, changes): (Watcher, mpsc::Receiver<()>),
    control: &tokio::runtime::Handle,
) -> Handle {
    let (orders, inbox) = mpsc::channel(QUEUE);
    let status = Arc::new(Mutex::new(Status {
        config: first.redacted.clone(),
        ..Status::default()
    }));
    let reloader = Reloader {
        builder,
        live,
        watcher,
        watched: first.watched.clone(),
        status: Arc::clone(&status),
    };
    control.spawn(reloader.run(inbox, changes));
    Handle { orders, status }
}

struct Reloader {
    builder: Builder,
    live: Arc<Live>,
    watcher: Watcher,
    /// Files of the running config.
    watched: Vec<PathBuf>,
    status: Arc<Mutex<Status>>,
}

impl Reloader {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>, mut changes: mpsc::Receiver<()>) {
        loop {
            let order = tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => order,
                    None => return,
                },
                Some(()) = changes.recv() => Order { cause: "file change", done: None },
            };
            let outcome = self.round(order.cause).await;
            if let Some(done) = order.done {
                // Whoever ordered it may have left.
                let _ = done.send(outcome);
            }
        }
    }

    /// One candidate: swapped in, or refused with everything that is wrong.
    async fn round(&mut self, cause: &'static str) -> Result<u64, Refused> {
        let running = self.live.snapshot();
        self.builder.forget_gone(&running);
        let outcome = self.builder.build(Some(&running)).await;
        let reloads = &self.live.shared().metrics.reloads;
        match outcome {
            Ok(candidate) => {
                let bad = candidate.kept.len();
                let result = if bad == 0 { "ok" } else { "partial" };
                reloads.with_label_values(&[result]).inc();
                Ok(self.accept(cause, candidate, &running))
            }
            Err(refused) => {
                reloads.with_label_values(&["refused"]).inc();
                tracing::error!(
                    cause,
                    "reload refused, nothing changed:\n{}",
                    refused.message
                );
                // The candidate's files as well as the running ones may bring the next good state.
                let files = self.watched.iter().chain(&refused.files).cloned().collect();
                self.watcher.set_paths(files);
                self.note(|status| status.refused = Some(refused.message.clone()));
                Err(refused)
            }
        }
    }

    fn accept(&mut self, cause: &'static str, candidate: Candidate, running: &Snapshot) -> u64 {
        let Candidate {
            snapshot,
            loaded,
            kept,
            changed,
        } = candidate;
        for (slot, problem) in &kept {
            tracing::error!(
                slot,
                cause,
                "plugin candidate refused, the old one goes on: {problem}"
            );
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.watched.clone_from(&loaded.watched);
        self.watcher.set_paths(loaded.watched.clone());
        self.note(|status| {
            status.refused = None;
            status.config = loaded.redacted.clone();
        });
        if !changed {
            return running.generation;
        }
        let generation = snapshot.generation;
        self.builder
            .registry
            .supervise(&snapshot.pools, &snapshot.config);
        let shared = self.live.shared();
        shared
            .metrics
            .config_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.live.swap(snapshot);
        tracing::info!(generation, cause, "reloaded");
        generation
    }

    fn note(&self, write: impl FnOnce(&mut Status)) {
        write(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
