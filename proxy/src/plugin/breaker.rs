//! Takes a plugin that keeps faulting off the path, and tries it again now and then.
//!
//! Each fault costs a worker up to the slot's deadline and an instance, and gives the client nothing.
//! So faults are weighed against calls that went well, [`FAULT_WEIGHT`] of which outweigh one: a
//! plugin is quarantined after the slot's `quarantine_after` faults in a row, and in the long run
//! when more than one call in eleven faults. Then its calls fail at once, by the slot's
//! `on_failure`, until a probe is due: one client's call. A probe that goes well ends the
//! quarantine, on probation: the next fault begins it again. One that faults doubles the wait.
//!
//! What a plugin says itself (`unsupported`, `internal` …) is no fault: it costs no deadline and no
//! instance, and a plugin that refuses some requests must go on refusing them.
//!
//! Invariants: a plugin that is well costs its callers two loads of atomics; a probe that takes longer
//! than the wait after it is overtaken by the next one, and its report is void.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntGauge;

/// Calls that went well which make up for one fault.
const FAULT_WEIGHT: u32 = 10;

/// From the beginning of a quarantine to its first probe; doubles with each probe that faults.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Longest time between two probes.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The circuit breaker of one plugin.
#[derive(Debug)]
pub(super) struct Breaker {
    /// The weight of faults at which the plugin is quarantined.
    limit: u32,
    /// Weight of the faults that are not made up for yet.
    weight: AtomicU32,
    /// Milliseconds from `origin` to the next probe; 0 while the plugin is called as usual.
    probe_at: AtomicU64,
    /// Waits so far without a probe that went well.
    waits: AtomicU32,
    origin: Instant,
    /// Raised for as long as the quarantine lasts.
    quarantined: IntGauge,
}

/// Leave to call the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// As usual.
    Usual,
    /// To find out whether it is well again; with the time of the probe after it.
    Probe(u64),
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The plugin is off the path for so long.
    Quarantined(Duration),
    /// The plugin is called again.
    Released,
}

impl Breaker {
    /// Closed. `quarantine_after` faults in a row open it.
    pub(super) fn new(quarantine_after: u32, quarantined: IntGauge) -> Self {
        Self {
            limit: quarantine_after.max(1).saturating_mul(FAULT_WEIGHT),
            weight: AtomicU32::new(0),
            probe_at: AtomicU64::new(0),
            waits: AtomicU32::new(0),
            origin: Instant::now(),
            quarantined,
        }
    }

    /// Leave to call, or none: then [`Self::until_probe`] says for how long.
    pub(super) fn ask(&self) -> Option<Leave> {
        // Acquire and Release below: whoever sees a change of state sees the counts behind it.
        let due = self.probe_at.load(Ordering::Acquire);
        if due == 0 {
            return Some(Leave::Usual);
        }
        let now = self.now();
        if now < due {
            return None;
        }
        // Whoever moves the next probe away has this one.
        let next = now.saturating_add(millis(self.wait()));
        self.probe_at
            .compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| Leave::Probe(next))
    }

    /// Time to the next probe; none while the plugin is called as usual.
    pub(super) fn until_probe(&self) -> Option<Duration> {
        let due = self.probe_at.load(Ordering::Acquire);
        (due != 0).then(|| Duration::from_millis(due.saturating_sub(self.now())))
    }

    /// Notes how a call ended for which there was leave.
    pub(super) fn report(&self, leave: Leave, faulted: bool) -> Change {
        match (leave, faulted) {
            (Leave::Usual, false) => self.make_up(),
            (Leave::Usual, true) => self.weigh(),
            (Leave::Probe(next), false) => self.release(next),
            (Leave::Probe(next), true) => self.hold(next),
        }
    }

    fn make_up(&self) -> Change {
        if self.weight.load(Ordering::Relaxed) == 0 {
            return Change::None;
        }
        let before = self
            .weight
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |weight| {
                weight.checked_sub(1)
            });
        if before == Ok(1) {
            self.waits.store(0, Ordering::Relaxed);
        }
        Change::None
    }

    fn weigh(&self) -> Change {
        let before = self.weight.fetch_add(FAULT_WEIGHT, Ordering::Relaxed);
        if before.saturating_add(FAULT_WEIGHT) < self.limit {
            return Change::None;
        }
        let wait = self.wait();
        let due = self.now().saturating_add(millis(wait));
        // Calls that were under way when it began report their faults here too.
        match self
            .probe_at
            .compare_exchange(0, due, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => {
                self.waits.fetch_add(1, Ordering::Relaxed);
                self.quarantined.inc();
                Change::Quarantined(wait)
            }
            Err(_) => Change::None,
        }
    }

    fn release(&self, next: u64) -> Change {
        if self.probe_at.load(Ordering::Acquire) != next {
            return Change::None;
        }
        // Before calls are let in again, so that the first fault among them counts.
        let probation = self.limit.saturating_sub(1);
        self.weight.store(probation, Ordering::Relaxed);
        if !self.settle(next, 0) {
            return Change::None;
        }
        self.quarantined.dec();
        Change::Released
    }

    fn hold(&self, next: u64) -> Change {
        let wait = self.wait();
        let due = self.now().saturating_add(millis(wait));
        if !self.settle(next, due) {
            return Change::None;
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        Change::Quarantined(wait)
    }

    /// Ends a probe; false when it took so long that another one has begun.
    fn settle(&self, next: u64, due: u64) -> bool {
        self.probe_at
            .compare_exchange(next, due, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The wait that is due now: doubled for each one since the plugin was well.
    fn wait(&self) -> Duration {
        let doublings = self.waits.load(Ordering::Relaxed).min(16);
        FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
    }

    /// Milliseconds since `origin`, never 0, which stands for something else.
    fn now(&self) -> u64 {
        millis(self.origin.elapsed()).max(1)
    }

    /// As if the wait were over.
    #[cfg(test)]
    pub(super) fn make_due(&self) {
        self.probe_at.store(1, Ordering::Release);
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if *self.probe_at.get_mut() != 0 {
            self.quarantined.dec();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(after: u32) -> (Breaker, IntGauge) {
        let gauge = IntGauge::new("quarantined", "Of a test.").unwrap();
        (Breaker::new(after, gauge.clone()), gauge)
    }

    /// One call of a plugin that faults or not.
    fn call(breaker: &Breaker, faulted: bool) -> Change {
        let leave = breaker.ask().expect("leave to call");
        breaker.report(leave, faulted)
    }

    #[test]
    fn faults_in_a_row_begin_a_quarantine() {
        let (breaker, gauge) = breaker(3);
        assert_eq!(call(&breaker, true), Change::None);
        assert_eq!(call(&breaker, true), Change::None);
        assert_eq!(call(&breaker, true), Change::Quarantined(FIRST_WAIT));
        assert_eq!((breaker.ask(), gauge.get()), (None, 1));
        assert!(breaker.until_probe().unwrap() <= FIRST_WAIT);
    }

    #[test]
    fn one_fault_in_twelve_calls_is_borne_and_one_in_ten_is_not() {
        let faulting_every = |every: u32| {
            let (breaker, _) = breaker(5);
            (0..10_000).all(|turn| {
                breaker
                    .ask()
                    .is_some_and(|leave| breaker.report(leave, turn % every == 0) == Change::None)
            })
        };
        assert!(faulting_every(12));
        assert!(!faulting_every(10));
    }

    #[test]
    fn one_probe_runs_at_a_time_and_its_success_ends_the_quarantine() {
        let (breaker, gauge) = breaker(1);
        call(&breaker, true);
        breaker.make_due();
        let probe = breaker.ask().unwrap();
        assert!(matches!(probe, Leave::Probe(_)));
        assert_eq!(breaker.ask(), None, "the probe is under way");
        assert_eq!(breaker.report(probe, false), Change::Released);
        assert_eq!((breaker.ask(), gauge.get()), (Some(Leave::Usual), 0));
    }

    #[test]
    fn a_fault_on_probation_begins_it_again_with_twice_the_wait() {
        let (breaker, _) = breaker(5);
        for _ in 0..5 {
            call(&breaker, true);
        }
        breaker.make_due();
        assert_eq!(call(&breaker, false), Change::Released);
        assert_eq!(call(&breaker, true), Change::Quarantined(2 * FIRST_WAIT));
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_health() {
        let (breaker, _) = breaker(1);
        call(&breaker, true);
        let mut waits = Vec::new();
        for _ in 0..8 {
            breaker.make_due();
            let Change::Quarantined(wait) = call(&breaker, true) else {
                panic!("released by a fault");
            };
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        breaker.make_due();
        assert_eq!(call(&breaker, false), Change::Released);
        for _ in 0..FAULT_WEIGHT {
            call(&breaker, false);
        }
        assert_eq!(call(&breaker, true), Change::Quarantined(FIRST_WAIT));
    }

    #[test]
    fn a_probe_that_was_overtaken_changes_nothing() {
        let (breaker, gauge) = breaker(1);
        call(&breaker, true);
        breaker.make_due();
        let slow = breaker.ask().unwrap();
        breaker.make_due();
        assert_eq!(call(&breaker, false), Change::Released);
        assert_eq!(breaker.report(slow, true), Change::None);
        assert_eq!((breaker.ask(), gauge.get()), (Some(Leave::Usual), 0));
    }

    #[test]
    fn late_faults_of_calls_that_were_under_way_change_nothing() {
        let (breaker, gauge) = breaker(2);
        let leaves: Vec<_> = (0..5).filter_map(|_| breaker.ask()).collect();
        let changes: Vec<_> = leaves
            .into_iter()
            .map(|leave| breaker.report(leave, true))
            .collect();
        assert_eq!(changes[1], Change::Quarantined(FIRST_WAIT));
        assert!(changes[2..].iter().all(|change| *change == Change::None));
        assert_eq!(gauge.get(), 1);
    }

    #[test]
    fn a_plugin_that_goes_takes_its_quarantine_with_it() {
        let (breaker, gauge) = breaker(1);
        call(&breaker, true);
        drop(breaker);
        assert_eq!(gauge.get(), 0);
    }
}
