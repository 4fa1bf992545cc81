//! What plugins return and say of themselves: taken as it is when it keeps the contract, or refused.
//!
//! The input is a script of one command a line. `times N` makes the text of the next line N times
//! as long.
//!
//! | Command | Meaning |
//! | --- | --- |
//! | `label CONFIDENCE TEXT`, `also CONFIDENCE TEXT` | of an opinion: the label, a runner-up |
//! | `complexity NUMBER`, `language TEXT`, `attribute NAME TEXT`, `reason TEXT`, `explain` | |
//! | `lookup`, `store`, `ttl SECONDS`, `part TEXT`, `memo TEXT`, `why TEXT` | of a decision |
//! | `ignore FIELD`, `may FIELD` | what it leaves out of the key, and what the slot allows |
//! | `name TEXT`, `version TEXT`, `about TEXT`, `header TEXT`, `window HEAD TAIL` | of a description |
//! | `counter NAME TEXT`, `histogram NAME BOUND…`, `clock` | |

use std::collections::HashSet;
use std::time::Duration;

use super::slot;
use crate::config::{Slot, TextWindow};
use crate::plugin::fuzzing::{
    Attribute, MetricDeclaration, MetricKind, PluginInfo, Scored, decision, description, opinion,
};
use crate::plugin::{Decision, Opinion, Scope};

/// Fields of the contract that a policy may name.
const FIELDS: [&str; 7] = [
    "model",
    "temperature",
    "top-p",
    "seed",
    "max-tokens",
    "end-user",
    "metadata",
];

/// The target.
pub fn plugin_output(data: &[u8]) {
    fates(data);
}

/// [`plugin_output`], for a test that wants to know whether it tests anything: whether opinion,
/// decision and description are taken.
pub(super) fn fates(data: &[u8]) -> [bool; 3] {
    let said = Said::read(&String::from_utf8_lossy(data));
    [
        said.assert_opinion(),
        said.assert_decision(),
        said.assert_description(),
    ]
}

/// What a script makes a plugin say.
struct Said {
    opinion: Opinion,
    explain: bool,
    decision: Decision,
    info: PluginInfo,
    slot: Slot,
}

impl Said {
    fn read(script: &str) -> Self {
        let mut said = Self {
            opinion: Opinion::default(),
            explain: false,
            decision: Decision {
                lookup: false,
                store: false,
                ttl: Duration::ZERO,
                scope: Scope::Tenant,
                ignore: Vec::new(),
                key_parts: Vec::new(),
                memo: String::new(),
                reason: None,
            },
            info: PluginInfo {
                name: "p".to_owned(),
                version: "1".to_owned(),
                description: String::new(),
                config_schema: String::new(),
                wants_clock: false,
                headers: Vec::new(),
                last_messages: None,
                text: TextWindow::All,
                metrics: Vec::new(),
            },
            slot: slot(),
        };
        let mut times = 1;
        for line in script.lines() {
            let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
            if command == "times" {
                times = rest.parse().unwrap_or(1).min(2_000);
                continue;
            }
            let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let long = |text: &str| text.replace("\\n", "\n").repeat(times);
            said.opinion_line(command, word, long(text), &long(rest));
            said.decision_line(command, rest, long(rest));
            said.description_line(command, word, long(text), long(rest));
            times = 1;
        }
        said
    }

    fn opinion_line(&mut self, command: &str, word: &str, text: String, rest: &str) {
        let opinion = &mut self.opinion;
        let number = word.parse().unwrap_or(f32::NAN);
        let scored = |label| Scored {
            label,
            confidence: number,
        };
        match command {
            "label" => opinion.label = Some(scored(text)),
            "also" => opinion.alternatives.push(scored(text)),
            "complexity" => opinion.complexity = Some(number),
            "language" => opinion.language = Some(rest.to_owned()),
            "attribute" => {
                opinion.attributes.push(Attribute {
                    name: word.to_owned(),
                    value: text,
                });
            }
            "reason" => opinion.reasons.push(rest.to_owned()),
            "explain" => self.explain = true,
            _ => {}
        }
    }

    fn decision_line(&mut self, command: &str, word: &str, text: String) {
        let decision = &mut self.decision;
        let field = FIELDS.into_iter().find(|field| *field == word);
        match command {
            "lookup" => decision.lookup = true,
            "store" => decision.store = true,
            "ttl" => {
                let seconds: u32 = word.parse().unwrap_or_default();
                decision.ttl = Duration::from_secs(seconds.into());
            }
            "ignore" => decision.ignore.extend(field),
            "may" => self.slot.may_ignore.extend(field.map(str::to_owned)),
            "part" => decision.key_parts.push(text),
            "memo" => decision.memo = text,
            "why" => decision.reason = Some(text),
            _ => {}
        }
    }

    fn description_line(&mut self, command: &str, word: &str, text: String, rest: String) {
        let info = &mut self.info;
        let metric = |help, kind| MetricDeclaration {
            name: word.to_owned(),
            help,
            kind,
        };
        match command {
            "name" => info.name = rest,
            "version" => info.version = rest,
            "about" => info.description = rest,
            "header" => info.headers.push(rest),
            "window" => {
                let (head, tail) = (word.parse().unwrap_or(0), text.parse().unwrap_or(0));
                info.text = TextWindow::Window { head, tail };
            }
            "counter" => info.metrics.push(metric(text, MetricKind::Counter)),
            "histogram" => {
                let bounds = text
                    .split_whitespace()
                    .map(|bound| bound.parse().unwrap_or(f64::NAN));
                info.metrics.push(metric(
                    String::new(),
                    MetricKind::Histogram(bounds.collect()),
                ));
            }
            "clock" => info.wants_clock = true,
            _ => {}
        }
    }

    fn assert_opinion(&self) -> bool {
        let said = &self.opinion;
        let scored = said.label.iter().chain(&said.alternatives);
        let names: HashSet<&str> = said.attributes.iter().map(|it| it.name.as_str()).collect();
        let keeps = scored
            .clone()
            .all(|it| is_made_of(&it.label, 64, "-_") && is_share(it.confidence))
            && said.alternatives.len() <= 8
            && said.complexity.is_none_or(is_share)
            && said.language.as_deref().is_none_or(is_tag)
            && said.attributes.len() <= 16
            && names.len() == said.attributes.len()
            && said
                .attributes
                .iter()
                .all(|it| is_made_of(&it.name, 64, "-.") && it.value.len() <= 256)
            && (!self.explain || said.reasons.len() <= 16)
            && (!self.explain || said.reasons.iter().all(|reason| reason.len() <= 256));
        match opinion(said.clone(), self.explain) {
            Ok(taken) => {
                let mut expected = said.clone();
                if !self.explain {
                    expected.reasons.clear();
                }
                assert!(keeps, "taken: {said:?}");
                assert_eq!(taken, expected);
            }
            Err(detail) => {
                assert!(!keeps, "{detail}: {said:?}");
                assert_fit_for_the_log(&detail);
            }
        }
        keeps
    }

    fn assert_decision(&self) -> bool {
        let said = &self.decision;
        let seconds = said.ttl.as_secs();
        let keeps = (!said.store || (1..=31_536_000).contains(&seconds))
            && said
                .ignore
                .iter()
                .all(|field| self.slot.may_ignore.iter().any(|may| may == field))
            && said.key_parts.len() <= 8
            && said.key_parts.iter().all(|part| part.len() <= 256)
            && said.memo.len() <= 1024
            && said
                .reason
                .as_ref()
                .is_none_or(|reason| reason.len() <= 256);
        match decision(said.clone(), &self.slot) {
            Ok(taken) => {
                assert!(keeps, "taken: {said:?}");
                assert_eq!(&taken, said);
            }
            Err(detail) => {
                assert!(!keeps, "{detail}: {said:?}");
                assert_fit_for_the_log(&detail);
            }
        }
        keeps
    }

    fn assert_description(&self) -> bool {
        let said = &self.info;
        let names: HashSet<&str> = said.metrics.iter().map(|it| it.name.as_str()).collect();
        let is_line = |text: &str, most| text.len() <= most && !text.chars().any(char::is_control);
        let is_metric = |it: &MetricDeclaration| {
            let is_kind = match &it.kind {
                MetricKind::Counter => true,
                MetricKind::Histogram(bounds) => {
                    (1..=24).contains(&bounds.len())
                        && bounds.iter().all(|bound| bound.is_finite())
                        && (1..bounds.len()).all(|at| bounds[at - 1] < bounds[at])
                }
            };
            is_made_of(&it.name, 48, "_") && is_line(&it.help, 256) && is_kind
        };
        let is_header = |name: &String| {
            let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            !name.is_empty() && name.chars().all(|c| is_token(c) && !c.is_ascii_uppercase())
        };
        let is_window = match said.text {
            TextWindow::Window { head, tail } => head.max(tail) <= 1 << 20,
            TextWindow::All | TextWindow::Nothing => true,
        };
        let keeps = is_made_of(&said.name, 64, "-")
            && (1..=64).contains(&said.version.len())
            && said.version.chars().all(|c| c.is_ascii_graphic())
            && is_line(&said.description, 512)
            && said.headers.len() <= 32
            && said.headers.iter().all(is_header)
            && is_window
            && said.metrics.len() <= 32
            && names.len() == said.metrics.len()
            && said.metrics.iter().all(is_metric)
            && (!said.wants_clock || self.slot.grant_clock);
        match description(said, &self.slot) {
            Ok(()) => assert!(keeps, "taken: {said:?}"),
            Err(detail) => {
                assert!(!keeps, "{detail}: {said:?}");
                assert_fit_for_the_log(&detail);
            }
        }
        keeps
    }
}

/// 1 to `most` bytes of small letters, digits and `more`.
fn is_made_of(text: &str, most: usize, more: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
    !text.is_empty() && text.len() <= most && text.chars().all(is_part)
}

fn is_share(number: f32) -> bool {
    number.clamp(0.0, 1.0) == number
}

/// The shape of a BCP 47 tag: a word of letters, then words of letters and digits.
fn is_tag(text: &str) -> bool {
    let mut words: Vec<&str> = text.split('-').collect();
    let first = words.remove(0);
    (2..=35).contains(&text.len())
        && std::iter::once(first).chain(words).all(|word| {
            (1..=8).contains(&word.len()) && word.chars().all(|c| c.is_ascii_alphanumeric())
        })
        && first.chars().all(|c| c.is_ascii_alphabetic())
}

/// What a refusal says is one short line, whatever the plugin wrote.
fn assert_fit_for_the_log(detail: &str) {
    assert!(
        !detail.is_empty() && detail.len() <= 1024,
        "{} bytes",
        detail.len()
    );
    assert!(!detail.chars().any(char::is_control), "{detail:?}");
}
