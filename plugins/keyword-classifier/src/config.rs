//! The slot's config table, and the default table of labels.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sluicegate_plugin::{ConfigIssue, Modality, issue};

use crate::signals::Signal;

/// The labels that are there without any config.
const DEFAULT_TABLE: &str = include_str!("labels.json");

/// What the operator may set; defaults as in `config.schema.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether `labels` add to the default table (true) or replace it.
    pub extend: bool,
    /// Rules by label. With `extend`, one of a known name changes that rule: its keywords and
    /// signals are added, a weight of 0 takes one out; the others come in front of the table, so
    /// that they win ties.
    pub labels: Vec<LabelRule>,
    /// Least sum of weights at which a label is given: above 0, at most 100.
    pub threshold: f32,
    /// Label given when no sum reaches the threshold; empty: abstain.
    pub fallback: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            extend: true,
            labels: Vec::new(),
            threshold: 1.0,
            fallback: "chat".to_owned(),
        }
    }
}

/// What speaks for one label.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRule {
    /// 1 to 64 bytes of `a-z 0-9 - _`.
    pub name: String,
    /// Words and phrases with their weights, -100 to 100. `transl*` matches any ending,
    /// `make ... video` both words in this order, at most six words apart.
    #[serde(default)]
    pub keywords: BTreeMap<String, f32>,
    /// Facts about the request with their weights, -100 to 100.
    #[serde(default)]
    pub signals: BTreeMap<Signal, f32>,
    /// What the answer is made of.
    #[serde(default)]
    pub answer: AnswerKind,
}

/// What an answer is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub enum AnswerKind {
    #[default]
    Text,
    Image,
    Audio,
    Video,
}

impl From<AnswerKind> for Modality {
    fn from(kind: AnswerKind) -> Self {
        match kind {
            AnswerKind::Text => Self::Text,
            AnswerKind::Image => Self::Image,
            AnswerKind::Audio => Self::Audio,
            AnswerKind::Video => Self::Video,
        }
    }
}

impl Config {
    /// The table to work with, in the order that breaks ties.
    ///
    /// # Errors
    /// Everything that is wrong with the config.
    pub(crate) fn rules(&self) -> Result<Vec<LabelRule>, Vec<ConfigIssue>> {
        let issues = self.issues();
        if !issues.is_empty() {
            return Err(issues);
        }
        if !self.extend {
            return Ok(self.labels.clone());
        }
        let mut table: Vec<LabelRule> = serde_json::from_str(DEFAULT_TABLE)
            .map_err(|error| vec![issue("", format!("the default table: {error}"))])?;
        let mut own = Vec::new();
        for rule in &self.labels {
            match table.iter_mut().find(|known| known.name == rule.name) {
                Some(known) => known.extend(rule),
                None => own.push(rule.clone()),
            }
        }
        own.append(&mut table);
        Ok(own)
    }

    fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if !(self.threshold > 0.0 && self.threshold <= 100.0) {
            issues.push(issue("/threshold", "expected more than 0, at most 100"));
        }
        if !self.fallback.is_empty() && !is_label(&self.fallback) {
            issues.push(issue(
                "/fallback",
                "expected a label of `a-z 0-9 - _`, or nothing",
            ));
        }
        if !self.extend && self.labels.is_empty() {
            issues.push(issue(
                "/labels",
                "expected at least one label, since `extend` is false",
            ));
        }
        let mut seen = BTreeSet::new();
        for (at, rule) in self.labels.iter().enumerate() {
            let path = format!("/labels/{at}");
            if !is_label(&rule.name) {
                let message = "expected 1 to 64 bytes of `a-z 0-9 - _`";
                issues.push(issue(format!("{path}/name"), message));
            }
            if !seen.insert(&rule.name) {
                issues.push(issue(
                    format!("{path}/name"),
                    "this label stands here twice",
                ));
            }
            for (keyword, weight) in &rule.keywords {
                if !is_weight(*weight) {
                    let path = format!("{path}/keywords/{}", escaped(keyword));
                    issues.push(issue(path, "expected a weight from -100 to 100"));
                }
            }
            for (signal, weight) in &rule.signals {
                if !is_weight(*weight) {
                    let path = format!("{path}/signals/{signal}");
                    issues.push(issue(path, "expected a weight from -100 to 100"));
                }
            }
        }
        issues
    }
}

impl LabelRule {
    fn extend(&mut self, other: &Self) {
        self.answer = match other.answer {
            AnswerKind::Text => self.answer,
            own @ (AnswerKind::Image | AnswerKind::Audio | AnswerKind::Video) => own,
        };
        self.keywords.extend(other.keywords.clone());
        self.signals.extend(other.signals.clone());
    }
}

fn is_weight(weight: f32) -> bool {
    (-100.0..=100.0).contains(&weight)
}

fn is_label(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// A key as a token of a JSON Pointer.
pub(crate) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
