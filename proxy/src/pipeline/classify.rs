//! Asks the classifiers what kind of query this is; the first label wins.

use std::borrow::Cow;

use super::authenticate::{Caller, granted};
use super::client::Head;
use super::context::RequestContext;
use super::error::{Error, Result};
use super::snapshot::Snapshot;
use crate::api::prompt::Prompt;
use crate::config::Label;
use crate::plugin::{self, CallContext, Summary};
use crate::telemetry::Stage;

/// Model names that force a label: `sluicegate/LABEL`.
const FORCED_MODEL: &str = "sluicegate/";

/// What the classifiers, or the client, settled on.
#[derive(Debug, Default)]
pub(crate) struct Class {
    pub(crate) label: Option<Label>,
    /// The client forced the label, so the model name it wrote is not a model.
    pub(crate) forced: bool,
    /// For later stages and plugins.
    pub(crate) summary: Summary,
    /// The answer's expected kind, as in the contract: `text`, `image`, ….
    pub(crate) modality: Option<&'static str>,
}

/// Classifies a request.
///
/// # Errors
/// [`Error::RouteNotGranted`] for a forced label without the grant, and [`Error::PluginDenied`].
pub(super) async fn run(
    cx: &mut RequestContext,
    snapshot: &Snapshot,
    caller: &Caller,
    head: &Head,
    prompt: &Prompt,
) -> Result<Class> {
    cx.enter(Stage::Classify);
    let hint = hint(cx, caller, head, &prompt.model)?;
    let mut class = Class::default();
    for plugin in &snapshot.classifiers {
        let call = call_context(cx, caller, head, prompt, hint.as_deref());
        let Some(opinion) = plugin::classify(plugin, &call).await? else {
            continue;
        };
        class.modality = opinion.modality.or(class.modality);
        class.summary.merge(&opinion);
        if let (None, Some(scored)) = (&class.label, &opinion.label) {
            class.label = Some(Label::new(&scored.label));
        }
    }
    if let Some(hint) = hint {
        class.label = Some(Label::new(&hint));
        class.forced = prompt.model.starts_with(FORCED_MODEL);
        class.summary.force(&hint);
    }
    cx.record.confidence = class.label.as_ref().map(|_| class.summary.confidence);
    note_label(cx, snapshot, class.label.as_ref());
    Ok(class)
}

/// Writes the label into the record, and whether metrics may name it.
pub(super) fn note_label(cx: &mut RequestContext, snapshot: &Snapshot, label: Option<&Label>) {
    cx.record.label_known = label.is_some_and(|label| snapshot.knows_label(label));
    cx.record.label = label.cloned();
}

/// What every plugin call of a request is told besides the prompt.
pub(super) fn call_context<'a>(
    cx: &'a RequestContext,
    caller: &'a Caller,
    head: &'a Head,
    prompt: &'a Prompt,
    hint: Option<&'a str>,
) -> CallContext<'a> {
    CallContext {
        prompt,
        request_id: &cx.record.request_id,
        tenant: caller.tenant.as_str(),
        session: caller.session.as_deref().or(prompt.user.as_deref()),
        route_hint: hint,
        draw: cx.draw,
        explain: caller.grants.explain && head.headers.contains_key("x-sluicegate-explain"),
        headers: &head.headers,
    }
}

/// The label that the client asked for.
fn hint<'a>(
    cx: &RequestContext,
    caller: &Caller,
    head: &'a Head,
    model: &'a str,
) -> Result<Option<Cow<'a, str>>> {
    if let Some(label) = model.strip_prefix(FORCED_MODEL) {
        if !granted(cx, caller.grants.route, "model") {
            return Err(Error::RouteNotGranted);
        }
        if !is_label(label) {
            return Err(Error::Invalid {
                message: format!("`{FORCED_MODEL}` must be followed by a label of 1 to 64 bytes of `a-z 0-9 - _`"),
                param: Some("model".to_owned()),
                code: "invalid_label",
            });
        }
        return Ok(Some(Cow::Borrowed(label)));
    }
    let Some(label) = head.text("x-sluicegate-route") else {
        return Ok(None);
    };
    let usable = granted(cx, caller.grants.route, "x-sluicegate-route") && is_label(label);
    Ok(usable.then_some(Cow::Borrowed(label)))
}

fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}
