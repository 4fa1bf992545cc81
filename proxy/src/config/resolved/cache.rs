//! `[cache]`: answers that are kept.

use std::time::Duration;

/// `[cache]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cache {
    /// Default true.
    pub(crate) enabled: bool,
    /// Default 10,000.
    pub(crate) max_entries: u64,
    /// Default 256 MiB.
    pub(crate) max_bytes: u64,
    /// Largest single answer; default 1 MiB.
    pub(crate) max_entry_bytes: usize,
    /// Life of an answer where no policy says otherwise; default 1 h.
    pub(crate) ttl: Duration,
    /// No policy may say more; default 30 d.
    pub(crate) max_ttl: Duration,
    /// Part of every key: changing it empties the cache.
    pub(crate) epoch: String,
}
