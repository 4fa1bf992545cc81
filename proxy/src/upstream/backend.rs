//! One backend: its state for as long as the process knows it, and its place in a pool.
//!
//! [`State`] belongs to an address and outlives snapshots; [`Backend`] is that state under the name
//! that one pool gives it. Two pools that list the same address share load and health.
//!
//! Health has two sources, and a backend is healthy when neither objects. *Active*: the verdict of
//! the health checks ([`super::health`]), where the pool has some. *Passive*: a backend is ejected
//! at the first connection that it does not accept, and after [`EJECT_AFTER`] broken exchanges in a
//! row. It stays out for a short while at first ([`FIRST_EJECTION`]: nobody waits long for one that
//! only restarts) and twice as long each time, up to [`LONGEST_EJECTION`]. Then one request at a
//! time probes it; the head of an answer readmits it, and a whole answer forgets its failures. Only
//! broken connections, silence and broken framing count here; statuses never do.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};

use super::address::Peers;
use super::balance::Room;
use super::errors::AttemptError;
use crate::config::{BackendIdentity, BackendName, PoolName};
use crate::telemetry::Metrics;

/// Broken exchanges in a row that eject a backend. More than two, so that the retries of a single
/// request cannot do it.
const EJECT_AFTER: u32 = 5;

/// How long a backend that cannot be reached is passed over at first while others are healthy. One
/// that breaks exchanges is out for [`BROKEN_STEPS`] doublings longer: each probe of it may cost a
/// client a time-out, where a refused connection costs a retry.
const FIRST_EJECTION: Duration = Duration::from_millis(250);

/// See [`FIRST_EJECTION`].
const BROKEN_STEPS: u32 = 3;

/// Bound of the doublings.
const LONGEST_EJECTION: Duration = Duration::from_secs(10);

/// What speaks against a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It accepts no connection.
    Unreachable,
    /// It broke an exchange, or was silent for too long.
    Broken,
}

/// Where the stored instants count from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What is known of a backend, whatever snapshots come and go.
#[derive(Debug)]
pub(super) struct State {
    pub(super) identity: BackendIdentity,
    pub(super) peers: Arc<Peers>,
    in_flight: AtomicU32,
    /// The verdict of the active checks; true where there are none.
    passes_checks: AtomicBool,
    /// What the last active check found, for the admin view.
    last_check: Mutex<Option<String>>,
    /// Failed attempts since the last whole answer.
    failures: AtomicU32,
    /// Milliseconds after [`START`]; 0: not ejected, or readmitted.
    ejected_until: AtomicU64,
    /// Ejections since the last whole answer, probes that began included.
    ejections: AtomicU32,
    /// The last failure was a connection that was not accepted.
    is_unreachable: AtomicBool,
    /// Milliseconds after [`START`]; 0: never.
    failed_at: AtomicU64,
    /// Moving average of the time to an answer's head; 0 before the first.
    latency_micros: AtomicU64,
    /// Who shows this state in the metrics.
    shown_as: Mutex<Vec<Weak<Labels>>>,
}

impl State {
    pub(super) fn new(identity: BackendIdentity, peers: Arc<Peers>) -> Self {
        // Now, so that no instant that is stored later is before it.
        LazyLock::force(&START);
        Self {
            identity,
            peers,
            in_flight: AtomicU32::new(0),
            passes_checks: AtomicBool::new(true),
            last_check: Mutex::new(None),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            is_unreachable: AtomicBool::new(false),
            failed_at: AtomicU64::new(0),
            latency_micros: AtomicU64::new(0),
            shown_as: Mutex::new(Vec::new()),
        }
    }

    /// Attempts that have begun and not ended, over all workers and pools.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether new requests should go here.
    pub(super) fn is_healthy(&self, now: Instant) -> bool {
        self.passes_checks.load(Ordering::Relaxed) && !self.is_ejected(now)
    }

    /// Failed attempts since the last whole answer.
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// When an attempt last failed; smaller is longer ago.
    pub(super) fn failed_at(&self) -> u64 {
        self.failed_at.load(Ordering::Relaxed)
    }

    /// Whether the active checks hold it for healthy.
    pub(super) fn passes_checks(&self) -> bool {
        self.passes_checks.load(Ordering::Relaxed)
    }

    fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > millis(now)
    }

    /// Takes the verdict of the active checks. True when it differs from the one before.
    ///
    /// A check that passes readmits a backend that was ejected because it could not be reached: it
    /// has just been. It proves nothing about broken exchanges.
    pub(super) fn set_passes_checks(&self, passes: bool, found: String) -> bool {
        *locked(&self.last_check) = Some(found);
        let changed = self.passes_checks.swap(passes, Ordering::Relaxed) != passes;
        if passes && self.is_unreachable.load(Ordering::Relaxed) {
            self.readmit();
        }
        self.show_health();
        changed
    }

    /// Forgets the active checks: there are none any more, so only traffic tells.
    pub(super) fn forget_checks(&self) {
        *locked(&self.last_check) = None;
        self.passes_checks.store(true, Ordering::Relaxed);
        self.show_health();
    }

    /// Whether a request that would be sent here may be. Of those that come when an ejection has
    /// run out only the first may: it probes, and while it does the ejection goes on for the rest.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until == 0 || until > millis(now) {
            return true;
        }
        self.eject(until, now)
    }

    /// Ejects for the next time from `before`, which was seen in `ejected_until`; false when another
    /// was quicker: then that is the one ejection.
    fn eject(&self, before: u64, now: Instant) -> bool {
        let next = millis(now + self.next_ejection());
        let ejected =
            self.ejected_until
                .compare_exchange(before, next, Ordering::Relaxed, Ordering::Relaxed);
        if ejected.is_ok() {
            self.ejections.fetch_add(1, Ordering::Relaxed);
        }
        ejected.is_ok()
    }

    /// Counts a failed attempt.
    pub(super) fn record_failure(&self, now: Instant, fault: Fault) {
        let failures = self
            .failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        let is_unreachable = fault == Fault::Unreachable;
        self.is_unreachable.store(is_unreachable, Ordering::Relaxed);
        self.failed_at.store(millis(now), Ordering::Relaxed);
        // Many may fail at once: that is one ejection, and so is a probe that fails.
        let before = self.ejected_until.load(Ordering::Relaxed);
        let is_due = before <= millis(now) && (is_unreachable || failures >= EJECT_AFTER);
        if is_due && self.eject(before, now) {
            if before == 0 {
                tracing::warn!(backend = %self.identity, failures, ?fault, "backend ejected");
            }
            self.show_health();
        }
    }

    /// How long the next ejection lasts.
    fn next_ejection(&self) -> Duration {
        let before = self.ejections.load(Ordering::Relaxed);
        let steps = match self.is_unreachable.load(Ordering::Relaxed) {
            true => before,
            false => before.max(BROKEN_STEPS),
        };
        // Far above the bound, and far below an overflow.
        (FIRST_EJECTION * (1 << steps.min(16))).min(LONGEST_EJECTION)
    }

    /// Takes note of the head of an answer: whoever gives one can be reached and works.
    pub(super) fn record_head(&self) {
        // Read first: a store would bounce the cache line between workers on every request.
        if self.ejected_until.load(Ordering::Relaxed) != 0 {
            self.readmit();
        }
    }

    /// Counts a whole answer, of any status.
    pub(super) fn record_success(&self) {
        if self.failures() != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
            self.readmit();
        }
    }

    /// Ends an ejection. Its failures still count: one more may eject it anew, for longer.
    fn readmit(&self) {
        if self.ejected_until.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!(backend = %self.identity, "backend readmitted");
            self.show_health();
        }
    }

    /// Adds the time from sending a request to the head of its answer to the average: an eighth of
    /// the new and seven of the old, as TCP smooths its round-trip time (RFC 6298).
    pub(super) fn record_latency(&self, took: Duration) {
        let took = u64::try_from(took.as_micros())
            .unwrap_or(u64::MAX / 8)
            .max(1);
        let old = self.latency_micros.load(Ordering::Relaxed);
        let new = if old == 0 {
            took
        } else {
            old - old / 8 + took / 8
        };
        // Relaxed and racy: a lost sample does not matter to an average that is only shown.
        self.latency_micros.store(new, Ordering::Relaxed);
    }

    /// Average time to an answer's head; none before the first answer.
    pub(super) fn latency(&self) -> Option<Duration> {
        let micros = self.latency_micros.load(Ordering::Relaxed);
        (micros != 0).then(|| Duration::from_micros(micros))
    }

    /// What the last active check found.
    pub(super) fn last_check(&self) -> Option<String> {
        locked(&self.last_check).clone()
    }

    /// Shows health under one more pair of labels, for as long as those live.
    pub(super) fn show_as(&self, labels: &Arc<Labels>) {
        let mut shown_as = locked(&self.shown_as);
        shown_as.retain(|known| known.strong_count() > 0);
        if !shown_as
            .iter()
            .any(|known| known.as_ptr() == Arc::as_ptr(labels))
        {
            shown_as.push(Arc::downgrade(labels));
        }
        drop(shown_as);
        self.show_health();
    }

    /// Writes the gauges. An ejection that has run out shows until an answer ends it: until then
    /// nothing says that the backend works.
    fn show_health(&self) {
        let ejected = self.ejected_until.load(Ordering::Relaxed) != 0;
        let healthy = self.passes_checks() && !ejected;
        for labels in locked(&self.shown_as).iter().filter_map(Weak::upgrade) {
            labels.healthy.set(i64::from(healthy));
        }
    }
}

/// The metrics of a backend in a pool.
#[derive(Debug)]
pub(super) struct Labels {
    metrics: Arc<Metrics>,
    pub(super) pool: PoolName,
    pub(super) name: BackendName,
    in_flight: IntGauge,
    healthy: IntGauge,
    connections: IntCounter,
}

impl Labels {
    pub(super) fn new(metrics: Arc<Metrics>, pool: PoolName, name: BackendName) -> Self {
        let values = [pool.as_str(), name.as_str()];
        Self {
            in_flight: metrics.upstream_in_flight.with_label_values(&values),
            healthy: metrics.upstream_healthy.with_label_values(&values),
            connections: metrics.upstream_connections.with_label_values(&values),
            metrics,
            pool,
            name,
        }
    }

    /// Takes the gauges of a backend that is no more out of the exposition. Counters stay, within
    /// the bounds of [`crate::telemetry::forget`].
    pub(super) fn remove_gauges(metrics: &Metrics, pool: &PoolName, name: &BackendName) {
        let values = [pool.as_str(), name.as_str()];
        // An error says that the series is not there, which is what is wanted.
        let _ = metrics.upstream_in_flight.remove_label_values(&values);
        let _ = metrics.upstream_healthy.remove_label_values(&values);
    }
}

/// A backend as a pool of one snapshot lists it.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(super) state: Arc<State>,
    pub(super) labels: Arc<Labels>,
}

impl Backend {
    /// Its name in the config.
    pub(crate) fn name(&self) -> &BackendName {
        &self.labels.name
    }

    /// The pool that it was picked from.
    pub(crate) fn pool(&self) -> &PoolName {
        &self.labels.pool
    }

    /// What it is known by across reloads, and in the list of those already tried.
    pub(crate) fn identity(&self) -> &BackendIdentity {
        &self.state.identity
    }

    /// Counts a connection that was opened.
    pub(super) fn count_connection(&self) {
        self.labels.connections.inc();
    }

    /// Counts an attempt by how it ended: the status class of its answer, or the kind of failure.
    pub(super) fn count_attempt(&self, result: &str) {
        let values = [self.labels.pool.as_str(), self.labels.name.as_str(), result];
        self.labels
            .metrics
            .upstream_attempts
            .with_label_values(&values)
            .inc();
    }

    /// Counts an attempt that gave no answer.
    pub(super) fn record_failed_attempt(&self, error: &AttemptError) {
        self.count_attempt(error.result());
        if let Some(fault) = error.fault() {
            self.state.record_failure(Instant::now(), fault);
        }
    }
}

/// Proof that an attempt is counted; ends the count when dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the count"]
pub(crate) struct InFlight {
    backend: Arc<Backend>,
    /// Its place among the requests of the pool.
    room: Option<Room>,
}

impl InFlight {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        backend.state.in_flight.fetch_add(1, Ordering::Relaxed);
        backend.labels.in_flight.inc();
        Self {
            backend,
            room: None,
        }
    }

    /// Holds the pool's place for as long as it counts.
    pub(super) fn keep(&mut self, room: Room) {
        self.room = Some(room);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.backend.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.backend.labels.in_flight.dec();
    }
}

/// Milliseconds from [`START`] to `at`, counted from 1, so that 0 can mean never.
fn millis(at: Instant) -> u64 {
    let millis = at.saturating_duration_since(*START).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1)
}

/// The lock's value, also after a panic of another holder: each of these is whole between two
/// statements.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::{identity, state};

    /// How long it is out for from `now` on.
    fn ejection(state: &State, now: Instant) -> Duration {
        let until = state.ejected_until.load(Ordering::Relaxed);
        Duration::from_millis(until.saturating_sub(millis(now)))
    }

    #[test]
    fn broken_exchanges_in_a_row_eject_for_a_while() {
        let state = state(&identity("10.0.0.1", 80));
        let now = Instant::now();
        for _ in 1..EJECT_AFTER {
            state.record_failure(now, Fault::Broken);
        }
        assert!(state.is_healthy(now));
        state.record_failure(now, Fault::Broken);
        assert!(!state.is_healthy(now));
        assert_eq!(ejection(&state, now), Duration::from_secs(2));
        let later = now + Duration::from_millis(2001);
        assert!(state.is_healthy(later), "due to be probed");
        state.record_failure(later, Fault::Broken);
        assert!(!state.is_healthy(later), "one more failure ejects anew");
        state.record_success();
        assert!(state.is_healthy(later), "a whole answer clears it");
        state.record_failure(later, Fault::Broken);
        assert!(state.is_healthy(later), "and the count starts again");
    }

    #[test]
    fn unreachable_backend_is_out_at_once_and_longer_each_time() {
        let state = state(&identity("10.0.0.1", 80));
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..8 {
            // All that were under way fail together: that is one ejection.
            for _ in 0..64 {
                state.record_failure(now, Fault::Unreachable);
            }
            assert!(!state.is_healthy(now));
            let wait = ejection(&state, now);
            waits.push(wait.as_millis());
            now += wait + Duration::from_millis(1);
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        state.record_success();
        state.record_failure(now, Fault::Unreachable);
        assert_eq!(ejection(&state, now), FIRST_EJECTION);
    }

    #[test]
    fn one_request_at_a_time_probes() {
        let state = state(&identity("10.0.0.1", 80));
        let now = Instant::now();
        state.record_failure(now, Fault::Unreachable);
        let due = now + FIRST_EJECTION + Duration::from_millis(1);
        assert!(state.is_healthy(due) && state.admits(due));
        assert!(!state.is_healthy(due), "while the first probes");
        let next = ejection(&state, due);
        assert_eq!(next, 2 * FIRST_EJECTION);
        state.record_failure(due, Fault::Unreachable);
        assert_eq!(
            ejection(&state, due),
            next,
            "the probe's failure is no new one"
        );
        let due = due + next + Duration::from_millis(1);
        assert!(state.admits(due) && !state.is_healthy(due));
        state.record_head();
        assert!(state.is_healthy(due), "the head of an answer readmits");
        assert!(state.admits(due) && state.admits(due));
    }

    #[test]
    fn a_check_readmits_who_could_not_be_reached_and_nobody_else() {
        for (fault, is_readmitted) in [(Fault::Unreachable, true), (Fault::Broken, false)] {
            let state = state(&identity("10.0.0.1", 80));
            let now = Instant::now();
            for _ in 0..EJECT_AFTER {
                state.record_failure(now, fault);
            }
            state.set_passes_checks(true, "200".into());
            assert_eq!(state.is_healthy(now), is_readmitted, "{fault:?}");
        }
    }

    #[test]
    fn a_whole_answer_between_failures_keeps_it_in() {
        let state = state(&identity("10.0.0.1", 80));
        let now = Instant::now();
        for _ in 0..EJECT_AFTER * 3 {
            state.record_failure(now, Fault::Broken);
            state.record_success();
        }
        assert!(state.is_healthy(now));
    }

    #[test]
    fn checks_and_traffic_must_both_agree() {
        let state = state(&identity("10.0.0.1", 80));
        let now = Instant::now();
        assert!(state.set_passes_checks(false, "503".into()));
        assert!(!state.set_passes_checks(false, "503".into()), "no change");
        assert!(!state.is_healthy(now));
        state.record_success();
        assert!(
            !state.is_healthy(now),
            "traffic does not overrule the checks"
        );
        state.forget_checks();
        assert!(state.is_healthy(now));
    }

    #[test]
    fn the_average_follows_slowly() {
        let state = state(&identity("10.0.0.1", 80));
        assert_eq!(state.latency(), None);
        state.record_latency(Duration::from_millis(80));
        assert_eq!(state.latency(), Some(Duration::from_millis(80)));
        state.record_latency(Duration::from_millis(160));
        assert_eq!(state.latency(), Some(Duration::from_millis(90)));
    }
}
