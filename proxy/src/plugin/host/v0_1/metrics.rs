//! `metrics`: counters and histograms that the plugin declared, by their place in its list.

use super::bindings::sluicegate::plugin::metrics::Host;
use crate::plugin::state::{MetricHandle, State};

/// Largest value of a histogram.
const LARGEST: f64 = 1e15;

impl Host for State {
    fn add(&mut self, metric: u32, value: u32) -> wasmtime::Result<()> {
        match self.metric(metric) {
            Some(MetricHandle::Counter(counter)) => counter.inc_by(u64::from(value)),
            Some(MetricHandle::Histogram(_)) | None => self.shared.metrics_dropped.inc(),
        }
        Ok(())
    }

    fn observe(&mut self, metric: u32, value: f64) -> wasmtime::Result<()> {
        match self.metric(metric) {
            // A wild value, or two, would be the family's sum for ever. NaN is in no range.
            Some(MetricHandle::Histogram(histogram)) if value.abs() <= LARGEST => {
                histogram.observe(value);
            }
            Some(MetricHandle::Histogram(_) | MetricHandle::Counter(_)) | None => {
                self.shared.metrics_dropped.inc();
            }
        }
        Ok(())
    }
}

impl State {
    fn metric(&self, index: u32) -> Option<&MetricHandle> {
        self.shared.metrics.get(usize::try_from(index).ok()?)
    }
}
