//! What a call may use: time and memory.
//!
//! Time is CPU time of the thread, not wall time: on a busy core a wall-clock deadline kills calls
//! that have hardly run. The engine's epoch only wakes [`Meter::tick`], which reads the thread's CPU
//! clock and lets the call go on while its budget lasts. A wall limit of twenty times the budget
//! stands behind it: a call that is found late has one more tick of CPU time to end. A call shorter
//! than a tick, which is nearly every one, never reads that clock.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

/// How often the engine's epoch advances, and so how exact a deadline is.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// CPU time for each KiB that is handed over, besides the slot's `cpu_time`.
const CPU_PER_KIB: Duration = Duration::from_micros(20);

/// Most text that a call hands over on a worker.
pub(super) const WORKER_BYTES: usize = 256 * 1024;

/// Wall time that a call may take, as a multiple of its CPU time.
const WALL_FACTOR: u32 = 20;

/// Which limit a call ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeadlineExceeded {
    /// The guest's own computing.
    #[error("used more than its {0:?} of CPU time")]
    Cpu(Duration),
    /// What host functions did on its behalf.
    #[error("had the host work for more than {0:?}")]
    Host(Duration),
    /// All in all, waiting for a core included.
    #[error("took longer than {0:?} of wall time")]
    Wall(Duration),
}

/// Measures one call at a time.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Duration,
    wall: Duration,
    started: Instant,
    /// The thread's CPU clock at the call's first tick. Reading it then, and not at the start, is
    /// what makes short calls free; a call may so run up to one tick over its budget.
    cpu_at_first_tick: Option<Duration>,
    /// CPU time that host functions used in this call.
    host: Duration,
    /// The thread's CPU clock when the wall limit was first found passed.
    late_since: Option<Duration>,
}

impl Meter {
    /// A meter that allows nothing until [`Self::arm`].
    pub(super) fn new() -> Self {
        Self {
            budget: Duration::ZERO,
            wall: Duration::ZERO,
            started: Instant::now(),
            cpu_at_first_tick: None,
            host: Duration::ZERO,
            late_since: None,
        }
    }

    /// Begins a call that may use `budget` of CPU time.
    pub(super) fn arm(&mut self, budget: Duration, started: Instant) {
        self.budget = budget;
        self.wall = budget.saturating_mul(WALL_FACTOR);
        self.started = started;
        self.cpu_at_first_tick = None;
        self.host = Duration::ZERO;
        self.late_since = None;
    }

    /// Adds what `bytes` of text are worth to the running call's budget.
    pub(super) fn extend(&mut self, bytes: usize) {
        let more = cpu_for(bytes);
        self.budget = self.budget.saturating_add(more);
        self.wall = self.wall.saturating_add(more.saturating_mul(WALL_FACTOR));
    }

    /// Checks the running call; called once a tick.
    ///
    /// # Errors
    /// The limit that it ran into.
    pub(super) fn tick(&mut self) -> Result<(), DeadlineExceeded> {
        let now = thread_cpu_time();
        let begin = *self.cpu_at_first_tick.get_or_insert(now);
        let used = now.saturating_sub(begin).saturating_sub(self.host);
        if used >= self.budget {
            return Err(DeadlineExceeded::Cpu(self.budget));
        }
        if self.started.elapsed() >= self.wall {
            // Late by waiting for a core: the call has one tick of its own to end, as nearly every
            // one does. By the clock on the wall it might wait through that one, too.
            let since = *self.late_since.get_or_insert(now);
            if now.saturating_sub(since) >= TICK {
                return Err(DeadlineExceeded::Wall(self.wall));
            }
        }
        Ok(())
    }

    /// Runs host work whose cost a guest chooses, on the host's account. That account has the size
    /// of the guest's: a loop of dear host calls must end too, and no epoch interrupts the host.
    ///
    /// # Errors
    /// When the account is spent.
    pub(super) fn host_work<R>(&mut self, work: impl FnOnce() -> R) -> Result<R, DeadlineExceeded> {
        let begin = thread_cpu_time();
        let result = work();
        self.host = self
            .host
            .saturating_add(thread_cpu_time().saturating_sub(begin));
        if self.host >= self.budget {
            return Err(DeadlineExceeded::Host(self.budget));
        }
        Ok(result)
    }
}

/// CPU time that `bytes` of text are worth.
pub(super) fn cpu_for(bytes: usize) -> Duration {
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    CPU_PER_KIB.saturating_mul(kib)
}

/// CPU time that this thread has used since it began.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Most elements of one table; the pooling allocator has room for as many.
pub(super) const TABLE_ELEMENTS: usize = 20_000;

/// Bounds the linear memory of one instance, over all its memories.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    limit: usize,
    used: usize,
    refused: bool,
}

impl MemoryLimit {
    /// Allows `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            refused: false,
        }
    }

    /// Begins a call: what was refused before is forgotten.
    pub(super) fn begin_call(&mut self) {
        self.refused = false;
    }

    /// Whether the guest was refused memory in this call.
    pub(super) fn was_refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        let fits = used <= self.limit;
        if fits {
            self.used = used;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses `amount` of this thread's CPU time.
    fn burn(amount: Duration) {
        let until = thread_cpu_time() + amount;
        while thread_cpu_time() < until {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn cpu_budget_ends_a_call() {
        let mut meter = Meter::new();
        meter.arm(Duration::from_millis(5), Instant::now());
        assert_eq!(meter.tick(), Ok(()));
        burn(Duration::from_millis(6));
        assert_eq!(
            meter.tick(),
            Err(DeadlineExceeded::Cpu(Duration::from_millis(5)))
        );
    }

    #[test]
    fn waiting_for_a_core_costs_no_cpu_budget() {
        let mut meter = Meter::new();
        // As if the thread had not run for 60 ms of a call with 5 ms.
        let begun = Instant::now()
            .checked_sub(Duration::from_millis(60))
            .unwrap();
        meter.arm(Duration::from_millis(5), begun);
        assert_eq!(meter.tick(), Ok(()));
    }

    #[test]
    fn wall_limit_stands_behind_the_budget() {
        let mut meter = Meter::new();
        let begun = Instant::now()
            .checked_sub(Duration::from_millis(101))
            .unwrap();
        meter.arm(Duration::from_millis(5), begun);
        assert_eq!(meter.tick(), Ok(()), "one more tick of its own");
        assert_eq!(meter.tick(), Ok(()), "which it has not used");
        burn(TICK);
        assert_eq!(
            meter.tick(),
            Err(DeadlineExceeded::Wall(Duration::from_millis(100)))
        );
    }

    #[test]
    fn host_work_has_an_account_of_its_own() {
        let mut meter = Meter::new();
        meter.arm(Duration::from_millis(5), Instant::now());
        assert_eq!(meter.tick(), Ok(()));
        meter.host_work(|| burn(Duration::from_millis(4))).unwrap();
        burn(Duration::from_millis(3));
        assert_eq!(meter.tick(), Ok(()), "7 ms of CPU, 4 of them the host's");
        let spent = meter.host_work(|| burn(Duration::from_millis(2)));
        assert_eq!(spent, Err(DeadlineExceeded::Host(Duration::from_millis(5))));
    }

    #[test]
    fn memory_counts_over_all_memories() {
        let mut limit = MemoryLimit::new(100);
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(!limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.was_refused());
        assert!(limit.memory_growing(60, 90, None).unwrap());
        limit.begin_call();
        assert!(!limit.was_refused());
    }

    #[test]
    fn text_buys_twenty_microseconds_a_kibibyte() {
        assert_eq!(cpu_for(0), Duration::ZERO);
        assert_eq!(cpu_for(1), Duration::from_micros(20));
        assert_eq!(cpu_for(64 * 1024), Duration::from_micros(1280));
    }
}
