//! Builds the next snapshot off to the side: the whole config, every plugin, every pool.
//!
//! A config is taken as a whole or not at all. A plugin file that turned bad does not hold back the
//! rest: its slot keeps the plugin that runs, as long as the slot's own config is what it was.
//! Nothing here changes what runs; [`super::reload`] swaps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::cache::Memory;
use crate::config::{
    self, Config, Loaded, Locator, Overrides, Problem, Problems, Slot, SlotKind, SlotName,
};
use crate::pipeline::{Plugins, Snapshot};
use crate::plugin::{ConfigIssue, Host, LoadError, Plugin};
use crate::telemetry::forget::Names;
use crate::telemetry::{Alive, Metrics, log};
use crate::upstream::Registry;

/// How long a component may compile while the rest of a reload waits for it. Its slot then keeps the
/// plugin that it has, and takes the new one when it is compiled.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// How long the start waits for a component: there is nothing that could run without it.
const START_PATIENCE: Duration = Duration::from_secs(600);

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
    /// Slots that keep their old plugin.
    pub(super) kept: Vec<Kept>,
    /// False when nothing differs from what runs.
    pub(super) changed: bool,
}

/// A slot that keeps its old plugin.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) slot: SlotName,
    /// The new one still compiles, and is taken when that is done.
    pub(super) is_pending: bool,
    /// Why the new one is not taken.
    pub(super) problems: Vec<Problem>,
}

impl Builder {
    /// Loads the config anew, for a reload of what runs.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn load(&self, running: &Snapshot) -> Result<Loaded, Problems> {
        let loaded = config::load(&self.path, &self.overrides)?;
        config::check_reload(&running.config, &loaded)?;
        Ok(loaded)
    }

    /// Builds a candidate beside `running`, which is none at the start. Nothing has changed before
    /// it is swapped in.
    ///
    /// # Errors
    /// Every plugin that is refused and has no running one to stand in for it.
    pub(super) async fn build(
        &self,
        loaded: Loaded,
        running: Option<&Snapshot>,
    ) -> Result<Candidate, Problems> {
        let (plugins, kept) = self.load_plugins(&loaded, running).await?;
        let config = &loaded.config;
        let changed = running
            .is_none_or(|running| *running.config != **config || !same_plugins(running, &plugins));
        let generation = running.map_or(1, |running| running.generation + 1);
        let snapshot = self.assemble(generation, config, &plugins, running);
        Ok(Candidate {
            snapshot,
            loaded,
            kept,
            changed,
        })
    }

    /// A plugin for each slot: the new one, or else the one that runs in an equal slot.
    async fn load_plugins(
        &self,
        loaded: &Loaded,
        running: Option<&Snapshot>,
    ) -> Result<(Vec<Arc<Plugin>>, Vec<Kept>), Problems> {
        let slots = all_slots(&loaded.config);
        let patience = match running {
            Some(_) => RELOAD_PATIENCE,
            None => START_PATIENCE,
        };
        let loads = slots
            .iter()
            .map(|slot| self.host.load(Arc::clone(slot), patience));
        let outcomes = join_all(loads).await;
        let (mut plugins, mut kept, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, outcome) in slots.iter().zip(outcomes) {
            let error = match outcome {
                Ok(plugin) => {
                    plugins.push(plugin);
                    continue;
                }
                Err(error) => error,
            };
            let refusal = refusal(&loaded.locator, slot, &error);
            match running.and_then(|running| find(running, slot)) {
                Some(plugin) => {
                    plugins.push(plugin);
                    kept.push(Kept {
                        slot: slot.name.clone(),
                        is_pending: matches!(error, LoadError::Compiling { .. }),
                        problems: refusal,
                    });
                }
                None => problems.extend(refusal),
            }
        }
        match problems.is_empty() {
            true => Ok((plugins, kept)),
            false => Err(Problems::new(problems).with_files(loaded.watched.clone())),
        }
    }

    /// Makes the plugins of a snapshot that is swapped in the current ones of their slots.
    pub(super) fn adopt(&self, snapshot: &Snapshot) {
        for plugin in running_plugins(snapshot) {
            self.host.adopt(plugin);
        }
    }

    /// Forgets the names that neither the running config nor what is left of older ones uses.
    pub(super) fn forget_gone(&self, running: &Snapshot) {
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
        plugins: &[Arc<Plugin>],
        running: Option<&Snapshot>,
    ) -> Snapshot {
        let cache = running
            .filter(|running| same_limits(&running.config.cache, &config.cache))
            .map_or_else(
                || Arc::new(Memory::new(&config.cache)),
                |running| Arc::clone(&running.cache),
            );
        let pools = self.registry.pools(config);
        let of = |kind| {
            let of_kind = move |plugin: &&Arc<Plugin>| plugin.slot().kind == kind;
            plugins.iter().filter(of_kind).cloned()
        };
        let plugins = Plugins {
            classifiers: of(SlotKind::Classify).collect(),
            compressors: of(SlotKind::Compress).collect(),
            cache_policy: of(SlotKind::CachePolicy).next(),
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

/// A plugin's refusal, at the field of the operator's file that leads to it.
fn refusal(locator: &Locator, slot: &Slot, error: &LoadError) -> Vec<Problem> {
    let plugin = slot.source.to_string();
    if let LoadError::Config { issues } = error {
        let problem = |issue: &ConfigIssue| {
            // A pointer begins with a slash; a plugin may not know.
            let slash = if matches!(issue.pointer.chars().next(), None | Some('/')) {
                ""
            } else {
                "/"
            };
            let pointer = format!("/config{slash}{}", issue.pointer);
            let mut problem = locator.slot_problem(&slot.name, &pointer, &issue.message);
            problem.help(format!("plugin `{plugin}` of slot `{}` says so", slot.name));
            problem
        };
        return issues.iter().map(problem).collect();
    }
    let field = match error {
        LoadError::Sha256 { .. } => "/sha256",
        _ => "/source",
    };
    let why = log::chain(error);
    let message = match why.contains(&plugin) {
        true => format!("slot `{}`: {why}", slot.name),
        false => format!("plugin `{plugin}` of slot `{}`: {why}", slot.name),
    };
    vec![locator.slot_problem(&slot.name, field, message)]
}
