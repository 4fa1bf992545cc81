//! Counts what is in memory, so that operators see when something is kept for too long.

use prometheus::IntGauge;

/// One of what a gauge counts, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alive(IntGauge);

impl Alive {
    /// Counts one more.
    pub(crate) fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.dec();
    }
}
