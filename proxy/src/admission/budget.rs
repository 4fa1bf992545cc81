//! Bytes that all requests and answers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// What one holder may have without being counted, and the step in which it is counted. Most
/// requests are smaller, and never touch what all workers share.
const STEP: usize = 16 * 1024;

/// Bytes that are held, and may be.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    limit: AtomicUsize,
    shown: IntGauge,
}

/// The budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Budget {
    /// With nothing to give yet, and a gauge of what is held.
    pub(super) fn shown_by(gauge: IntGauge) -> Self {
        Self {
            held: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            shown: gauge,
        }
    }

    /// For tests and fuzzing: of so many bytes.
    #[cfg(any(test, fuzzing))]
    #[expect(clippy::expect_used, reason = "the name is a good one")]
    pub(crate) fn of(bytes: usize) -> Arc<Self> {
        let gauge = IntGauge::new("held", "held").expect("a good name");
        let budget = Self::shown_by(gauge);
        budget.limit(bytes);
        Arc::new(budget)
    }

    /// Sets the limit. What is held stays.
    pub(super) fn limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// A holder of nothing.
    pub(crate) fn holder(self: &Arc<Self>) -> Held {
        Held {
            budget: Arc::clone(self),
            bytes: 0,
            counted: 0,
        }
    }

    fn take(&self, bytes: usize) -> Result<(), Full> {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        // Relaxed: the sum orders nothing else.
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Full)?;
        self.shown.add(signed(bytes));
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.shown.sub(signed(bytes));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What one request or answer holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
    /// `bytes` in whole steps, as the budget knows it.
    counted: usize,
}

impl Held {
    /// Holds so many bytes more.
    ///
    /// # Errors
    /// [`Full`], and it holds what it held.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), Full> {
        self.set(self.bytes.saturating_add(more))
    }

    /// Holds exactly so many bytes, of which the last part of a step is not counted.
    ///
    /// # Errors
    /// [`Full`], and it holds what it held. Never for fewer than before.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Full> {
        let counted = bytes - bytes % STEP;
        if counted > self.counted {
            self.budget.take(counted - self.counted)?;
        } else if counted < self.counted {
            self.budget.give_back(self.counted - counted);
        }
        (self.bytes, self.counted) = (bytes, counted);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.budget.give_back(self.counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(steps: usize) -> Arc<Budget> {
        Budget::of(steps * STEP)
    }

    #[test]
    fn small_holders_are_not_counted() {
        let budget = budget(0);
        let mut held = budget.holder();
        assert_eq!(held.set(STEP - 1), Ok(()));
        assert_eq!(held.grow(1), Err(Full));
        assert_eq!(held.bytes, STEP - 1);
    }

    #[test]
    fn a_full_budget_refuses_and_what_is_dropped_comes_back() {
        let budget = budget(3);
        let mut large = budget.holder();
        large.grow(2 * STEP).unwrap();
        let mut other = budget.holder();
        assert_eq!(other.grow(2 * STEP), Err(Full));
        other.grow(STEP).unwrap();
        assert_eq!(budget.shown.get(), 3 * STEP as i64);
        large.set(1).unwrap();
        other.grow(2 * STEP).unwrap();
        drop((large, other));
        assert_eq!(budget.shown.get(), 0);
    }

    proptest! {
        #[test]
        fn what_is_counted_is_the_sum_of_whole_steps(sizes in prop::collection::vec(0..6 * STEP, 1..20)) {
            let budget = budget(12);
            let mut holders: Vec<_> = (0..3).map(|_| budget.holder()).collect();
            for (turn, size) in sizes.iter().enumerate() {
                let before = holders[turn % 3].bytes;
                let result = holders[turn % 3].set(*size);
                prop_assert_eq!(holders[turn % 3].bytes, if result.is_ok() { *size } else { before });
                let sum: usize = holders.iter().map(|held| held.bytes / STEP * STEP).sum();
                prop_assert_eq!(budget.held.load(Ordering::Relaxed), sum);
                prop_assert_eq!(budget.shown.get(), sum as i64);
                prop_assert!(sum <= 12 * STEP);
            }
            drop(holders);
            prop_assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        }
    }
}
