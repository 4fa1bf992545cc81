//! The one record of a request: what each stage decided, read by headers, access log and metrics.

use std::time::Duration;

use crate::config::{BackendName, Label, PoolName, Tenant};

/// The stages of the pipeline, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Authenticate,
    Parse,
    Classify,
    Route,
    CachePolicy,
    CacheLookup,
    Compress,
    Balance,
    Forward,
    Stream,
}

impl Stage {
    /// All stages, in order.
    pub(crate) const ALL: [Self; 10] = [
        Self::Authenticate,
        Self::Parse,
        Self::Classify,
        Self::Route,
        Self::CachePolicy,
        Self::CacheLookup,
        Self::Compress,
        Self::Balance,
        Self::Forward,
        Self::Stream,
    ];

    /// The name in metrics, logs and `server-timing`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Parse => "parse",
            Self::Classify => "classify",
            Self::Route => "route",
            Self::CachePolicy => "cache-policy",
            Self::CacheLookup => "cache-lookup",
            Self::Compress => "compress",
            Self::Balance => "balance",
            Self::Forward => "forward",
            Self::Stream => "stream",
        }
    }
}

/// One value for each stage.
#[derive(Debug, Default)]
pub(crate) struct PerStage<T>([T; Stage::ALL.len()]);

#[expect(
    clippy::indexing_slicing,
    reason = "a stage's number is its place in `Stage::ALL`: a test compares them"
)]
impl<T> PerStage<T> {
    /// What `value` gives for each stage.
    pub(crate) fn new(value: impl FnMut(Stage) -> T) -> Self {
        Self(Stage::ALL.map(value))
    }

    /// The value of a stage.
    pub(crate) fn get(&self, stage: Stage) -> &T {
        &self.0[stage as usize]
    }

    /// The value of a stage, to be changed.
    pub(crate) fn get_mut(&mut self, stage: Stage) -> &mut T {
        &mut self.0[stage as usize]
    }
}

/// What the cache did for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CacheResult {
    /// Answered from the cache.
    Hit,
    /// Looked for and not found.
    Miss,
    /// Not looked for.
    #[default]
    Bypass,
}

impl CacheResult {
    /// The value of `x-sluicegate-cache` and of the metric label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Outcome {
    /// The answer, also an error answer, was delivered whole.
    Complete,
    /// The client left, or the request was dropped.
    #[default]
    Aborted,
    /// The upstream failed after the commit; the client got an error event or a cut connection.
    UpstreamFailed,
}

impl Outcome {
    /// The name in logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::UpstreamFailed => "upstream_failed",
        }
    }
}

/// Facts of one request.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) request_id: String,
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// `chat`, `completions`, `embeddings`, `models`, `other`.
    pub(crate) endpoint: &'static str,
    pub(crate) client: String,
    pub(crate) tenant: Option<Tenant>,
    /// Name of the API key in the config, never the key itself.
    pub(crate) key: Option<String>,
    /// As the client asked.
    pub(crate) model: Option<String>,
    /// As sent to the upstream.
    pub(crate) upstream_model: Option<String>,
    pub(crate) label: Option<Label>,
    /// True when the config names the label, so that it may be a metric label.
    pub(crate) label_known: bool,
    pub(crate) confidence: Option<f32>,
    pub(crate) route: Option<String>,
    pub(crate) pool: Option<PoolName>,
    pub(crate) backend: Option<BackendName>,
    pub(crate) attempts: u32,
    pub(crate) cache: CacheResult,
    pub(crate) cache_age: Option<Duration>,
    pub(crate) stream: bool,
    /// 0 when no head was sent.
    pub(crate) status: u16,
    /// OpenAI error code, when the proxy itself refused or failed.
    pub(crate) error: Option<&'static str>,
    /// Causes of `error`, for the log alone.
    pub(crate) error_detail: Option<String>,
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: u32,
    pub(crate) tokens_saved: u32,
    /// What defaults and caps changed.
    pub(crate) changed: Vec<String>,
    /// What the classifiers say tipped the scale, when the client asked to explain: bounded by the
    /// contract.
    pub(crate) reasons: Vec<String>,
    pub(crate) body_bytes_in: u64,
    pub(crate) body_bytes_out: u64,
    pub(crate) ttft: Option<Duration>,
    pub(crate) duration: Duration,
    /// Time per stage.
    pub(crate) stages: PerStage<Duration>,
    pub(crate) outcome: Outcome,
}

impl Record {
    /// Time spent in `stage`; zero when it was never entered.
    pub(crate) fn stage(&self, stage: Stage) -> Duration {
        *self.stages.get(stage)
    }

    /// True on the endpoints that the proxy understands: what it only relays has no cache result
    /// and no tokens.
    pub(crate) fn is_model_call(&self) -> bool {
        matches!(self.endpoint, "chat" | "completions" | "embeddings")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_stand_at_their_own_position() {
        for (position, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, position);
        }
    }
}
