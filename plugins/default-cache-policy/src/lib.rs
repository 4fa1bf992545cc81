//! Says what may be answered from the cache, for how long and for whom.
//!
//! By default every request is, equal ones by the whole request, for an hour, within a tenant.
//! Refused are requests whose answer is not one repeatable text: several choices, sound, an answer
//! that the upstream is to keep, tools that the config calls dangerous to repeat. Answers that were
//! filtered, refused or cut are not stored. Start at [`Policy::refusal`].

mod config;

use config::MAX_KEY_PART_BYTES;
pub use config::{Config, Field, ScopeName};
use sluicegate_plugin::{
    Answer, CachePolicy, ConfigIssue, Decision, Endpoint, Failure, Finish, Host, Ignorable,
    Request, Scope, Summary, TextWish,
};

/// Tells `admit` that the answer is vectors, which have no text and no reason to end.
const VECTORS: &str = "vectors";

/// The policy of one slot.
pub struct Policy {
    config: Config,
    scope: Scope,
    ignore: Ignorable,
}

impl CachePolicy for Policy {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Vec<ConfigIssue>> {
        let issues = config.issues();
        if !issues.is_empty() {
            return Err(issues);
        }
        Ok(Self {
            scope: config.scope.into(),
            ignore: config.ignore.iter().copied().map(Ignorable::from).collect(),
            config,
        })
    }

    fn decide(
        &self,
        request: &Request,
        summary: &Summary,
        _: &dyn Host,
    ) -> Result<Decision, Failure> {
        if let Some(reason) = self.refusal(request) {
            return Ok(Decision::bypass(reason));
        }
        let label_ttl = summary
            .label
            .as_ref()
            .and_then(|label| self.config.ttl_by_label.get(label));
        let ttl_seconds = *label_ttl.unwrap_or(&self.config.ttl_seconds);
        if ttl_seconds == 0 {
            return Ok(Decision::bypass("the label's answers are not cached"));
        }
        let Some(key_parts) = self.key_parts(request) else {
            return Ok(Decision::bypass("a header is too long for the key"));
        };
        let is_vectors = request.endpoint == Endpoint::Embeddings;
        Ok(Decision {
            ignore: self.ignore,
            key_parts,
            memo: if is_vectors {
                VECTORS.to_owned()
            } else {
                String::new()
            },
            ..Decision::cache(ttl_seconds, self.scope)
        })
    }

    fn admit(&self, answer: &Answer, _: &dyn Host) -> Result<bool, Failure> {
        if answer.memo == VECTORS {
            return Ok(true);
        }
        Ok(match answer.finish {
            // An answer that says nothing is more often a fault than the truth.
            Finish::Stop => answer.text_bytes > 0,
            Finish::ToolCalls => true,
            Finish::Length => self.config.store_cut_answers,
            // A filter's verdict may change tomorrow, and what is unknown is not kept.
            Finish::Refusal | Finish::Other => false,
        })
    }
}

impl Policy {
    /// Why this request is not to be cached.
    fn refusal(&self, request: &Request) -> Option<&'static str> {
        let parameters = &request.parameters;
        if parameters.choices > 1 {
            return Some("several choices are asked for");
        }
        if parameters.audio_output {
            return Some("the answer is sound");
        }
        if parameters.stored {
            return Some("the upstream is to keep the answer");
        }
        if self.scope == Scope::Session && request.session.is_none() {
            return Some("the scope is the session, and there is none");
        }
        if let (Some(limit), temperature) = (self.config.max_temperature, parameters.temperature)
            && temperature.unwrap_or(1.0) > limit
        {
            return Some("the temperature is too high");
        }
        if request.tools.iter().any(|tool| self.has_side_effects(tool)) {
            return Some("a tool has side effects");
        }
        None
    }

    fn has_side_effects(&self, tool: &str) -> bool {
        self.config
            .side_effect_tools
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => tool.starts_with(beginning),
                None => tool == pattern,
            })
    }

    /// The configured texts, then the headers; an absent header is another key than an empty one.
    /// None when a header is too long.
    fn key_parts(&self, request: &Request) -> Option<Vec<String>> {
        let headers = self
            .config
            .key_headers
            .iter()
            .map(|name| match request.header(name) {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
        let parts: Vec<_> = self
            .config
            .key_parts
            .iter()
            .cloned()
            .chain(headers)
            .collect();
        parts
            .iter()
            .all(|part| part.len() <= MAX_KEY_PART_BYTES)
            .then_some(parts)
    }
}

sluicegate_plugin::cache_policy!(
    Policy,
    config_schema: include_str!("config.schema.json"),
    last_messages: 1,
    text: TextWish::Nothing,
);

#[cfg(test)]
mod tests;
