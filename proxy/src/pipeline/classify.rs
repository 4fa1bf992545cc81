//! Asks the classifiers what kind of query this is; the first label wins.

use std::borrow::Cow;
use std::sync::Arc;

use super::authenticate::{Caller, granted};
use super::client::Head;
use super::context::RequestContext;
use super::error::{Error, Result};
use super::snapshot::Snapshot;
use crate::api::prompt::Prompt;
use crate::config::Label;
use crate::plugin::{self, CallContext, Modality, Opinion, Summary};
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
    pub(crate) modality: Option<Modality>,
}

impl Class {
    /// Takes an opinion in: the first label wins, and a later value of everything else.
    fn take(&mut self, opinion: Opinion) {
        let summary = &mut self.summary;
        if let (None, Some(scored)) = (&summary.label, opinion.label) {
            summary.label = Some(scored.label);
            summary.confidence = scored.confidence;
        }
        summary.complexity = opinion.complexity.or(summary.complexity);
        summary.language = opinion.language.or(summary.language.take());
        for attribute in opinion.attributes {
            summary
                .attributes
                .retain(|known| known.name != attribute.name);
            summary.attributes.push(attribute);
        }
        self.modality = opinion.modality.or(self.modality);
    }
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
    prompt: &Arc<Prompt>,
) -> Result<Class> {
    cx.enter(Stage::Classify);
    let hint = hint(cx, caller, head, &prompt.model)?;
    let mut class = Class::default();
    for plugin in &snapshot.classifiers {
        let call = call_context(cx, caller, head, prompt, hint.as_deref());
        let Some(opinion) = plugin::classify(plugin, &call).await? else {
            continue;
        };
        cx.record.reasons.extend(opinion.reasons.iter().cloned());
        class.take(opinion);
    }
    if let Some(hint) = hint {
        class.forced = prompt.model.starts_with(FORCED_MODEL);
        class.summary.label = Some(hint.clone().into_owned());
        class.summary.confidence = 1.0;
    }
    class.label = class.summary.label.as_deref().map(Label::new);
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
    prompt: &'a Arc<Prompt>,
    hint: Option<&'a str>,
) -> CallContext<'a> {
    CallContext {
        prompt,
        request_id: &cx.record.request_id,
        tenant: caller.tenant.as_str(),
        session: caller
            .session
            .as_deref()
            .or(prompt.user.as_deref().filter(|_| caller.grants.session)),
        route_hint: hint,
        draw: cx.draw,
        explain: head.headers.contains_key("x-sluicegate-explain")
            && granted(cx, caller.grants.explain, "x-sluicegate-explain"),
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
                message: format!(
                    "`{FORCED_MODEL}` must be followed by a label of 1 to 64 bytes of `a-z 0-9 - _`"
                ),
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

/// 1 to 64 bytes of `a-z 0-9 - _`.
fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Attribute, Scored};

    fn opinion(label: Option<(&str, f32)>, language: Option<&str>) -> Opinion {
        Opinion {
            label: label.map(|(label, confidence)| Scored {
                label: label.into(),
                confidence,
            }),
            language: language.map(str::to_owned),
            ..Opinion::default()
        }
    }

    #[test]
    fn the_first_label_wins_and_later_facts_replace_earlier_ones() {
        let mut class = Class::default();
        class.take(opinion(None, Some("en")));
        class.take(opinion(Some(("code", 0.6)), None));
        class.take(opinion(Some(("chat", 0.9)), Some("fr")));
        assert_eq!(class.summary.label.as_deref(), Some("code"));
        assert!((class.summary.confidence - 0.6).abs() < f32::EPSILON);
        assert_eq!(class.summary.language.as_deref(), Some("fr"));
    }

    #[test]
    fn an_attribute_keeps_one_value() {
        let attribute = |value: &str| Attribute {
            name: "topic".into(),
            value: value.into(),
        };
        let mut class = Class::default();
        for value in ["a", "b"] {
            class.take(Opinion {
                attributes: vec![attribute(value)],
                ..Opinion::default()
            });
        }
        assert_eq!(class.summary.attributes, [attribute("b")]);
    }
}
