//! Things that are counted one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// How many of a kind there are, and may be.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    limit: AtomicUsize,
    shown: Option<IntGauge>,
}

impl Places {
    /// With this limit.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            shown: None,
        }
    }

    /// With none to give yet, and a gauge of those taken.
    pub(super) fn shown_by(gauge: IntGauge) -> Self {
        Self {
            shown: Some(gauge),
            ..Self::new(0)
        }
    }

    /// Sets the limit. Places that are taken stay.
    pub(crate) fn limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes a place; none when all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let limit = self.limit.load(Ordering::Relaxed);
        let one_more = |taken| (taken < limit).then_some(taken + 1);
        // Relaxed: the count orders nothing else.
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        if let Some(gauge) = &self.shown {
            gauge.inc();
        }
        Some(Place {
            of: Arc::clone(self),
        })
    }
}

/// One that is taken; free again when dropped.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub(crate) struct Place {
    of: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(gauge) = &self.of.shown {
            gauge.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_up_to_the_limit_and_come_back() {
        let places = Arc::new(Places::new(2));
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        assert!(places.take().is_none());
        drop(first);
        let third = places.take().unwrap();
        assert!(places.take().is_none());
        drop((second, third));
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lower_limit_takes_nothing_away() {
        let gauge = IntGauge::new("held", "held").unwrap();
        let places = Arc::new(Places::shown_by(gauge.clone()));
        assert!(places.take().is_none());
        places.limit(2);
        let held = [places.take().unwrap(), places.take().unwrap()];
        places.limit(1);
        assert_eq!(gauge.get(), 2);
        let [first, second] = held;
        drop(first);
        assert!(places.take().is_none(), "one is still there");
        drop(second);
        assert!(places.take().is_some());
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn threads_never_hold_more_than_the_limit() {
        let places = Arc::new(Places::new(3));
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let Some(place) = places.take() else { continue };
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
    }
}
