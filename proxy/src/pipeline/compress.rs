//! Makes the prompt shorter where the route says so.
//!
//! Invariant: a plugin's edits are applied as a whole or not at all, in the client's own bytes.

use super::authenticate::{Caller, granted};
use super::classify::{Class, call_context};
use super::client::Head;
use super::context::RequestContext;
use super::error::{Error, Result};
use super::recount::Recount;
use super::snapshot::Snapshot;
use crate::api::request::Request;
use crate::config::{OnFailure, Route};
use crate::plugin::{self, Budget};
use crate::telemetry::Stage;

/// What the client and the route want of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    enabled: bool,
    target_tokens: Option<u32>,
}

impl Wish {
    /// Reads the route's setting and `x-sluicegate-compress: bypass|budget=TOKENS`.
    pub(super) fn of(cx: &RequestContext, caller: &Caller, head: &Head, route: &Route) -> Self {
        let wish = Self {
            enabled: route.compress,
            target_tokens: None,
        };
        let Some(value) = head.text("x-sluicegate-compress") else {
            return wish;
        };
        if !granted(cx, caller.grants.compress, "x-sluicegate-compress") {
            return wish;
        }
        match value.trim().split_once('=') {
            None if value.trim() == "bypass" => Self {
                enabled: false,
                ..wish
            },
            Some(("budget", tokens)) => Self {
                target_tokens: tokens.parse().ok(),
                ..wish
            },
            _ => wish,
        }
    }

    /// Part of the cache key: answers to differently compressed prompts stay apart.
    pub(super) fn as_key(self) -> String {
        match (self.enabled, self.target_tokens) {
            (false, _) => "off".to_owned(),
            (true, None) => "on".to_owned(),
            (true, Some(tokens)) => format!("budget={tokens}"),
        }
    }
}

/// Runs the compressors, each on what the one before left.
///
/// # Errors
/// [`super::error::Error::PluginDenied`].
pub(super) async fn run(
    cx: &mut RequestContext,
    snapshot: &Snapshot,
    caller: &Caller,
    head: &Head,
    mut request: Request,
    class: &Class,
    wish: Wish,
) -> Result<Request> {
    if !wish.enabled {
        return Ok(request); // no stage time, no header: compression did not run
    }
    cx.enter(Stage::Compress);
    let before = request.prompt.prompt_tokens;
    let mut original = None;
    for plugin in &snapshot.compressors {
        let budget = Budget {
            target_tokens: wish.target_tokens,
            label: class.summary.label.clone(),
            language: class.summary.language.clone(),
        };
        let call = call_context(cx, caller, head, &request.prompt, None);
        let Some(compression) = plugin::compress(plugin, &call, &budget).await? else {
            continue;
        };
        if compression.plan.is_empty() {
            continue;
        }
        let shorter = match request.apply(&compression.plan) {
            Ok(shorter) => shorter,
            // The plugin's fault, never the client's: its slot says what follows.
            Err(refused) => {
                let slot = plugin.slot();
                tracing::warn!(slot = %slot.name, "edits do not fit: {}", refused.message);
                match slot.on_failure {
                    OnFailure::Skip => continue,
                    OnFailure::Deny => {
                        let slot = slot.name.clone();
                        return Err(Error::PluginDenied { slot });
                    }
                }
            }
        };
        let whole = std::mem::replace(&mut request, shorter);
        original.get_or_insert(whole);
    }
    if let Some(original) = original {
        cx.record.tokens_saved = before.saturating_sub(request.prompt.prompt_tokens);
        cx.record.prompt_tokens = request.prompt.prompt_tokens;
        cx.recount = Some(Recount::new(original, request.clone()));
    }
    Ok(request)
}
