//! What outlives snapshots: one state per backend identity, one set of gauges per name.
//!
//! Both are held weakly here and strongly by the pools of snapshots and by the requests under way,
//! so what a reload no longer lists goes with its last request. What it still lists keeps its
//! state, and so its health, load and averages, as long as old and new snapshot overlap.
//!
//! Connections need no entry: the workers key them by identity ([`super::connect`]), and those of
//! a backend that is gone run into their idle time-out.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;

use super::address::Peers;
use super::backend::{Backend, Labels, State, locked};
use super::balance::Pool;
use super::connect;
use super::health::{Check, Spec};
use crate::admission::Places;
use crate::config::{self, BackendIdentity, BackendName, Config, PoolName};
use crate::telemetry::Metrics;

/// The pools of one snapshot.
pub(crate) type Pools = HashMap<PoolName, Arc<Pool>>;

/// Keeper of the backends' states.
#[derive(Debug)]
pub(crate) struct Registry {
    metrics: Arc<Metrics>,
    /// Health checks and name look-ups run here.
    control: tokio::runtime::Handle,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    states: HashMap<BackendIdentity, Weak<State>>,
    labels: HashMap<(PoolName, BackendName), Weak<Labels>>,
    /// Of each pool, whatever its limit.
    places: HashMap<PoolName, Weak<Places>>,
    /// What is supervised, in the config's order.
    current: Vec<Arc<Pool>>,
    checks: HashMap<BackendIdentity, Check>,
}

/// A pool as the admin API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct PoolStatus {
    /// Its name in the config.
    pub(crate) name: String,
    /// Its backends, in the config's order.
    pub(crate) backends: Vec<BackendStatus>,
}

/// A backend as the admin API shows it.
#[derive(Debug, Serialize)]
pub(crate) struct BackendStatus {
    /// Its name in the config.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) url: String,
    /// Whether requests go there while others could take them.
    pub(crate) healthy: bool,
    /// What the last active check found; none before the first, and without checks.
    pub(crate) last_check: Option<String>,
    /// Failed exchanges since the last whole answer.
    pub(crate) failures: u32,
    /// Attempts under way, over all pools that list this address.
    pub(crate) in_flight: u32,
    /// Moving average of the time to an answer's head, in milliseconds; none before the first.
    pub(crate) latency_ms: Option<f64>,
}

impl Registry {
    /// An empty registry, whose background tasks run on `control`.
    pub(crate) fn new(metrics: Arc<Metrics>, control: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            control,
            known: Mutex::default(),
        })
    }

    /// The pools of a config. Backends that are known keep their state; the files of certificates
    /// are read again. Blocks on those files: for the control plane alone.
    pub(crate) fn pools(&self, config: &Config) -> Pools {
        self.pools_of(&config.pools)
    }

    pub(super) fn pools_of(&self, pools: &[Arc<config::Pool>]) -> Pools {
        let mut known = locked(&self.known);
        known.sweep(&self.metrics);
        pools
            .iter()
            .map(|pool| {
                let backends = pool.backends.iter().map(|listed| {
                    let state = known.state(&listed.identity, &self.control);
                    let labels = known.labels(&self.metrics, &pool.name, &listed.name);
                    state.show_as(&labels);
                    Arc::new(Backend { state, labels })
                });
                let backends = backends.collect();
                (
                    pool.name.clone(),
                    Arc::new(Pool::new(
                        Arc::clone(pool),
                        backends,
                        known.places(&pool.name),
                    )),
                )
            })
            .collect()
    }

    /// Makes `pools` the current ones: starts the health checks that are new, stops those that are
    /// gone, and leaves the others alone. An address gets one check, by the first pool in the
    /// config that lists it and has checks.
    pub(crate) fn supervise(&self, pools: &Pools, config: &Config) {
        let in_order = config.pools.iter().filter_map(|pool| pools.get(&pool.name));
        self.supervise_all(in_order.cloned().collect());
    }

    pub(super) fn supervise_all(&self, pools: Vec<Arc<Pool>>) {
        let mut wanted: HashMap<BackendIdentity, (Spec, Arc<State>)> = HashMap::new();
        for pool in &pools {
            pool.adopt_limit();
            for backend in pool.backends() {
                if let Some(spec) = Spec::of(pool.config()) {
                    wanted
                        .entry(backend.identity().clone())
                        .or_insert_with(|| (spec, Arc::clone(&backend.state)));
                }
            }
        }
        let mut known = locked(&self.known);
        known
            .checks
            .retain(|identity, check| match wanted.get(identity) {
                Some((spec, state)) => check.is(spec, state),
                None => {
                    check.state().forget_checks();
                    false
                }
            });
        for (identity, (spec, state)) in wanted {
            known
                .checks
                .entry(identity)
                .or_insert_with(|| Check::start(spec, state, &self.control));
        }
        // The old pools go after the lock: they may be the last to hold a state.
        let old = std::mem::replace(&mut known.current, pools);
        drop(known);
        drop(old);
        locked(&self.known).sweep(&self.metrics);
    }

    /// Opens a connection from the calling thread to every backend of `pools` to which it has none
    /// that is idle, all at once, one attempt each, within `limit`; failures are only logged.
    ///
    /// Connections belong to the thread that opened them, so each worker calls this on its own
    /// runtime.
    pub(crate) async fn preconnect(&self, pools: &Pools, limit: Duration) {
        let mut backends: Vec<&Arc<Backend>> = Vec::new();
        for backend in pools.values().flat_map(|pool| pool.backends()) {
            if !backends
                .iter()
                .any(|listed| Arc::ptr_eq(&listed.state, &backend.state))
            {
                backends.push(backend);
            }
        }
        join_all(backends.into_iter().map(|backend| async move {
            if let Err(error) = connect::preconnect(backend, limit).await {
                let (pool, name) = (backend.pool(), backend.name());
                tracing::warn!(%pool, backend = %name, %error, "cannot connect ahead of traffic");
            }
        }))
        .await;
    }

    /// Names of the backends that a snapshot or a request still uses, each with its pool's.
    pub(crate) fn names(&self) -> HashSet<(String, String)> {
        let mut known = locked(&self.known);
        known.sweep(&self.metrics);
        let names = known.labels.keys();
        names
            .map(|(pool, name)| (pool.to_string(), name.to_string()))
            .collect()
    }

    /// The current pools, in the config's order.
    pub(crate) fn status(&self) -> Vec<PoolStatus> {
        let current = {
            let mut known = locked(&self.known);
            known.sweep(&self.metrics);
            known.current.clone()
        };
        current.iter().map(|pool| pool_status(pool)).collect()
    }
}

impl Known {
    fn state(
        &mut self,
        identity: &BackendIdentity,
        control: &tokio::runtime::Handle,
    ) -> Arc<State> {
        if let Some(state) = self.states.get(identity).and_then(Weak::upgrade) {
            state.peers.reread_trust();
            return state;
        }
        let peers = Arc::new(Peers::new(identity.clone(), control.clone()));
        let state = Arc::new(State::new(identity.clone(), peers));
        self.states.insert(identity.clone(), Arc::downgrade(&state));
        state
    }

    fn labels(
        &mut self,
        metrics: &Arc<Metrics>,
        pool: &PoolName,
        name: &BackendName,
    ) -> Arc<Labels> {
        let key = (pool.clone(), name.clone());
        if let Some(labels) = self.labels.get(&key).and_then(Weak::upgrade) {
            return labels;
        }
        let labels = Arc::new(Labels::new(Arc::clone(metrics), pool.clone(), name.clone()));
        self.labels.insert(key, Arc::downgrade(&labels));
        labels
    }

    fn places(&mut self, pool: &PoolName) -> Arc<Places> {
        if let Some(places) = self.places.get(pool).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Places::new(0));
        self.places.insert(pool.clone(), Arc::downgrade(&places));
        places
    }

    /// Forgets what nobody holds any more. Done under the lock, and not when the last holder goes,
    /// so that it can never take the gauges of a name that has just come back.
    fn sweep(&mut self, metrics: &Metrics) {
        self.states.retain(|_, state| state.strong_count() > 0);
        self.places.retain(|_, places| places.strong_count() > 0);
        self.labels.retain(|(pool, name), labels| {
            let is_held = labels.strong_count() > 0;
            if !is_held {
                Labels::remove_gauges(metrics, pool, name);
            }
            is_held
        });
    }
}

fn pool_status(pool: &Pool) -> PoolStatus {
    let now = std::time::Instant::now();
    let backends = pool.backends().iter().map(|backend| {
        let state = &backend.state;
        BackendStatus {
            name: backend.name().to_string(),
            url: state.identity.to_string(),
            healthy: state.is_healthy(now),
            last_check: state.last_check(),
            failures: state.failures(),
            in_flight: state.in_flight(),
            latency_ms: state.latency().map(|latency| latency.as_secs_f64() * 1e3),
        }
    });
    PoolStatus {
        name: pool.config().name.to_string(),
        backends: backends.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::{identity, pool_config, registry};

    #[tokio::test]
    async fn a_reload_keeps_the_state_of_what_it_still_lists() {
        let (registry, metrics) = registry();
        let (a, b) = (identity("10.0.0.1", 80), identity("10.0.0.2", 80));
        let old = registry.pools_of(&[Arc::new(pool_config("p", vec![a.clone()]))]);
        let old = Arc::clone(&old[&PoolName::new("p")]);
        registry.supervise_all(vec![Arc::clone(&old)]);
        let held = old.pick(&[]).unwrap();
        held.backend.state.set_passes_checks(false, "503".into());
        let gauge = metrics.upstream_in_flight.with_label_values(&["p", "p-1"]);
        assert_eq!(gauge.get(), 1);

        let new = registry.pools_of(&[Arc::new(pool_config("p", vec![a, b]))]);
        let new = Arc::clone(&new[&PoolName::new("p")]);
        registry.supervise_all(vec![Arc::clone(&new)]);
        drop(old);
        assert_eq!(gauge.get(), 1, "the gauge does not dip");
        assert_eq!(new.backends()[0].state.in_flight(), 1);
        let status = registry.status();
        let healthy: Vec<_> = status[0].backends.iter().map(|b| b.healthy).collect();
        assert_eq!(healthy, [false, true]);
        drop(held);
        assert_eq!(new.backends()[0].state.in_flight(), 0);
        assert_eq!(gauge.get(), 0);
    }

    #[tokio::test]
    async fn what_is_gone_goes_with_its_last_request() {
        let (registry, metrics) = registry();
        let pools =
            registry.pools_of(&[Arc::new(pool_config("p", vec![identity("10.0.0.1", 80)]))]);
        registry.supervise_all(pools.values().cloned().collect());
        let held = pools[&PoolName::new("p")].pick(&[]).unwrap();
        let state = Arc::downgrade(&held.backend.state);
        drop(pools);
        registry.supervise_all(vec![]);
        assert!(state.upgrade().is_some(), "its request is still under way");
        assert!(
            metrics
                .text()
                .unwrap()
                .contains("sluicegate_upstream_in_flight{backend=\"p-1\"")
        );
        drop(held);
        assert!(state.upgrade().is_none());
        assert!(registry.status().is_empty());
        assert!(
            !metrics
                .text()
                .unwrap()
                .contains("sluicegate_upstream_in_flight{backend=\"p-1\"")
        );
    }

    #[tokio::test]
    async fn two_pools_with_one_address_share_its_load() {
        let (registry, metrics) = registry();
        let shared = identity("10.0.0.1", 80);
        let pools = registry.pools_of(&[
            Arc::new(pool_config("p", vec![shared.clone()])),
            Arc::new(pool_config("q", vec![shared])),
        ]);
        let held = pools[&PoolName::new("p")].pick(&[]).unwrap();
        let other = &pools[&PoolName::new("q")].backends()[0];
        assert_eq!(other.state.in_flight(), 1);
        let gauge = |pool, name| {
            metrics
                .upstream_in_flight
                .with_label_values(&[pool, name])
                .get()
        };
        assert_eq!((gauge("p", "p-1"), gauge("q", "q-1")), (1, 0));
        held.backend.state.set_passes_checks(false, String::new());
        let healthy = |pool, name| {
            metrics
                .upstream_healthy
                .with_label_values(&[pool, name])
                .get()
        };
        assert_eq!((healthy("p", "p-1"), healthy("q", "q-1")), (0, 0));
    }
}
