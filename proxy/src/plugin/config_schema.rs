//! Judges a slot's config by the schema that its plugin brought.
//!
//! The schema is a stranger's: it can refer to itself so often that no config is ever judged by it.
//! So this runs on a thread of its own, in the background of everything else, and whoever waits for
//! it gives up after a while.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::error::LoadError;
use super::text::escape_control;
use super::types::{ConfigIssue, PluginInfo};
use crate::api::text::cut;
use crate::config::{Slot, wording};

/// Longest time that a config may take to be judged.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most issues that are told at once.
const ISSUES: usize = 64;

/// Longest text of one issue.
const TEXT_BYTES: usize = 1024;

/// The lowest priority, for a thread that may never end: it must not take a core from requests.
const NICE: i32 = 19;

/// Validates the slot's config table by the plugin's schema, if it has one. Blocks.
///
/// # Errors
/// [`LoadError::ConfigSchema`] when the schema itself is no JSON Schema, or takes too long;
/// [`LoadError::Config`] with the issues of the table.
pub(super) fn check(info: &PluginInfo, slot: &Slot) -> Result<(), LoadError> {
    if info.config_schema.is_empty() {
        return Ok(()); // `configure` has the only word
    }
    let schema: Value = serde_json::from_str(&info.config_schema)
        .map_err(|error| LoadError::ConfigSchema(format!("not JSON: {error}")))?;
    let config = slot.config.clone();
    let (report, judged) = mpsc::channel();
    let (introduce, introduced) = mpsc::channel();
    let judge = move || {
        let _ = introduce.send(rustix::thread::gettid());
        // Nobody waits any more: fine.
        let _ = report.send(issues(&schema, &config));
    };
    thread::Builder::new()
        .name("plugin-schema".to_owned())
        .spawn(judge)
        .map_err(|source| LoadError::NoThread { source })?;
    let issues = match judged.recv_timeout(PATIENCE) {
        Ok(judged) => judged?,
        Err(mpsc::RecvTimeoutError::Disconnected) => return Err(LoadError::Panicked),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            if let Ok(thread) = introduced.try_recv() {
                // Linux counts priorities by thread. Without it this one is only less polite.
                let _ = rustix::process::setpriority_process(Some(thread), NICE);
            }
            let detail = format!("judging a config by it takes longer than {PATIENCE:?}");
            return Err(LoadError::ConfigSchema(detail));
        }
    };
    if issues.is_empty() {
        Ok(())
    } else {
        Err(LoadError::Config { issues })
    }
}

fn issues(schema: &Value, config: &Value) -> Result<Vec<ConfigIssue>, LoadError> {
    let validator = jsonschema::draft202012::new(schema)
        .map_err(|error| LoadError::ConfigSchema(one_line(&error.to_string())))?;
    let faults = validator
        .iter_errors(config)
        .flat_map(|error| wording::faults(&error, schema));
    let issue = |fault: wording::Fault| ConfigIssue {
        message: one_line(&fault.in_one_line()),
        pointer: one_line(&fault.pointer),
    };
    Ok(faults.take(ISSUES).map(issue).collect())
}

/// A text with names that the schema's author chose.
fn one_line(text: &str) -> String {
    escape_control(cut(text, TEXT_BYTES)).into_owned()
}
