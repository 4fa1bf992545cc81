//! Instances that are ready to be called.
//!
//! Invariants: a call never waits for an instance and never makes one; the pool's size is fixed, and
//! what is lost is made anew by one task off the path; an instance that may be broken is never seen
//! again; a retired pool holds nothing, and takes nothing back.
//!
//! Each seat holds at most one instance. A thread begins at a seat of its own, so that it mostly
//! meets the instance whose memory is in its core's cache, and nobody contends for a lock; locks are
//! held for the move of a pointer.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::runtime::Handle;

use super::error::LoadError;
use super::instance::{Blueprint, LiveInstance};
use crate::telemetry::Alive;

/// Waiting time after a failed refill; doubles up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Looks over all seats before a call goes without: a seat whose lock is just held is passed over.
const ROUNDS: usize = 3;

/// The instances of one plugin.
pub(super) struct Pool {
    blueprint: Blueprint,
    seats: Box<[Mutex<Option<Box<LiveInstance>>>]>,
    /// Instances that are idle or busy.
    alive: AtomicUsize,
    retired: AtomicBool,
    refilling: AtomicBool,
    idle: IntGauge,
    /// Counts this pool for as long as its compiled code is held.
    _alive: Alive,
    control: Handle,
}

impl Pool {
    /// A full pool: `first` and as many more as make `size`.
    ///
    /// # Errors
    /// What [`Blueprint::make`] says.
    pub(super) fn fill(
        blueprint: Blueprint,
        first: LiveInstance,
        size: usize,
        idle: IntGauge,
        alive: Alive,
        control: Handle,
    ) -> Result<Arc<Self>, LoadError> {
        let mut instances = vec![Box::new(first)];
        while instances.len() < size {
            instances.push(Box::new(blueprint.make()?));
        }
        let count = instances.len();
        idle.add(gauge(count));
        Ok(Arc::new(Self {
            blueprint,
            seats: instances
                .into_iter()
                .map(|instance| Mutex::new(Some(instance)))
                .collect(),
            alive: AtomicUsize::new(count),
            retired: AtomicBool::new(false),
            refilling: AtomicBool::new(false),
            idle,
            _alive: alive,
            control,
        }))
    }

    /// An idle instance, if there is one now.
    pub(super) fn take(self: &Arc<Self>) -> Option<Lease> {
        let home = seat_of_thread();
        for _ in 0..ROUNDS {
            let mut passed_over = false;
            for step in 0..self.seats.len() {
                let seat = (home + step) % self.seats.len();
                match self.seats.get(seat)?.try_lock() {
                    Ok(mut guard) => {
                        if let Some(instance) = guard.take() {
                            self.idle.dec();
                            let pool = Arc::clone(self);
                            return Some(Lease {
                                pool,
                                instance: Some(instance),
                                seat,
                                healthy: false,
                            });
                        }
                    }
                    Err(TryLockError::WouldBlock) => passed_over = true,
                    Err(TryLockError::Poisoned(_)) => {}
                }
            }
            if !passed_over {
                return None;
            }
        }
        None
    }

    /// How many instances are idle or busy, and how many there should be.
    pub(super) fn fill_level(&self) -> (usize, usize) {
        (self.alive.load(Ordering::Relaxed), self.seats.len())
    }

    /// Instances that wait for a call.
    pub(super) fn idle(&self) -> usize {
        let is_idle = |seat: &&Mutex<Option<Box<LiveInstance>>>| {
            seat.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some()
        };
        self.seats.iter().filter(is_idle).count()
    }

    /// Drops idle instances now and busy ones when they come back.
    pub(super) fn retire(&self) {
        // Before the seats are emptied: whoever puts an instance down after that sees it.
        self.retired.store(true, Ordering::SeqCst);
        for seat in &self.seats {
            let instance = seat.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(instance) = instance {
                self.idle.dec();
                self.alive.fetch_sub(1, Ordering::SeqCst);
                drop(instance);
            }
        }
    }

    /// Puts an instance into a free seat, its last one first. Fails when the pool is retired, or in
    /// the rare case that the seats that were free in passing are not those that are now.
    fn put(&self, instance: Box<LiveInstance>, home: usize) -> Result<(), Box<LiveInstance>> {
        for step in 0..self.seats.len() {
            let Some(seat) = self.seats.get((home + step) % self.seats.len()) else {
                break;
            };
            let mut guard = seat.lock().unwrap_or_else(PoisonError::into_inner);
            if self.retired.load(Ordering::SeqCst) {
                return Err(instance);
            }
            if guard.is_none() {
                *guard = Some(instance);
                self.idle.inc();
                return Ok(());
            }
        }
        Err(instance)
    }

    /// Takes back what a call used.
    fn give_back(self: &Arc<Self>, instance: Box<LiveInstance>, seat: usize, healthy: bool) {
        let worn_out = instance.calls >= self.blueprint.shared.slot.max_calls;
        let refused = if healthy && !worn_out {
            self.put(instance, seat).err()
        } else {
            Some(instance)
        };
        if let Some(instance) = refused {
            drop(instance);
            self.alive.fetch_sub(1, Ordering::SeqCst);
            self.refill();
        }
    }

    /// Starts the refill task, unless it runs or nothing is missing.
    fn refill(self: &Arc<Self>) {
        if self.is_short() && !self.refilling.swap(true, Ordering::SeqCst) {
            self.control.spawn(refill(Arc::clone(self)));
        }
    }

    /// Makes one instance and puts it down.
    fn add_one(&self) -> Result<(), LoadError> {
        let instance = Box::new(self.blueprint.make()?);
        self.alive.fetch_add(1, Ordering::SeqCst);
        if let Err(instance) = self.put(instance, 0) {
            drop(instance);
            self.alive.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn is_short(&self) -> bool {
        !self.retired.load(Ordering::SeqCst) && self.alive.load(Ordering::SeqCst) < self.seats.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.retire();
    }
}

/// Makes instances until none is missing. Ends when the pool is retired.
async fn refill(pool: Arc<Pool>) {
    let mut wait = BACKOFF.0;
    loop {
        while pool.is_short() {
            let maker = Arc::clone(&pool);
            let error = match tokio::task::spawn_blocking(move || maker.add_one()).await {
                Ok(Ok(())) => {
                    wait = BACKOFF.0;
                    continue;
                }
                Ok(Err(error)) => error,
                Err(error) if error.is_panic() => LoadError::Panicked,
                // The runtime stops.
                Err(_) => return,
            };
            let slot = &pool.blueprint.shared.slot;
            let why = slot.secrets.redact(&error.to_string()).into_owned();
            tracing::warn!(slot = %slot.name, why, "plugin instance not replaced, trying again");
            #[expect(clippy::disallowed_methods, reason = "backs off")]
            tokio::time::sleep(wait).await;
            wait = BACKOFF.1.min(wait * 2);
        }
        pool.refilling.store(false, Ordering::SeqCst);
        // One that was lost between the last look and the store found the flag still set.
        if !pool.is_short() || pool.refilling.swap(true, Ordering::SeqCst) {
            return;
        }
    }
}

/// An instance on loan. Dropped without [`Lease::finish`], as by a panic, it is not used again.
pub(super) struct Lease {
    pool: Arc<Pool>,
    /// Present until the drop.
    instance: Option<Box<LiveInstance>>,
    seat: usize,
    healthy: bool,
}

impl Lease {
    /// The instance.
    #[expect(clippy::expect_used, reason = "only the drop takes it")]
    pub(super) fn instance(&mut self) -> &mut LiveInstance {
        self.instance.as_mut().expect("only the drop takes it")
    }

    /// Gives the instance back after a call, to be used again if it is `healthy`.
    pub(super) fn finish(mut self, healthy: bool) {
        self.healthy = healthy;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.pool.give_back(instance, self.seat, self.healthy);
        }
    }
}

/// Where this thread begins to look: another place for each thread.
fn seat_of_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SEAT: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SEAT.with(|seat| {
        let number = seat
            .get()
            .unwrap_or_else(|| THREADS.fetch_add(1, Ordering::Relaxed));
        seat.set(Some(number));
        number
    })
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
