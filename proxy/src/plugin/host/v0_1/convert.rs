//! From the contract's types to the room's plain ones, and back. Checks nothing: `check` does.

use super::bindings::exports::sluicegate::plugin::{cache, classify, compress, lifecycle};
use super::bindings::sluicegate::plugin::types::{self, AttributeParam, AttributeResult};
use crate::api::text::cut;
use crate::config::TextWindow;
use crate::plugin::failure::{Failure, FailureKind};
use crate::plugin::text::escape_control;
use crate::plugin::types::{
    AnswerFacts, Attribute, ConfigIssue, Decision, Finish, MetricDeclaration, MetricKind, Modality,
    Opinion, PluginInfo, Scope, Scored,
};
use sluicegate_edits as edits;

/// What a stage function gives: a result that nobody has checked, or why there is none.
pub(in crate::plugin) type RawResult<T> = Result<T, Failure>;

/// Longest text of a failure, in bytes.
const FAILURE_BYTES: usize = 512;

/// Longest text of a config issue, in bytes.
const ISSUE_BYTES: usize = 256;

pub(super) fn failure(failure: types::Failure) -> Failure {
    let (kind, detail) = match failure {
        types::Failure::Unsupported(detail) => (FailureKind::Unsupported, detail),
        types::Failure::Unavailable(detail) => (FailureKind::Unavailable, detail),
        types::Failure::Exhausted(detail) => (FailureKind::Exhausted, detail),
        types::Failure::Internal(detail) => (FailureKind::Internal, detail),
    };
    Failure::new(kind, escape_control(cut(&detail, FAILURE_BYTES)))
}

pub(super) fn info(info: lifecycle::PluginInfo) -> PluginInfo {
    PluginInfo {
        name: info.name,
        version: info.version,
        description: info.description,
        config_schema: info.config_schema,
        wants_clock: info.wants.iter().any(|wanted| match wanted {
            lifecycle::Capability::Clock => true,
        }),
        headers: info.headers,
        last_messages: info.view.last_messages,
        text: match info.view.text {
            lifecycle::TextWish::Nothing => TextWindow::Nothing,
            lifecycle::TextWish::Window(window) => TextWindow::Window {
                head: window.head,
                tail: window.tail,
            },
            lifecycle::TextWish::All => TextWindow::All,
        },
        metrics: info.metrics.into_iter().map(metric).collect(),
    }
}

fn metric(metric: lifecycle::Metric) -> MetricDeclaration {
    MetricDeclaration {
        name: metric.name,
        help: metric.help,
        kind: match metric.kind {
            lifecycle::MetricKind::Counter => MetricKind::Counter,
            lifecycle::MetricKind::Histogram(bounds) => MetricKind::Histogram(bounds),
        },
    }
}

pub(super) fn issue(issue: &lifecycle::ConfigIssue) -> ConfigIssue {
    ConfigIssue {
        pointer: escape_control(cut(&issue.path, ISSUE_BYTES)).into_owned(),
        message: escape_control(cut(&issue.message, ISSUE_BYTES)).into_owned(),
    }
}

pub(super) fn opinion(opinion: classify::Opinion) -> Opinion {
    Opinion {
        label: opinion.label.map(scored),
        alternatives: opinion.alternatives.into_iter().map(scored).collect(),
        complexity: opinion.complexity,
        language: opinion.language,
        modality: opinion.modality.map(|modality| match modality {
            classify::Modality::Text => Modality::Text,
            classify::Modality::Image => Modality::Image,
            classify::Modality::Audio => Modality::Audio,
            classify::Modality::Video => Modality::Video,
            classify::Modality::Embedding => Modality::Embedding,
        }),
        attributes: opinion.attributes.into_iter().map(attribute).collect(),
        reasons: opinion.reasons,
    }
}

fn scored(scored: classify::Scored) -> Scored {
    Scored {
        label: scored.label,
        confidence: scored.confidence,
    }
}

fn attribute(attribute: AttributeResult) -> Attribute {
    Attribute {
        name: attribute.name,
        value: attribute.value,
    }
}

pub(super) fn attributes(attributes: &[Attribute]) -> Vec<AttributeParam<'_>> {
    attributes
        .iter()
        .map(|Attribute { name, value }| AttributeParam { name, value })
        .collect()
}

pub(super) fn edit(edit: compress::Edit) -> edits::Edit {
    edits::Edit {
        change: match edit.change {
            compress::Change::DropMessage(message) => edits::Change::DropMessage(message),
            compress::Change::DropPart(place) => edits::Change::DropPart {
                message: place.message,
                part: place.part,
            },
            compress::Change::DropSpan(span) => edits::Change::DropSpan {
                message: span.message,
                part: span.part,
                start: span.start,
                end: span.end,
            },
            compress::Change::ReplaceSpan(compress::Replacement { span, text }) => {
                edits::Change::ReplaceSpan {
                    message: span.message,
                    part: span.part,
                    start: span.start,
                    end: span.end,
                    text,
                }
            }
        },
        kind: match edit.kind {
            compress::Kind::Term => edits::Kind::Term,
            compress::Kind::Chunk => edits::Kind::Chunk,
            compress::Kind::History => edits::Kind::History,
            compress::Kind::Repetition => edits::Kind::Repetition,
            compress::Kind::Filler => edits::Kind::Filler,
            compress::Kind::ToolOutput => edits::Kind::ToolOutput,
            compress::Kind::Other => edits::Kind::Other,
        },
        reason: match edit.reason {
            compress::Reason::Irrelevant => edits::Reason::Irrelevant,
            compress::Reason::Outranked => edits::Reason::Outranked,
            compress::Reason::OverBudget => edits::Reason::OverBudget,
            compress::Reason::Duplicate => edits::Reason::Duplicate,
            compress::Reason::Outdated => edits::Reason::Outdated,
        },
    }
}

/// The fields that a policy may leave out of the key, by their names in the contract.
const IGNORABLE: [(cache::Ignorable, &str); 7] = [
    (cache::Ignorable::MODEL, "model"),
    (cache::Ignorable::TEMPERATURE, "temperature"),
    (cache::Ignorable::TOP_P, "top-p"),
    (cache::Ignorable::SEED, "seed"),
    (cache::Ignorable::MAX_TOKENS, "max-tokens"),
    (cache::Ignorable::END_USER, "end-user"),
    (cache::Ignorable::METADATA, "metadata"),
];

pub(super) fn decision(decision: cache::Decision) -> Decision {
    Decision {
        lookup: decision.lookup,
        store: decision.store,
        ttl: std::time::Duration::from_secs(u64::from(decision.ttl_seconds)),
        scope: match decision.scope {
            cache::Scope::Global => Scope::Global,
            cache::Scope::Tenant => Scope::Tenant,
            cache::Scope::Session => Scope::Session,
        },
        ignore: IGNORABLE
            .iter()
            .filter(|(bit, _)| (decision.ignore & *bit) == *bit)
            .map(|(_, name)| *name)
            .collect(),
        key_parts: decision.key_parts,
        memo: decision.memo,
        reason: decision.reason,
    }
}

pub(super) fn answer<'a>(answer: &'a AnswerFacts, head: &'a str) -> cache::Answer<'a> {
    cache::Answer {
        model: &answer.model,
        fallback: answer.fallback,
        finish: match answer.finish {
            Finish::Stop => cache::Finish::Stop,
            Finish::Length => cache::Finish::Length,
            Finish::ToolCalls => cache::Finish::ToolCalls,
            Finish::Refusal => cache::Finish::Refusal,
            Finish::Other => cache::Finish::Other,
        },
        text_bytes: answer.text_bytes,
        head,
        prompt_tokens: answer.prompt_tokens,
        completion_tokens: answer.completion_tokens,
        duration_ms: u32::try_from(answer.duration.as_millis()).unwrap_or(u32::MAX),
        memo: &answer.memo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_keeps_what_goes_and_why() {
        let converted = edit(compress::Edit {
            change: compress::Change::DropMessage(7),
            kind: compress::Kind::History,
            reason: compress::Reason::Outdated,
        });
        assert_eq!(converted.change, edits::Change::DropMessage(7));
        assert_eq!(converted.kind, edits::Kind::History);
        assert_eq!(converted.reason, edits::Reason::Outdated);
    }
}
