//! How a call of a plugin fails: one kind per metric label, and what is known about it.

use wasmtime::Trap;

use super::limits::DeadlineExceeded;
use super::state::State;

/// Why a call gave no result. Each kind is a value of the metric label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FailureKind {
    /// The guest faulted: a panic, an access out of bounds, an exit.
    Trap,
    /// The call used up its time.
    Deadline,
    /// The guest asked for more memory than the slot allows, and faulted.
    OutOfMemory,
    /// Every instance was busy or being replaced.
    NoInstance,
    /// The plugin is off the path for its faults, and was not called.
    Quarantined,
    /// The result breaks a rule of the contract.
    InvalidOutput,
    /// The result, or the arguments of one host call, were larger than `max_output_bytes`.
    OutputTooLarge,
    /// The plugin says that the request is not its business. Not a fault.
    Unsupported,
    /// The plugin says that it did not get what it needs from the host.
    Unavailable,
    /// The plugin gave up before a limit of its own.
    Exhausted,
    /// The plugin noticed a bug of its own.
    Internal,
}

impl FailureKind {
    /// All kinds, in the order of [`Self::index`].
    pub(crate) const ALL: [Self; 11] = [
        Self::Trap,
        Self::Deadline,
        Self::OutOfMemory,
        Self::NoInstance,
        Self::Quarantined,
        Self::InvalidOutput,
        Self::OutputTooLarge,
        Self::Unsupported,
        Self::Unavailable,
        Self::Exhausted,
        Self::Internal,
    ];

    /// Its place in [`Self::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The name in metrics, logs and the admin API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::OutOfMemory => "out_of_memory",
            Self::NoInstance => "no_instance",
            Self::Quarantined => "quarantined",
            Self::InvalidOutput => "invalid_output",
            Self::OutputTooLarge => "output_too_large",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Exhausted => "exhausted",
            Self::Internal => "internal",
        }
    }

    /// Whether the instance can serve another call. After a fault nothing can enter it any more.
    pub(super) fn leaves_instance_alive(self) -> bool {
        match self {
            Self::Trap | Self::Deadline | Self::OutOfMemory | Self::OutputTooLarge => false,
            Self::NoInstance
            | Self::Quarantined
            | Self::InvalidOutput
            | Self::Unsupported
            | Self::Unavailable
            | Self::Exhausted
            | Self::Internal => true,
        }
    }

    /// Whether the plugin did what no plugin may: its breaker counts these.
    pub(super) fn is_fault(self) -> bool {
        match self {
            Self::Trap
            | Self::Deadline
            | Self::OutOfMemory
            | Self::OutputTooLarge
            | Self::InvalidOutput => true,
            Self::NoInstance
            | Self::Quarantined
            | Self::Unsupported
            | Self::Unavailable
            | Self::Exhausted
            | Self::Internal => false,
        }
    }
}

/// A call that gave no result.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {detail}", kind.as_str())]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// For the log and the admin API; never for a client.
    pub(crate) detail: String,
}

impl Failure {
    /// A failure with its detail.
    pub(super) fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    /// A result that breaks the contract.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(FailureKind::InvalidOutput, detail)
    }

    /// Tells the faults of an engine call apart. `state` is that of the instance that faulted.
    pub(super) fn from_engine(error: &wasmtime::Error, state: &State) -> Self {
        if let Some(exceeded) = error.downcast_ref::<DeadlineExceeded>() {
            return Self::new(FailureKind::Deadline, exceeded.to_string());
        }
        // The engine keeps the type of this error to itself; a test holds its text.
        if error
            .chain()
            .any(|cause| cause.to_string().contains("fuel allocated for hostcalls"))
        {
            let limit = state.shared.slot.max_output_bytes;
            let detail = format!("handed over more than max_output_bytes = {limit} bytes");
            return Self::new(FailureKind::OutputTooLarge, detail);
        }
        let fault = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        // Rust's allocator aborts, others trap in their own way: what counts is that it was refused
        // memory in this call.
        let kind = if state.memory.was_refused() {
            FailureKind::OutOfMemory
        } else {
            FailureKind::Trap
        };
        Self::new(kind, fault)
    }
}

/// A slot with `on_failure = "deny"` gave no result: the request is refused with 503.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin slot `{slot}` gave no result, and its on_failure is deny")]
pub(crate) struct Denied {
    pub(crate) slot: crate::config::SlotName,
}
