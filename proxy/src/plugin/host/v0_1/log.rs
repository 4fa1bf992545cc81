//! `log`: messages of a plugin, bounded in size, in a call and in a second.

use tracing::Level as Loudness;

use super::bindings::sluicegate::plugin::log::{Host, Level};
use crate::api::text::cut;
use crate::plugin::state::State;
use crate::plugin::text::escape_control;

/// Longest message, in bytes, before control characters are escaped.
const MESSAGE_BYTES: usize = 1024;

impl Host for State {
    fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        Ok(match level {
            Level::Error => tracing::enabled!(Loudness::ERROR),
            Level::Warn => tracing::enabled!(Loudness::WARN),
            Level::Info => tracing::enabled!(Loudness::INFO),
            Level::Debug => tracing::enabled!(Loudness::DEBUG),
        })
    }

    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        if self.call.logs_left == 0 || !self.shared.log_rate.allow() {
            self.shared.logs_dropped.inc();
            return Ok(());
        }
        self.call.logs_left -= 1;
        let slot = self.shared.slot.name.as_str();
        let plugin = self.shared.plugin.as_str();
        let request_id = self.call.request_id.as_str();
        let message = self.shared.slot.secrets.redact(&message);
        let message = escape_control(cut(&message, MESSAGE_BYTES));
        match level {
            Level::Error => tracing::error!(slot, plugin, request_id, "{message}"),
            Level::Warn => tracing::warn!(slot, plugin, request_id, "{message}"),
            Level::Info => tracing::info!(slot, plugin, request_id, "{message}"),
            Level::Debug => tracing::debug!(slot, plugin, request_id, "{message}"),
        }
        Ok(())
    }
}
