//! What an instance carries beside its memory: limits, the call that it serves, and its slot.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{Histogram, IntCounter};

use super::host::wasi::Closed;
use super::limits::{MemoryLimit, Meter, WORKER_BYTES};
use super::rate::Rate;
use crate::api::prompt::Prompt;
use crate::config::Slot;

/// Log messages that one call may write.
const LOGS_PER_CALL: u32 = 16;

/// What all instances of one plugin share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) slot: Arc<Slot>,
    /// As `describe` said; the slot's name until then.
    pub(super) plugin: String,
    /// Granted by the slot and wanted by the plugin.
    pub(super) clock: bool,
    /// By their place in `describe`'s list.
    pub(super) metrics: Vec<MetricHandle>,
    pub(super) log_rate: Rate,
    pub(super) logs_dropped: IntCounter,
    pub(super) metrics_dropped: IntCounter,
    /// Where the plugin's monotonic clock begins.
    pub(super) clock_origin: Instant,
    /// The estimate of tokens that budgets go by.
    pub(super) estimate: fn(&str) -> u32,
}

/// A metric that a plugin declared, with its slot's label filled in.
#[derive(Debug, Clone)]
pub(super) enum MetricHandle {
    Counter(IntCounter),
    Histogram(Histogram),
}

/// The data of one store.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) meter: Meter,
    pub(super) memory: MemoryLimit,
    pub(super) wasi: Closed,
    pub(super) call: Call,
}

/// The call that is running.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// The request that `prompt.read` reads; none outside of one.
    pub(super) prompt: Option<Arc<Prompt>>,
    /// Kept between calls for its buffer.
    pub(super) request_id: String,
    pub(super) logs_left: u32,
    /// Bytes that `prompt.read` may still give.
    pub(super) read_left: u64,
    /// Bytes of these that still buy time: those of the prompt, once, as far as a worker has time.
    pub(super) read_paid: usize,
}

impl State {
    /// The state of an instance that has not been called.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let memory = MemoryLimit::new(shared.slot.memory_bytes);
        Self {
            shared,
            meter: Meter::new(),
            memory,
            wasi: Closed::new(),
            call: Call::default(),
        }
    }

    /// Begins a call, about `prompt` where there is one.
    pub(super) fn begin(&mut self, prompt: Option<Arc<Prompt>>, request_id: &str) {
        let text_bytes = prompt.as_ref().map_or(0, |prompt| prompt.text_bytes);
        self.call.read_paid = text_bytes.min(WORKER_BYTES);
        self.call.prompt = prompt;
        self.call.request_id.clear();
        self.call.request_id.push_str(request_id);
        self.call.logs_left = LOGS_PER_CALL;
        self.call.read_left = self.shared.slot.read_bytes;
        self.memory.begin_call();
        self.wasi.begin_call();
    }

    /// Ends a call: nothing of its request stays behind.
    pub(super) fn end(&mut self) {
        self.call.prompt = None;
        self.call.request_id.clear();
    }
}
