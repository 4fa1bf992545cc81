//! What the admin API shows and orders, gathered from the other rooms.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::candidate::Kept;
use super::live::Live;
use super::reload::Handle;
use crate::admin::{self, ConfigView, KeptPlugin, Readiness, ReloadRefused, Views};
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
            kept: kept(&status.kept),
        })
    }

    async fn reload(&self) -> Result<admin::Reloaded, ReloadRefused> {
        let outcome = self.reload.reload("admin API").await;
        match outcome {
            Ok(reloaded) => Ok(admin::Reloaded {
                generation: reloaded.generation,
                kept: kept(&reloaded.kept),
            }),
            Err(problems) => Err(ReloadRefused {
                message: problems.to_string(),
                problems: problems
                    .list()
                    .iter()
                    .map(|one| json!(one.to_string()))
                    .collect(),
            }),
        }
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

/// Slots that keep their old plugin, with each reason in one line.
fn kept(kept: &[Kept]) -> Vec<KeptPlugin> {
    let plugin = |kept: &Kept| KeptPlugin {
        slot: kept.slot.to_string(),
        problems: kept.problems.iter().map(ToString::to_string).collect(),
    };
    kept.iter().map(plugin).collect()
}
