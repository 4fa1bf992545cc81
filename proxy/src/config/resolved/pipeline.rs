//! `[pipeline]`: the plugin slots, and the room that they need.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::SlotName;
use crate::config::Secrets;

/// `[pipeline]`: the plugin slots.
#[derive(Debug, PartialEq)]
pub(crate) struct Pipeline {
    /// In order; the first label wins.
    pub(crate) classify: Vec<Arc<Slot>>,
    /// In order; each sees the prompt as the one before left it.
    pub(crate) compress: Vec<Arc<Slot>>,
    pub(crate) cache_policy: Option<Arc<Slot>>,
    /// Instances that the allocator has room for; fixed at start.
    pub(crate) max_instances: u32,
    /// Linear memory that one instance may ever have, in bytes; fixed at start. Default 64 MiB;
    /// slots may ask for less.
    pub(crate) max_memory_bytes: usize,
    /// Folder of compiled components; default `$XDG_CACHE_HOME/sluicegate` or
    /// `~/.cache/sluicegate`.
    pub(crate) compile_cache: PathBuf,
    /// Bytes that folder may hold; default 1 GiB.
    pub(crate) compile_cache_bytes: u64,
}

impl Pipeline {
    /// Every slot, in the order of the stages.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        let policy = self.cache_policy.iter();
        self.classify.iter().chain(&self.compress).chain(policy)
    }

    /// Instances that all slots may have at once: one for each worker and the spares, twice, since
    /// a swap holds the old and the new ones.
    pub(crate) fn instances_needed(&self, workers: usize) -> u64 {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX);
        self.slots()
            .map(|slot| workers.saturating_add(slot.spares.into()).saturating_mul(2))
            .fold(0, u64::saturating_add)
    }
}

/// Which stage a slot belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SlotKind {
    /// `[[pipeline.classify]]`
    Classify,
    /// `[[pipeline.compress]]`
    Compress,
    /// `[pipeline.cache_policy]`
    CachePolicy,
}

/// One plugin slot. Two equal slots with equal component bytes share an instance pool across
/// reloads.
#[derive(Clone, PartialEq)]
pub(crate) struct Slot {
    pub(crate) kind: SlotKind,
    pub(crate) name: SlotName,
    pub(crate) source: Source,
    /// Required SHA-256 of the component.
    pub(crate) sha256: Option<[u8; 32]>,
    /// The slot's `config` table as JSON: `{}` when there is none.
    pub(crate) config: serde_json::Value,
    /// What of this table is secret: it is taken out of what the plugin says of it.
    pub(crate) secrets: Secrets,
    pub(crate) on_failure: OnFailure,
    /// CPU time of one call; defaults: classify and cache policy 5 ms, compress 20 ms, each plus
    /// 20 µs per KiB handed over (added by the host).
    pub(crate) cpu_time: Duration,
    /// Linear memory of an instance; default 64 MiB.
    pub(crate) memory_bytes: usize,
    /// Bytes of a result, and of the arguments of one host call; default 1 MiB.
    pub(crate) max_output_bytes: usize,
    /// Default 64 MiB.
    pub(crate) max_component_bytes: u64,
    /// Spare instances besides one per worker; default 2.
    pub(crate) spares: u32,
    /// Calls after which an instance is replaced; default 1,000,000.
    pub(crate) max_calls: u64,
    /// Faults in a row after which the plugin is taken off the path; default 5.
    pub(crate) quarantine_after: u32,
    /// `configure`'s time, off the path; default 10 s.
    pub(crate) configure_timeout: Duration,
    /// Overrides the plugin's wish.
    pub(crate) last_messages: Option<u32>,
    /// Overrides the plugin's wish.
    pub(crate) text: Option<TextWindow>,
    /// Default 4,096.
    pub(crate) max_messages: u32,
    /// What `prompt.read` gives in one call, in bytes; default 16 MiB.
    pub(crate) read_bytes: u64,
    /// Request headers that are shown to it.
    pub(crate) headers: Vec<http::HeaderName>,
    /// Whether it gets the clock.
    pub(crate) grant_clock: bool,
    /// Compress: default 4,096.
    pub(crate) max_edits: usize,
    /// Compress: edits of the last user message are allowed; default false.
    pub(crate) edit_last_user: bool,
    /// Compress: edits of tool results are allowed; default false.
    pub(crate) edit_tool_results: bool,
    /// Cache policy: fields that it may take out of the key, by their names in the contract.
    pub(crate) may_ignore: Vec<String>,
    /// Cache policy: bytes of an answer that `admit` sees; default 0.
    pub(crate) answer_bytes: u32,
}

/// Leaves the plugin's own table out: it may hold secrets.
impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// `builtin:NAME`
    Builtin(String),
    /// A file, relative paths resolved against the config file's folder.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What a stage does when a plugin gives no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// The stage goes on without it.
    Skip,
    /// The request is refused with 503.
    Deny,
}

/// How much of each text a plugin sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextWindow {
    /// No text.
    Nothing,
    /// Head and tail, in bytes.
    Window {
        /// From the beginning.
        head: u32,
        /// Up to the end.
        tail: u32,
    },
    /// All of it.
    All,
}
