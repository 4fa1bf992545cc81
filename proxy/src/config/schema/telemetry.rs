//! `[telemetry]` as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Logs and metrics.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// Address and port of a second listener that serves `/metrics` alone; cannot change while
    /// running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<String>,
    /// How log lines look; cannot change while running.
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or directives such as `info,sluicegate::plugin=debug`; cannot
    /// change while running.
    pub(crate) log_level: String,
    /// Writes one line for each request.
    pub(crate) access_log: bool,
    /// Which response headers tell about the path of a request. Left out, `all` on a loopback
    /// listener, else `basic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expose: Option<Expose>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            listen: None,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            access_log: true,
            expose: None,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Response headers about the path of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expose {
    /// Label, cache state and tokens saved.
    Basic,
    /// Also pool, backend and the time of each stage.
    All,
}
