//! What can be seen from outside: metrics and the access log.

pub(crate) mod metrics;
pub(crate) mod record;

pub(crate) use metrics::Metrics;
pub(crate) use record::{CacheResult, Outcome, Record, Stage};
