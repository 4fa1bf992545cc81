//! `clock`: time, where the slot grants it and the plugin wanted it.

use std::time::SystemTime;

use super::bindings::sluicegate::plugin::clock::Host;
use super::bindings::sluicegate::plugin::host_types::Refusal;
use crate::plugin::state::State;

impl Host for State {
    fn monotonic_ms(&mut self) -> wasmtime::Result<Result<u64, Refusal>> {
        if !self.shared.clock {
            return Ok(Err(Refusal::NotGranted));
        }
        let elapsed = self.shared.clock_origin.elapsed().as_millis();
        Ok(u64::try_from(elapsed).map_err(|_| Refusal::Unavailable))
    }

    fn unix_seconds(&mut self) -> wasmtime::Result<Result<u64, Refusal>> {
        if !self.shared.clock {
            return Ok(Err(Refusal::NotGranted));
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(since
            .map(|time| time.as_secs())
            .map_err(|_| Refusal::Unavailable))
    }
}
