//! What can be seen from outside: metrics, logs, and the headers that tell what was decided.
//!
//! A request fills one [`Record`]; [`headers`], [`observe()`] and [`AccessLog`] read it and nothing
//! else, so they cannot disagree. Start at `record`, then `metrics`.

pub(crate) mod access_log;
mod alive;
pub(crate) mod forget;
pub(crate) mod headers;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod observe;
pub(crate) mod record;
pub(crate) mod timestamp;

pub(crate) use access_log::AccessLog;
pub(crate) use alive::Alive;
pub(crate) use metrics::Metrics;
pub(crate) use observe::observe;
pub(crate) use record::{CacheResult, Outcome, Record, Stage};
