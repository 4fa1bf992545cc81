//! What a request decides on: one immutable state, built off to the side and swapped in whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::cache::Memory;
use crate::config::{Config, Label};
use crate::plugin::Plugin;
use crate::telemetry::Alive;
use crate::upstream::{Pool, Pools};

/// The state that a request begins with and keeps.
pub(crate) struct Snapshot {
    /// From 1; the next good reload has the next number.
    pub(crate) generation: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) pools: Pools,
    /// Kept from snapshot to snapshot while its limits stay.
    pub(crate) cache: Arc<Memory>,
    pub(crate) classifiers: Vec<Arc<Plugin>>,
    pub(crate) compressors: Vec<Arc<Plugin>>,
    pub(crate) cache_policy: Option<Arc<Plugin>>,
    /// Labels that the config names: only these are metric labels.
    labels: HashSet<Label>,
    /// First pool that serves a model name.
    models: HashMap<String, Arc<Pool>>,
    _alive: Alive,
}

/// The plugins of a snapshot, by stage.
pub(crate) struct Plugins {
    pub(crate) classifiers: Vec<Arc<Plugin>>,
    pub(crate) compressors: Vec<Arc<Plugin>>,
    pub(crate) cache_policy: Option<Arc<Plugin>>,
}

impl Snapshot {
    /// Joins what was loaded.
    pub(crate) fn new(
        generation: u64,
        config: Arc<Config>,
        pools: Pools,
        cache: Arc<Memory>,
        plugins: Plugins,
        alive: Alive,
    ) -> Self {
        let Plugins {
            classifiers,
            compressors,
            cache_policy,
        } = plugins;
        let labels = config
            .routes
            .iter()
            .flat_map(|route| route.matches.labels.iter().cloned())
            .collect();
        let mut models = HashMap::new();
        for pool in config.pools.iter().filter_map(|pool| pools.get(&pool.name)) {
            for model in &pool.config().models {
                models
                    .entry(model.clone())
                    .or_insert_with(|| Arc::clone(pool));
            }
        }
        Self {
            generation,
            config,
            pools,
            cache,
            classifiers,
            compressors,
            cache_policy,
            labels,
            models,
            _alive: alive,
        }
    }

    /// Labels that the config names.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &Label> {
        self.labels.iter()
    }

    /// True when a route names this label.
    pub(crate) fn knows_label(&self, label: &Label) -> bool {
        self.labels.contains(label)
    }

    /// The pool that serves a model name; the config's first, where several do.
    pub(crate) fn pool_of_model(&self, model: &str) -> Option<&Arc<Pool>> {
        self.models.get(model)
    }
}
