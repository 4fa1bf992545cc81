//! The admin listener: what an operator asks and orders.
//!
//! | Method and path | Answer |
//! | --- | --- |
//! | `GET /livez`, `/readyz`, `/health` | one word; `/readyz` and `/health` 503 while not ready |
//! | `GET /metrics` | Prometheus text |
//! | `GET /admin/plugins` | `{"plugins": […]}` |
//! | `GET /admin/pools` | `{"pools": […]}` |
//! | `GET /admin/config` | generation, config without secrets, error of the last reload, slots that keep an old plugin |
//! | `POST /admin/reload` | `{"generation": N, "kept": […]}`, or 422 with the problems |
//! | `POST /cache/clear` | `{"cleared": N}` |
//!
//! Invariants: every request passes [`gate`] before anything is looked at; every error is OpenAI's
//! JSON; a body is read to its end or the connection closes, and none is kept. The second listener
//! of `[telemetry] listen` is the same app, restricted to `/metrics` ([`Scope::Metrics`]). Start at
//! [`route`].

mod answer;
mod app;
mod gate;
mod route;

use async_trait::async_trait;
use serde_json::Value;

pub(crate) use app::App;
pub(crate) use gate::Gate;
pub(crate) use route::Scope;

/// What the rest of the process shows to, and does for, an operator.
#[async_trait]
pub(crate) trait Views: Send + Sync {
    /// One object for each plugin slot.
    fn plugins(&self) -> Value;

    /// One object for each pool, with its backends.
    fn pools(&self) -> Value;

    /// Generation, config without secrets, error of the last reload.
    fn config(&self) -> ConfigView;

    /// Loads the config anew and swaps it in, or says why it was refused.
    ///
    /// # Cancel safety
    /// Called on the client's connection: when the client leaves, the future is dropped, so an
    /// implementation lets a reload that has begun go on elsewhere.
    async fn reload(&self) -> Result<Reloaded, ReloadRefused>;

    /// Empties the cache; how many answers it held.
    fn clear_cache(&self) -> u64;

    /// Whether new requests are welcome.
    fn ready(&self) -> Readiness;

    /// All metrics in Prometheus' text format.
    fn metrics_text(&self) -> String;
}

/// What `GET /admin/config` shows.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct ConfigView {
    /// Number of the running snapshot, from 1.
    pub(crate) generation: u64,
    /// The running config, defaults filled in, secrets redacted.
    pub(crate) config: Value,
    /// Why the newest candidate was refused; none when it was not.
    pub(crate) last_reload_error: Option<String>,
    /// Slots whose newest plugin was refused.
    pub(crate) kept: Vec<KeptPlugin>,
}

/// What `POST /admin/reload` answers.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Reloaded {
    /// Number of the running snapshot.
    pub(crate) generation: u64,
    /// Slots whose newest plugin was refused.
    pub(crate) kept: Vec<KeptPlugin>,
}

/// A slot that keeps the plugin that ran before, since the new one was refused.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct KeptPlugin {
    pub(crate) slot: String,
    /// Why, one line for each reason.
    pub(crate) problems: Vec<String>,
}

/// Why a reload changed nothing.
#[derive(Debug, Clone)]
pub(crate) struct ReloadRefused {
    /// Everything that is wrong, as `sluicegate check` prints it.
    pub(crate) message: String,
    /// The same, one value for each problem.
    pub(crate) problems: Vec<Value>,
}

/// Whether new requests are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// Plugins or backends are not there yet.
    Starting,
    /// A stop has begun.
    Draining,
}

impl Readiness {
    /// The one word that probes get.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Draining => "draining",
        }
    }
}
