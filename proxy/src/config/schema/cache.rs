//! `[cache]` as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, Time};

/// Answers kept in memory for equal requests.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cache {
    /// False: nothing is looked up or stored.
    pub(crate) enabled: bool,
    /// Most answers that are kept. `SLUICEGATE_CACHE_SIZE` overrides it.
    #[schemars(range(min = 1))]
    pub(crate) max_entries: u64,
    /// Most bytes that all answers take together. `SLUICEGATE_CACHE_SIZE` with a unit overrides it.
    pub(crate) max_bytes: Size,
    /// Largest single answer that is kept.
    pub(crate) max_entry_bytes: Size,
    /// How long an answer is kept where no policy says otherwise. `SLUICEGATE_CACHE_TTL` overrides
    /// it.
    pub(crate) ttl: Time,
    /// The longest that a policy or a client may say.
    pub(crate) max_ttl: Time,
    /// Part of every key: changing it empties the cache.
    #[schemars(length(max = 64))]
    pub(crate) epoch: String,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: true,
            max_entries: 10_000,
            max_bytes: Size::mib(256),
            max_entry_bytes: Size::mib(1),
            ttl: Time::seconds(3600),
            max_ttl: Time::seconds(30 * 24 * 3600),
            epoch: String::new(),
        }
    }
}
