//! `tokens`: the estimate that budgets go by.

use super::bindings::sluicegate::plugin::tokens::Host;
use crate::plugin::state::State;

/// Shorter texts cost less than reading the clock twice.
const METERED_BYTES: usize = 4 * 1024;

impl Host for State {
    fn estimate(&mut self, text: String) -> wasmtime::Result<u32> {
        let estimate = self.shared.estimate;
        if text.len() < METERED_BYTES {
            return Ok(estimate(&text));
        }
        Ok(self.meter.host_work(|| estimate(&text))?)
    }
}
