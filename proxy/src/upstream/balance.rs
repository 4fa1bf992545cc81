//! Which backend of a pool serves the next attempt: least requests, ties in rotation.
//!
//! Invariants: a backend that was tried is not picked again; an unhealthy one only when every
//! untried one is unhealthy, and then the least bad, so that no request is refused unseen; one whose
//! ejection has run out gets one request, and more when that has an answer; two equal backends share
//! a load of any size, one request at a time included.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::backend::{Backend, InFlight};
use crate::admission::{Place, Places};
use crate::config::{self, BackendIdentity};

/// The backends of one pool, as one snapshot sees them.
#[derive(Debug)]
pub(crate) struct Pool {
    config: Arc<config::Pool>,
    /// In the config's order; never empty.
    backends: Vec<Arc<Backend>>,
    /// Where the next look starts.
    turn: AtomicUsize,
    /// What its limit counts; none: it has no limit.
    places: Option<Arc<Places>>,
}

/// Leave to serve one more request, held with it.
#[derive(Debug)]
pub(crate) struct Room {
    _place: Option<Place>,
}

/// A backend that was picked, counted as in flight from then on.
#[derive(Debug)]
pub(crate) struct Picked {
    /// Where to send the request.
    pub(crate) backend: Arc<Backend>,
    /// Ends with the attempt.
    pub(crate) in_flight: InFlight,
}

impl Picked {
    /// Gives the room back with the in-flight count.
    pub(crate) fn within(mut self, room: Room) -> Self {
        self.in_flight.keep(room);
        self
    }
}

impl Pool {
    /// `places` outlive the snapshot, and count only where the config has a limit.
    pub(super) fn new(
        config: Arc<config::Pool>,
        backends: Vec<Arc<Backend>>,
        places: Arc<Places>,
    ) -> Self {
        let places = config.max_requests_in_flight.map(|_| places);
        Self {
            places,
            config,
            backends,
            turn: AtomicUsize::new(0),
        }
    }

    /// What the config says of the pool.
    pub(crate) fn config(&self) -> &Arc<config::Pool> {
        &self.config
    }

    /// Its backends, in the config's order.
    pub(crate) fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Makes its limit the one that counts.
    pub(super) fn adopt_limit(&self) {
        if let (Some(places), Some(most)) = (&self.places, self.config.max_requests_in_flight) {
            places.limit(most);
        }
    }

    /// Leave for one more request; none when as many are served as may be.
    pub(crate) fn room(&self) -> Option<Room> {
        match &self.places {
            None => Some(Room { _place: None }),
            Some(places) => places.take().map(|place| Room {
                _place: Some(place),
            }),
        }
    }

    /// Picks a backend that is not in `tried`; none when all were tried.
    pub(crate) fn pick(&self, tried: &[BackendIdentity]) -> Option<Picked> {
        let now = Instant::now();
        let count = self.backends.len();
        // Wraps around in time; the one uneven step then does not matter.
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        loop {
            let backend = (0..count)
                .filter_map(|step| self.backends.get(first.wrapping_add(step) % count))
                .filter(|backend| !tried.contains(backend.identity()))
                // The first of equals wins, and another one is first each time.
                .min_by_key(|backend| rank(backend, now))?;
            // Where another request has just begun to probe it, it is out for this one.
            if backend.state.admits(now) {
                return Some(Picked {
                    backend: Arc::clone(backend),
                    in_flight: InFlight::new(Arc::clone(backend)),
                });
            }
        }
    }
}

/// Smaller is better: healthy before unhealthy, then by load; the unhealthy first by what speaks
/// for them: passing checks, and a failure that is long ago, since what has just failed is the
/// likeliest to fail again.
fn rank(backend: &Backend, now: Instant) -> (bool, Reverse<bool>, u64, u32) {
    let state = &backend.state;
    if state.is_healthy(now) {
        (false, Reverse(true), 0, state.in_flight())
    } else {
        (
            true,
            Reverse(state.passes_checks()),
            state.failed_at(),
            state.in_flight(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::backend::Fault;
    use crate::upstream::testing::{identity, pool};

    /// Name of the backend that is picked and given back at once.
    fn next(pool: &Pool, tried: &[BackendIdentity]) -> Option<String> {
        pool.pick(tried)
            .map(|picked| picked.backend.name().to_string())
    }

    #[tokio::test]
    async fn equal_idle_backends_take_turns() {
        let pool = pool(&[
            identity("10.0.0.1", 80),
            identity("10.0.0.2", 80),
            identity("10.0.0.3", 80),
        ]);
        let mut counts = std::collections::BTreeMap::<_, u32>::new();
        for _ in 0..300 {
            *counts.entry(next(&pool, &[]).unwrap()).or_default() += 1;
        }
        assert_eq!(
            counts.values().copied().collect::<Vec<_>>(),
            [100, 100, 100]
        );
    }

    #[tokio::test]
    async fn the_least_loaded_is_picked_and_guards_give_back() {
        let pool = pool(&[identity("10.0.0.1", 80), identity("10.0.0.2", 80)]);
        let held: Vec<_> = (0..5).map(|_| pool.pick(&[]).unwrap()).collect();
        let loads: Vec<_> = pool
            .backends()
            .iter()
            .map(|b| b.state.in_flight())
            .collect();
        assert_eq!(loads.iter().sum::<u32>(), 5);
        let least = if loads[0] < loads[1] { "p-1" } else { "p-2" };
        assert_eq!(next(&pool, &[]).unwrap(), least);
        drop(held);
        assert!(pool.backends().iter().all(|b| b.state.in_flight() == 0));
    }

    #[tokio::test]
    async fn unhealthy_and_tried_backends_are_passed_over() {
        let (a, b, c) = (
            identity("10.0.0.1", 80),
            identity("10.0.0.2", 80),
            identity("10.0.0.3", 80),
        );
        let pool = pool(&[a.clone(), b.clone(), c.clone()]);
        pool.backends()[0]
            .state
            .set_passes_checks(false, String::new());
        for _ in 0..10 {
            assert_eq!(next(&pool, std::slice::from_ref(&b)).unwrap(), "p-3");
        }
        assert_eq!(
            next(&pool, &[b.clone(), c.clone()]).unwrap(),
            "p-1",
            "rather than none"
        );
        assert_eq!(next(&pool, &[a, b, c]), None);
    }

    #[tokio::test]
    async fn when_all_are_unhealthy_the_least_bad_is_tried() {
        let pool = pool(&[identity("10.0.0.1", 80), identity("10.0.0.2", 80)]);
        let now = Instant::now();
        let fail = |backend: usize, at| {
            let state = &pool.backends()[backend].state;
            state.record_failure(at, Fault::Unreachable);
        };
        let later = |millis| now + std::time::Duration::from_millis(millis);
        fail(0, later(100));
        fail(1, later(20));
        for _ in 0..4 {
            assert_eq!(
                next(&pool, &[]).unwrap(),
                "p-2",
                "its failure is longer ago"
            );
        }
        fail(1, later(120));
        assert_eq!(next(&pool, &[]).unwrap(), "p-1");
        pool.backends()[0]
            .state
            .set_passes_checks(false, String::new());
        assert_eq!(next(&pool, &[]).unwrap(), "p-2", "its checks pass");
    }

    #[tokio::test]
    async fn one_whose_ejection_has_run_out_gets_one_request() {
        let pool = pool(&[identity("10.0.0.1", 80), identity("10.0.0.2", 80)]);
        let long_ago = Instant::now() - std::time::Duration::from_secs(1);
        let back = &pool.backends()[0].state;
        back.record_failure(long_ago, Fault::Unreachable);
        let picked: Vec<_> = (0..10).map(|_| next(&pool, &[]).unwrap()).collect();
        assert_eq!(picked.iter().filter(|name| *name == "p-1").count(), 1);
        back.record_head();
        let picked: Vec<_> = (0..10).map(|_| next(&pool, &[]).unwrap()).collect();
        assert_eq!(picked.iter().filter(|name| *name == "p-1").count(), 5);
    }
}
