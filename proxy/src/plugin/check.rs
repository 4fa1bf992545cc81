//! What a plugin returns is hostile until it has passed here: every bound of the contract, and none
//! that it does not state. One broken rule refuses the whole result.

use std::time::Duration;

use super::failure::Failure;
use super::text::escape_control;
use super::types::{Attribute, Decision, Opinion, Scored};
use crate::api::prompt::{Part, Prompt, Role};
use crate::api::text::cut;
use crate::config::Slot;
use sluicegate_edits::{Edit, MessageShape, PartShape, Plan, Rules, Shape};

const LABEL_BYTES: usize = 64;
const ALTERNATIVES: usize = 8;
const LANGUAGE_BYTES: std::ops::RangeInclusive<usize> = 2..=35;
const SUBTAG_BYTES: std::ops::RangeInclusive<usize> = 1..=8;
const ATTRIBUTES: usize = 16;
const ATTRIBUTE_NAME_BYTES: usize = 64;
const ATTRIBUTE_VALUE_BYTES: usize = 256;
const REASONS: usize = 16;
const REASON_BYTES: usize = 256;
const KEY_PARTS: usize = 8;
const KEY_PART_BYTES: usize = 256;
const MEMO_BYTES: usize = 1024;
const LONGEST_TTL: Duration = Duration::from_secs(31_536_000);

/// A claim about an output, or the rule that it breaks.
fn ensure(holds: bool, rule: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::invalid(rule()))
    }
}

/// Checks an opinion. Reasons that nobody asked for are dropped unread.
///
/// # Errors
/// The first rule that it breaks, as `invalid_output`.
pub(super) fn opinion(mut opinion: Opinion, explain: bool) -> Result<Opinion, Failure> {
    if let Some(label) = &opinion.label {
        scored(label)?;
    }
    let alternatives = opinion.alternatives.len();
    ensure(alternatives <= ALTERNATIVES, || {
        format!("{alternatives} alternatives, at most {ALTERNATIVES} allowed")
    })?;
    opinion.alternatives.iter().try_for_each(scored)?;
    if let Some(complexity) = opinion.complexity {
        fraction("complexity", complexity)?;
    }
    if let Some(language) = &opinion.language {
        ensure(is_language_tag(language), || {
            format!(
                "language {} is no BCP 47 tag of 2 to 35 bytes",
                shown(language)
            )
        })?;
    }
    attributes(&opinion.attributes)?;
    if explain {
        let reasons = opinion.reasons.len();
        ensure(reasons <= REASONS, || {
            format!("{reasons} reasons, at most {REASONS} allowed")
        })?;
        for reason in &opinion.reasons {
            at_most("a reason", reason, REASON_BYTES)?;
        }
    } else {
        opinion.reasons = Vec::new();
    }
    Ok(opinion)
}

fn scored(scored: &Scored) -> Result<(), Failure> {
    let label = &scored.label;
    let is_label = (1..=LABEL_BYTES).contains(&label.len())
        && label.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
        });
    ensure(is_label, || {
        format!(
            "label {} is not 1 to {LABEL_BYTES} bytes of `a-z 0-9 - _`",
            shown(label)
        )
    })?;
    fraction("confidence", scored.confidence)
}

/// NaN is in no range.
fn fraction(what: &str, value: f32) -> Result<(), Failure> {
    ensure((0.0..=1.0).contains(&value), || {
        format!("{what} {value} is not within 0 to 1")
    })
}

/// The shape of RFC 5646 §2.1, without its registry: letters first, then subtags of letters and
/// digits. Unknown tags pass.
fn is_language_tag(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let primary = subtags.next().unwrap_or_default();
    let is_primary = SUBTAG_BYTES.contains(&primary.len())
        && primary.bytes().all(|byte| byte.is_ascii_alphabetic());
    LANGUAGE_BYTES.contains(&tag.len())
        && is_primary
        && subtags.all(|subtag| {
            SUBTAG_BYTES.contains(&subtag.len())
                && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

fn attributes(attributes: &[Attribute]) -> Result<(), Failure> {
    let count = attributes.len();
    ensure(count <= ATTRIBUTES, || {
        format!("{count} attributes, at most {ATTRIBUTES} allowed")
    })?;
    for (place, Attribute { name, value }) in attributes.iter().enumerate() {
        let is_name = (1..=ATTRIBUTE_NAME_BYTES).contains(&name.len())
            && name.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)
            });
        ensure(is_name, || {
            format!(
                "attribute name {} is not 1 to {ATTRIBUTE_NAME_BYTES} bytes of `a-z 0-9 - .`",
                shown(name)
            )
        })?;
        at_most("an attribute's value", value, ATTRIBUTE_VALUE_BYTES)?;
        let is_first = attributes
            .iter()
            .take(place)
            .all(|earlier| earlier.name != *name);
        ensure(is_first, || format!("attribute `{name}` twice"))?;
    }
    Ok(())
}

fn at_most(what: &str, text: &str, bytes: usize) -> Result<(), Failure> {
    let len = text.len();
    ensure(len <= bytes, || {
        format!("{what} of {len} bytes, at most {bytes} allowed")
    })
}

/// A stranger's text for a message: cut and escaped.
fn shown(text: &str) -> String {
    format!("`{}`", escape_control(cut(text, LABEL_BYTES)))
}

/// Checks a cache policy against the contract and the slot's grants.
///
/// # Errors
/// The first rule that it breaks, as `invalid_output`.
pub(super) fn decision(decision: Decision, slot: &Slot) -> Result<Decision, Failure> {
    if decision.store {
        let ttl = decision.ttl;
        ensure(!ttl.is_zero() && ttl <= LONGEST_TTL, || {
            format!(
                "ttl-seconds {} is not within 1 to {}",
                ttl.as_secs(),
                LONGEST_TTL.as_secs()
            )
        })?;
    }
    for field in &decision.ignore {
        ensure(
            slot.may_ignore.iter().any(|granted| granted == field),
            || format!("ignores `{field}`, which the slot's may_ignore does not grant"),
        )?;
    }
    let parts = decision.key_parts.len();
    ensure(parts <= KEY_PARTS, || {
        format!("{parts} key parts, at most {KEY_PARTS} allowed")
    })?;
    for part in &decision.key_parts {
        at_most("a key part", part, KEY_PART_BYTES)?;
    }
    at_most("the memo", &decision.memo, MEMO_BYTES)?;
    if let Some(reason) = &decision.reason {
        at_most("the reason", reason, REASON_BYTES)?;
    }
    Ok(decision)
}

/// Checks a list of edits as a whole.
///
/// # Errors
/// The first edit at fault and its rule, as `invalid_output`.
pub(super) fn edits(prompt: &Prompt, slot: &Slot, edits: &[Edit]) -> Result<Plan, Failure> {
    let rules = Rules {
        max_edits: slot.max_edits,
        max_replacement_bytes: slot.max_output_bytes,
        tool_results: slot.edit_tool_results,
    };
    let plan = sluicegate_edits::check(&shape(prompt, slot), edits, &rules)
        .map_err(|refusal| Failure::invalid(refusal.to_string()))?;
    ensure(prompt.is_conversation() || !plan.drops_anything(), || {
        "a prompt or an input would go, and each has an answer".to_owned()
    })?;
    Ok(plan)
}

/// Whether no edit may touch a message.
pub(super) fn is_locked(prompt: &Prompt, slot: &Slot, message: usize) -> bool {
    prompt.last_user == Some(message) && !slot.edit_last_user
}

fn shape<'a>(prompt: &'a Prompt, slot: &Slot) -> Shape<'a> {
    let part = |part: &'a Part| match part {
        Part::Text(text) => PartShape::Text(&text.text),
        Part::ToolResult(result) => PartShape::ToolResult(&result.content.text),
        Part::Image(_)
        | Part::Audio(_)
        | Part::Video(_)
        | Part::File(_)
        | Part::ToolCall(_)
        | Part::Other(_) => PartShape::Fixed,
    };
    let messages = prompt
        .messages
        .iter()
        .enumerate()
        .map(|(place, message)| MessageShape {
            locked: is_locked(prompt, slot, place),
            group: message.group,
            user: message.role == Role::User,
            parts: message.parts.iter().map(part).collect(),
        });
    Shape {
        messages: messages.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(label: &str, confidence: f32) -> Opinion {
        let label = Some(Scored {
            label: label.to_owned(),
            confidence,
        });
        Opinion {
            label,
            ..Opinion::default()
        }
    }

    fn refusal(broken: Opinion) -> String {
        opinion(broken, true).unwrap_err().detail
    }

    #[test]
    fn labels_and_confidences_keep_their_bounds() {
        assert!(opinion(labelled(&"a".repeat(64), 1.0), false).is_ok());
        assert!(opinion(labelled("code-review_2", 0.0), false).is_ok());
        for label in ["", "Code", "a b", "é", &"a".repeat(65)] {
            assert!(refusal(labelled(label, 0.5)).contains("label"), "{label}");
        }
        for confidence in [f32::NAN, -0.1, 1.1, f32::INFINITY] {
            assert!(refusal(labelled("code", confidence)).contains("confidence"));
        }
    }

    #[test]
    fn malformed_language_tags_are_refused_and_unknown_ones_pass() {
        for tag in ["fr", "pt-BR", "zh-Hant-TW", "qqq-x-a1"] {
            assert!(is_language_tag(tag), "{tag}");
        }
        for tag in [
            "",
            "f",
            "12",
            "fr-",
            "-fr",
            "pt_BR",
            "fr--ca",
            "abcdefghi",
            "dé",
        ] {
            assert!(!is_language_tag(tag), "{tag}");
        }
        assert!(!is_language_tag(&["abcdefgh"; 4].join("-").repeat(2)));
    }

    #[test]
    fn attributes_are_few_small_and_unique() {
        let attribute = |name: &str, value: &str| Attribute {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let with = |attributes| Opinion {
            attributes,
            ..Opinion::default()
        };
        assert!(opinion(with(vec![attribute("topic.sub-1", "Éclair")]), false).is_ok());
        let twice = vec![attribute("topic", "a"), attribute("topic", "b")];
        assert!(refusal(with(twice)).contains("twice"));
        assert!(refusal(with(vec![attribute("a_b", "")])).contains("attribute name"));
        assert!(refusal(with(vec![attribute("a", &"x".repeat(257))])).contains("257 bytes"));
        let many = (0..17).map(|n| attribute(&format!("a{n}"), "")).collect();
        assert!(refusal(with(many)).contains("17 attributes"));
    }

    #[test]
    fn reasons_are_read_only_when_asked_for() {
        let reasons = vec!["x".repeat(257)];
        let chatty = Opinion {
            reasons,
            ..Opinion::default()
        };
        assert!(opinion(chatty.clone(), false).unwrap().reasons.is_empty());
        assert!(refusal(chatty).contains("a reason of 257 bytes"));
    }

    #[test]
    fn complexity_is_a_fraction() {
        let complex = Opinion {
            complexity: Some(f32::NAN),
            ..Opinion::default()
        };
        assert!(refusal(complex).contains("complexity"));
    }
}
