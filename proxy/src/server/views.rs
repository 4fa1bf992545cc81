//! What the admin API shows and orders, gathered from the other rooms.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::live::Live;
use super::reload::Handle;
use crate::admin::{ConfigView, Readiness, ReloadRefused, Views};
use crate::upstream::Registry;

/// The admin API's view of the process.
pub(super) struct Process {
    pub(super) live: Arc<Live>,
    pub(super) reload: Handle,
    pub(super) registry: Arc<Registry>,
}

#[async_trait]
impl Views for Process {
    fn plugins(&self) -> Value {
        let snapshot = self.live.snapshot();
        let plugins = snapshot
            .classifiers
            .iter()
            .chain(&snapshot.compressors)
            .chain(&snapshot.cache_policy);
        let list: Vec<Value> = plugins.map(|plugin| json!(plugin.status())).collect();
        Value::Array(list)
    }

    fn pools(&self) -> Value {
        json!(self.registry.status())
    }

    fn config(&self) -> ConfigView {
        let generation = self.live.snapshot().generation;
        self.reload.status(|status| ConfigView {
            generation,
            config: status.config.clone(),
            last_reload_error: status.refused.clone(),
        })
    }

    async fn reload(&self) -> Result<u64, ReloadRefused> {
        let outcome = self.reload.reload("admin API").await;
        outcome.map_err(|refused| ReloadRefused {
            message: refused.message,
            problems: refused.problems.into_iter().map(Value::String).collect(),
        })
    }

    fn clear_cache(&self) -> u64 {
        self.live.snapshot().cache.clear()
    }

    fn ready(&self) -> Readiness {
        self.live.readiness()
    }

    fn metrics_text(&self) -> String {
        let shared = self.live.shared();
        let cache = &self.live.snapshot().cache;
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        shared.metrics.cache_entries.set(gauge(cache.len()));
        shared.metrics.cache_bytes.set(gauge(cache.bytes()));
        shared.metrics.text().unwrap_or_else(|error| {
            tracing::error!("metrics cannot be written: {error}");
            String::new()
        })
    }
}
