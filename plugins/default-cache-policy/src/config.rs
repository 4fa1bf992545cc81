//! The slot's config table.

use std::collections::BTreeMap;

use serde::Deserialize;
use sluicegate_plugin::{ConfigIssue, Ignorable, Scope, issue};

/// Longest life that the contract knows: a year.
const MAX_TTL_SECONDS: u32 = 31_536_000;
/// Most parts that a policy may add to the key.
const MAX_KEY_PARTS: usize = 8;
/// Most bytes of one such part.
pub(crate) const MAX_KEY_PART_BYTES: usize = 256;

/// What the operator may set; defaults as in `config.schema.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Life of a stored answer in seconds: 1 to 31,536,000.
    pub ttl_seconds: u32,
    /// Another life for the requests of a label; 0: they are not cached.
    pub ttl_by_label: BTreeMap<String, u32>,
    /// Who shares an answer.
    pub scope: ScopeName,
    /// Requests of a higher temperature are not cached; none: all are.
    pub max_temperature: Option<f32>,
    /// Names of tools with side effects, or their beginnings followed by `*`.
    pub side_effect_tools: Vec<String>,
    /// Fields that are not part of the key.
    pub ignore: Vec<Field>,
    /// Headers whose values are part of the key, in lower case.
    pub key_headers: Vec<String>,
    /// Texts that are part of every key.
    pub key_parts: Vec<String>,
    /// Whether answers that met `max_tokens` are stored.
    pub store_cut_answers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl_seconds: 3_600,
            ttl_by_label: BTreeMap::new(),
            scope: ScopeName::Tenant,
            max_temperature: None,
            side_effect_tools: Vec::new(),
            ignore: Vec::new(),
            key_headers: Vec::new(),
            key_parts: Vec::new(),
            store_cut_answers: false,
        }
    }
}

/// Who shares an answer, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeName {
    /// Every caller.
    Global,
    /// The callers of one tenant.
    Tenant,
    /// One session.
    Session,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Global => Self::Global,
            ScopeName::Tenant => Self::Tenant,
            ScopeName::Session => Self::Session,
        }
    }
}

/// A field that may be left out of the key, by its name in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of the request's fields")]
pub enum Field {
    Model,
    Temperature,
    TopP,
    Seed,
    MaxTokens,
    User,
    Metadata,
}

impl From<Field> for Ignorable {
    fn from(field: Field) -> Self {
        match field {
            Field::Model => Self::MODEL,
            Field::Temperature => Self::TEMPERATURE,
            Field::TopP => Self::TOP_P,
            Field::Seed => Self::SEED,
            Field::MaxTokens => Self::MAX_TOKENS,
            Field::User => Self::END_USER,
            Field::Metadata => Self::METADATA,
        }
    }
}

impl Config {
    /// What the types cannot say.
    pub(crate) fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        if !(1..=MAX_TTL_SECONDS).contains(&self.ttl_seconds) {
            issues.push(issue("/ttl_seconds", "expected 1 to 31,536,000 seconds"));
        }
        for (label, ttl_seconds) in &self.ttl_by_label {
            if *ttl_seconds > MAX_TTL_SECONDS {
                let path = format!("/ttl_by_label/{label}");
                issues.push(issue(path, "expected 0 to 31,536,000 seconds"));
            }
        }
        if self
            .max_temperature
            .is_some_and(|temperature| !(0.0..=2.0).contains(&temperature))
        {
            issues.push(issue("/max_temperature", "expected 0 to 2"));
        }
        for (at, name) in self.side_effect_tools.iter().enumerate() {
            if name.is_empty() || name.trim_end_matches('*').contains('*') {
                let path = format!("/side_effect_tools/{at}");
                issues.push(issue(
                    path,
                    "expected a name, with `*` at its end or not at all",
                ));
            }
        }
        for (at, part) in self.key_parts.iter().enumerate() {
            if part.len() > MAX_KEY_PART_BYTES {
                issues.push(issue(
                    format!("/key_parts/{at}"),
                    "expected at most 256 bytes",
                ));
            }
        }
        if self.key_parts.len() + self.key_headers.len() > MAX_KEY_PARTS {
            let message = "expected at most 8 headers and parts together";
            issues.push(issue("/key_parts", message));
        }
        issues
    }
}
