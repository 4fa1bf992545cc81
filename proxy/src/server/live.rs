//! What is live: the current snapshot, and what outlives it. The only file that loads the
//! `ArcSwap`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwap;

use crate::admin::Readiness;
use crate::pipeline::{Shared, Snapshot};

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// The running state.
pub(super) struct Live {
    snapshot: ArcSwap<Snapshot>,
    shared: Arc<Shared>,
    readiness: AtomicU8,
}

impl Live {
    /// Starts with the first snapshot, not ready yet.
    pub(super) fn new(snapshot: Snapshot, shared: Arc<Shared>) -> Self {
        shared.admission.limit(&snapshot.config.server);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            shared,
            readiness: AtomicU8::new(STARTING),
        }
    }

    /// The current snapshot; a request takes it once.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        #[expect(clippy::disallowed_methods, reason = "the one place that loads it")]
        self.snapshot.load_full()
    }

    /// Makes a snapshot current; requests in flight keep theirs.
    pub(super) fn swap(&self, next: Snapshot) {
        self.shared.admission.limit(&next.config.server);
        self.snapshot.store(Arc::new(next));
    }

    /// What outlives the snapshots.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether new requests are welcome.
    pub(super) fn readiness(&self) -> Readiness {
        match self.readiness.load(Ordering::Acquire) {
            STARTING => Readiness::Starting,
            READY => Readiness::Ready,
            _ => Readiness::Draining,
        }
    }

    /// The pools are connected. False when a stop was quicker.
    pub(super) fn set_ready(&self) -> bool {
        let from =
            self.readiness
                .compare_exchange(STARTING, READY, Ordering::AcqRel, Ordering::Acquire);
        from.is_ok()
    }

    /// A stop has begun.
    pub(super) fn set_draining(&self) {
        self.readiness.store(DRAINING, Ordering::Release);
    }
}
