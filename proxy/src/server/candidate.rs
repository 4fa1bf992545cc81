//! Builds the next snapshot off to the side: the whole config, every plugin, every pool.
//!
//! A config is taken as a whole or not at all. A plugin file that turned bad does not hold back the
//! rest: its slot keeps the plugin that runs, as long as the slot's own config is what it was.
//! Nothing here changes what runs; [`super::reload`] swaps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::cache::Memory;
use crate::config::{self, Config, Loaded, Locator, Overrides, Problems, Slot, SlotName};
use crate::pipeline::Snapshot;
use crate::plugin::{Host, LoadError, Plugin};
use crate::telemetry::log;
use crate::upstream::Registry;

/// How long a component may compile while the rest of a reload waits for it. Its slot then keeps the
/// plugin that it has, and takes the new one when it is compiled.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// How long the start waits for a component: there is nothing that could run without it.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// Why a candidate did not become the running state.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// Everything that is wrong, as `sluicegate check` prints it.
    pub(crate) message: String,
    /// The same, one text for each problem.
    pub(crate) problems: Vec<String>,
    /// Files whose change may mend it.
    pub(super) files: Vec<PathBuf>,
}

/// Makes snapshots.
pub(super) struct Builder {
    /// The config file.
    pub(super) path: PathBuf,
    pub(super) overrides: Overrides,
    pub(super) host: Arc<Host>,
    pub(super) registry: Arc<Registry>,
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
        let patience = if running.is_some() {
            RELOAD_PATIENCE
        } else {
            START_PATIENCE
        };
        let loads = slots
            .iter()
            .map(|slot| self.host.load(Arc::clone(slot), patience));
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
        let classifiers = plugins
            .by_ref()
            .take(config.pipeline.classify.len())
            .collect();
        let compressors = plugins
            .by_ref()
            .take(config.pipeline.compress.len())
            .collect();
        let cache_policy = plugins.next();
        Snapshot::new(
            generation,
            Arc::clone(config),
            pools,
            cache,
            classifiers,
            compressors,
            cache_policy,
        )
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
