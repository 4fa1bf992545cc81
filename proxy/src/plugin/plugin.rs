//! A plugin in its slot: its pool, what it counts, and what operators see of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::{Histogram, IntCounter};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::breaker::Breaker;
use super::failure::{Failure, FailureKind};
use super::pool::Pool;
use super::rate::Rate;
use super::types::PluginInfo;
use super::view::ViewRules;
use crate::api::hex::hex;
use crate::config::{Slot, SlotKind, SlotName};
use crate::telemetry::Metrics;

/// Failures of one slot that are logged in a second; all are counted.
const FAILURES_LOGGED: u32 = 50;

/// A component that passed every check, in its slot. Dropping it retires its instances: idle ones
/// go at once, busy ones when their call ends.
pub(crate) struct Plugin {
    pub(super) inner: Arc<Inner>,
}

impl Plugin {
    /// The slot that it was loaded for.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.inner.slot
    }

    /// SHA-256 of the component.
    pub(crate) fn sha256(&self) -> &[u8; 32] {
        &self.inner.sha256
    }

    /// What operators see.
    pub(crate) fn status(&self) -> PluginStatus {
        self.inner.status()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.inner.pool.retire();
    }
}

/// What a running call holds of a plugin.
pub(super) struct Inner {
    pub(super) slot: Arc<Slot>,
    pub(super) info: PluginInfo,
    pub(super) sha256: [u8; 32],
    /// Its number among the plugins that its slot has run, from 1; 0 before it runs.
    pub(super) generation: AtomicU64,
    pub(super) loaded_at: SystemTime,
    pub(super) view: ViewRules,
    pub(super) pool: Arc<Pool>,
    pub(super) breaker: Breaker,
    pub(super) tally: Tally,
    pub(super) lane: BlockingLane,
    pub(super) history: Arc<History>,
}

/// Where calls with a lot of text run.
pub(super) struct BlockingLane {
    pub(super) control: Handle,
    /// Of the host: one for each core.
    pub(super) cores: Arc<Semaphore>,
    /// Of the plugin: its spare instances, so that workers keep theirs.
    pub(super) spares: Arc<Semaphore>,
}

/// What is known of a slot beyond one plugin.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Plugins that it has run so far.
    pub(super) generation: AtomicU64,
    /// The last candidate, when it was refused.
    pub(super) refused: Mutex<Option<Refused>>,
}

/// A candidate that was refused.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Refused {
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) error: String,
}

/// Counts the calls of one plugin: in metrics by slot, and for its status by itself.
pub(super) struct Tally {
    ok: (IntCounter, AtomicU64),
    /// In the order of [`FailureKind::ALL`].
    failures: [(IntCounter, AtomicU64); FailureKind::ALL.len()],
    seconds: Histogram,
    last_error: Mutex<Option<LastError>>,
    log_rate: Rate,
}

/// The last failure of a plugin.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LastError {
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) kind: &'static str,
    pub(crate) detail: String,
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new(metrics: &Metrics, slot: &SlotName) -> Self {
        let counter = |result: &str| {
            let labels = [slot.as_str(), result];
            (
                metrics.plugin_calls.with_label_values(&labels),
                AtomicU64::new(0),
            )
        };
        Self {
            ok: counter("ok"),
            failures: FailureKind::ALL.map(|kind| counter(kind.as_str())),
            seconds: metrics
                .plugin_call_seconds
                .with_label_values(&[slot.as_str()]),
            last_error: Mutex::new(None),
            log_rate: Rate::new(FAILURES_LOGGED),
        }
    }

    /// Counts one call. `took` is none when nothing was called.
    pub(super) fn count(&self, outcome: Result<(), &Failure>, took: Option<Duration>) {
        let (metric, own) = match outcome {
            Ok(()) => &self.ok,
            // Its index is its place in the array that has one for each.
            Err(failure) => self.failures.get(failure.kind.index()).unwrap_or(&self.ok),
        };
        metric.inc();
        own.fetch_add(1, Ordering::Relaxed);
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
        if let Err(failure) = outcome
            // The fault that led to a quarantine says more than the quarantine.
            && !matches!(
                failure.kind,
                FailureKind::Unsupported | FailureKind::Quarantined
            )
        {
            let last = LastError {
                at: unix_seconds(SystemTime::now()),
                kind: failure.kind.as_str(),
                detail: failure.detail.clone(),
            };
            *self
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(last);
        }
    }

    /// Whether one more failure may be logged in this second.
    pub(super) fn may_log(&self) -> bool {
        self.log_rate.allow()
    }
}

/// What operators see of a plugin.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PluginStatus {
    pub(crate) slot: String,
    pub(crate) kind: &'static str,
    /// As the plugin says.
    pub(crate) name: String,
    /// As the plugin says.
    pub(crate) version: String,
    pub(crate) description: String,
    /// `builtin:NAME` or the file's path.
    pub(crate) source: String,
    pub(crate) sha256: String,
    pub(crate) generation: u64,
    /// Seconds since 1970.
    pub(crate) loaded_at: u64,
    /// `ready`; `refilling` while instances are being replaced; `quarantined` while its faults keep
    /// it off the path.
    pub(crate) state: &'static str,
    /// While it is quarantined, milliseconds until it is tried again.
    pub(crate) next_probe_ms: Option<u64>,
    /// Instances that wait for a call.
    pub(crate) idle_instances: usize,
    /// Instances that there should be.
    pub(crate) instances: usize,
    /// Calls of this generation, failed ones included.
    pub(crate) calls: u64,
    /// Failures of this generation by kind; kinds that never happened are left out.
    pub(crate) failures: std::collections::BTreeMap<&'static str, u64>,
    pub(crate) last_error: Option<LastError>,
    /// The slot's last candidate, when it was refused.
    pub(crate) refused_candidate: Option<Refused>,
}

impl Inner {
    fn status(&self) -> PluginStatus {
        let (alive, instances) = self.pool.fill_level();
        let until_probe = self.breaker.until_probe();
        let failures: std::collections::BTreeMap<_, _> = FailureKind::ALL
            .iter()
            .zip(&self.tally.failures)
            .map(|(kind, (_, count))| (kind.as_str(), count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let ok = self.tally.ok.1.load(Ordering::Relaxed);
        let lock = |last: &Mutex<Option<LastError>>| {
            last.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        PluginStatus {
            slot: self.slot.name.to_string(),
            kind: stage(self.slot.kind),
            name: self.info.name.clone(),
            version: self.info.version.clone(),
            description: self.info.description.clone(),
            source: self.slot.source.to_string(),
            sha256: hex(&self.sha256),
            generation: self.generation.load(Ordering::Relaxed),
            loaded_at: unix_seconds(self.loaded_at),
            state: match until_probe {
                Some(_) => "quarantined",
                None if alive < instances => "refilling",
                None => "ready",
            },
            next_probe_ms: until_probe
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            idle_instances: self.pool.idle(),
            instances,
            calls: ok + failures.values().sum::<u64>(),
            failures,
            last_error: lock(&self.tally.last_error),
            refused_candidate: self.history.last_refused(),
        }
    }
}

impl History {
    /// Notes what became of the slot's last candidate: refused with an error, or none.
    pub(super) fn note(&self, error: Option<&str>) {
        let refused = error.map(|error| Refused {
            at: unix_seconds(SystemTime::now()),
            error: error.to_owned(),
        });
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// The last candidate, when it was refused.
    pub(super) fn last_refused(&self) -> Option<Refused> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The stage's name in logs, metrics and the admin API.
pub(super) fn stage(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Classify => "classify",
        SlotKind::Compress => "compress",
        SlotKind::CachePolicy => "cache-policy",
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}
