//! How often something may happen in a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// At most so many events in each second since `origin`, counted without a lock.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    origin: Instant,
    /// The second in the upper half, its events in the lower.
    window: AtomicU64,
}

impl Rate {
    /// Allows `per_second` events in a second.
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            origin: Instant::now(),
            window: AtomicU64::new(0),
        }
    }

    /// Takes one event, or says no.
    pub(super) fn allow(&self) -> bool {
        self.allow_at(self.origin.elapsed().as_secs())
    }

    fn allow_at(&self, second: u64) -> bool {
        let most = u64::from(self.per_second);
        // Relaxed: the one word is all there is to agree on.
        self.window
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                let events = if window >> 32 == second {
                    window & 0xffff_ffff
                } else {
                    0
                };
                (events < most).then_some(second << 32 | (events + 1))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_count() {
        let rate = Rate::new(2);
        assert!(rate.allow_at(0));
        assert!(rate.allow_at(0));
        assert!(!rate.allow_at(0));
        assert!(rate.allow_at(1));
    }
}
