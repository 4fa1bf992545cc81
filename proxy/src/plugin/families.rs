//! Metrics that plugins declare: one family per name, shared by all slots and generations that
//! declare the same.
//!
//! Two steps, so that a refused candidate leaves nothing behind: [`Families::prepare`] makes what is
//! new without showing it, [`Families::publish`] registers it once the candidate has passed. One
//! candidate at a time is between the two.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::Metric;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

use super::error::LoadError;
use super::state::MetricHandle;
use super::types::{MetricDeclaration, MetricKind, PluginInfo};
use crate::config::SlotName;
use crate::telemetry::Metrics;
use crate::telemetry::forget::{KEPT, Names, forget};

/// All families that were ever registered.
pub(super) struct Families {
    metrics: Arc<Metrics>,
    known: Mutex<HashMap<String, Family>>,
}

#[derive(Clone)]
struct Family {
    help: String,
    kind: MetricKind,
    vector: Vector,
}

#[derive(Clone)]
enum Vector {
    Counter(IntCounterVec),
    Histogram(HistogramVec),
}

/// The metrics of a candidate.
pub(super) struct Prepared {
    /// In the order of the declarations.
    pub(super) handles: Vec<MetricHandle>,
    new: Vec<(String, Family)>,
}

impl Families {
    /// None known yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            known: Mutex::default(),
        }
    }

    /// Finds or makes the families of a plugin.
    ///
    /// # Errors
    /// [`LoadError::Metric`] when a name is held with another kind or help.
    pub(super) fn prepare(
        &self,
        info: &PluginInfo,
        slot: &SlotName,
    ) -> Result<Prepared, LoadError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut prepared = Prepared {
            handles: Vec::new(),
            new: Vec::new(),
        };
        for declared in &info.metrics {
            let name = full_name(&info.name, declared);
            let family = match known.get(&name) {
                Some(family) if family.help == declared.help && family.kind == declared.kind => {
                    family.clone()
                }
                Some(_) => {
                    return Err(LoadError::Metric {
                        name,
                        detail: "it is held with another kind or help; take a new name".to_owned(),
                    });
                }
                None => {
                    let family =
                        Family::new(&name, declared).map_err(|error| LoadError::Metric {
                            name: name.clone(),
                            detail: error.to_string(),
                        })?;
                    prepared.new.push((name, family.clone()));
                    family
                }
            };
            prepared.handles.push(family.handle(slot));
        }
        Ok(prepared)
    }

    /// Shows the new families.
    ///
    /// # Errors
    /// [`LoadError::Metric`] when a name is one of the proxy's own.
    pub(super) fn publish(&self, prepared: Prepared) -> Result<(), LoadError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = self.metrics.registry();
        for (place, (name, family)) in prepared.new.iter().enumerate() {
            if let Err(error) = registry.register(family.vector.collector()) {
                // All or none: what was shown before it goes again.
                for (_, shown) in prepared.new.iter().take(place) {
                    let _ = registry.unregister(shown.vector.collector());
                }
                return Err(LoadError::Metric {
                    name: name.clone(),
                    detail: error.to_string(),
                });
            }
        }
        known.extend(prepared.new);
        Ok(())
    }

    /// Forgets what was counted for slots that are not among `slots`, and the families that nobody
    /// else counts in, within the bounds of [`crate::telemetry::forget`].
    pub(super) fn forget_gone(&self, slots: &HashSet<String>) {
        let names = Names {
            slots: slots.clone(),
            ..Names::default()
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unused = Vec::new();
        for (name, family) in known.iter() {
            let series = family.vector.series();
            if series.iter().all(|series| names.lack(series.get_label())) {
                unused.push(name.clone());
            } else {
                family.vector.forget_gone(&names);
            }
        }
        if unused.len() <= KEPT {
            return;
        }
        for name in unused {
            if let Some(family) = known.remove(&name) {
                // An error says that it is not registered, which is what is wanted.
                let _ = self
                    .metrics
                    .registry()
                    .unregister(family.vector.collector());
            }
        }
    }
}

/// `sluicegate_plugin_<plugin>_<name>`, with `_total` after a counter.
fn full_name(plugin: &str, declared: &MetricDeclaration) -> String {
    let plugin = plugin.replace('-', "_");
    let name = &declared.name;
    match declared.kind {
        MetricKind::Counter => format!("sluicegate_plugin_{plugin}_{name}_total"),
        MetricKind::Histogram(_) => format!("sluicegate_plugin_{plugin}_{name}"),
    }
}

impl Family {
    fn new(name: &str, declared: &MetricDeclaration) -> Result<Self, prometheus::Error> {
        // Prometheus refuses an empty help text.
        let help = if declared.help.is_empty() {
            "Of a plugin."
        } else {
            declared.help.as_str()
        };
        let vector = match &declared.kind {
            MetricKind::Counter => {
                Vector::Counter(IntCounterVec::new(Opts::new(name, help), &["slot"])?)
            }
            MetricKind::Histogram(bounds) => {
                let options = HistogramOpts::new(name, help).buckets(bounds.clone());
                Vector::Histogram(HistogramVec::new(options, &["slot"])?)
            }
        };
        Ok(Self {
            help: declared.help.clone(),
            kind: declared.kind.clone(),
            vector,
        })
    }

    fn handle(&self, slot: &SlotName) -> MetricHandle {
        match &self.vector {
            Vector::Counter(counter) => {
                MetricHandle::Counter(counter.with_label_values(&[slot.as_str()]))
            }
            Vector::Histogram(histogram) => {
                MetricHandle::Histogram(histogram.with_label_values(&[slot.as_str()]))
            }
        }
    }
}

impl Vector {
    /// What has been counted, slot by slot.
    fn series(&self) -> Vec<Metric> {
        let families = match self {
            Self::Counter(counter) => counter.collect(),
            Self::Histogram(histogram) => histogram.collect(),
        };
        let series = families.into_iter().map(|mut family| family.take_metric());
        series.flatten().collect()
    }

    fn forget_gone(&self, names: &Names) {
        match self {
            Self::Counter(counter) => forget(counter, KEPT, names),
            Self::Histogram(histogram) => forget(histogram, KEPT, names),
        }
    }

    fn collector(&self) -> Box<dyn Collector> {
        match self {
            Self::Counter(counter) => Box::new(counter.clone()),
            Self::Histogram(histogram) => Box::new(histogram.clone()),
        }
    }
}
