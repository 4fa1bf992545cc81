//! Labels a request by what its last user message asks for.
//!
//! Evidence is added up per label: weighted keywords and phrases ([`matcher`]) count by where they
//! stand ([`zones`]), facts about the request ([`signals`]) count by the label's table. The best sum
//! wins ([`score`]); a tie goes to the label that stands first in the table; below the threshold the
//! fallback speaks, or nobody. The work is bounded: texts come as windows, messages as the last few.
//! Start at [`KeywordClassifier::weigh`].

mod complexity;
mod config;
mod matcher;
mod score;
mod signals;
#[cfg(test)]
mod tests;
mod zones;

pub use config::{AnswerKind, Config, LabelRule};
use matcher::Matcher;
pub use score::Standing;
pub use signals::Signal;
use signals::Signals;
use sluicegate_plugin::{
    Classifier, ConfigIssue, Endpoint, Failure, Host, Modality, Opinion, Request, Role, TextWish,
    Window, counter,
};
use zones::{Zones, normalized};

/// Place of the metric in `plugin_info`.
const FALLBACKS: u32 = 0;
/// What a keyword of the operator's instructions counts, against 1 in the question.
const SYSTEM_SHARE: f32 = 0.6;
/// What a keyword of the user's message before the last one counts.
const EARLIER_SHARE: f32 = 0.1;

/// The classifier of one slot.
pub struct KeywordClassifier {
    rules: Vec<LabelRule>,
    matcher: Matcher,
    threshold: f32,
    fallback: Option<String>,
}

impl Classifier for KeywordClassifier {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Vec<ConfigIssue>> {
        let rules = config.rules()?;
        let matcher = Matcher::new(&rules)?;
        Ok(Self {
            rules,
            matcher,
            threshold: config.threshold,
            fallback: Some(config.fallback).filter(|label| !label.is_empty()),
        })
    }

    fn classify(&self, request: &Request, host: &dyn Host) -> Result<Opinion, Failure> {
        let standing = self.weigh(request);
        let label = standing.winner(self.threshold);
        if label.is_none() {
            host.count(FALLBACKS, 1);
        }
        let rule = label.and_then(|label| self.rules.iter().find(|rule| rule.name == label));
        let modality = match request.endpoint {
            Endpoint::Embeddings => Modality::Embedding,
            _ => rule.map_or(Modality::Text, |rule| rule.answer.into()),
        };
        Ok(Opinion {
            complexity: Some(complexity::of(request)),
            modality: Some(modality),
            ..standing.into_opinion(self.threshold, self.fallback.as_deref())
        })
    }
}

impl KeywordClassifier {
    /// Adds up all evidence.
    #[must_use]
    pub fn weigh(&self, request: &Request) -> Standing {
        let question = normalized(&request.last_user_text());
        let zones = Zones::of(&question);
        let mut standing = Standing::new(&self.rules, request.explain);
        let mut found = self.matcher.nothing();
        self.matcher
            .search(&question, &mut found, |at| zones.share(at));
        for (text, share) in context(request) {
            self.matcher
                .search(&normalized(&text), &mut found, |_| share);
        }
        for (pattern, share) in found.hits() {
            let pattern = self.matcher.pattern(pattern);
            standing.add(pattern.rule, pattern.weight * share, || {
                format!("keyword \"{}\"", pattern.text)
            });
        }
        let signals = Signals::of(request, &question, &zones);
        for (rule, label) in self.rules.iter().enumerate() {
            for (signal, weight) in &label.signals {
                let value = signals.value(*signal);
                if value > 0.0 {
                    standing.add(rule, weight * value, || format!("signal `{signal}`"));
                }
            }
        }
        standing
    }
}

/// The texts besides the question, each with what its keywords count: the operator's instructions,
/// and the user's message before the last one.
fn context(request: &Request) -> Vec<(String, f32)> {
    let mut context = Vec::new();
    for message in &request.messages {
        if matches!(message.role, Role::System | Role::Developer) {
            context.push((message.text(), SYSTEM_SHARE));
        }
    }
    let last = request.last_user_message().map(|message| message.index);
    let mut earlier = request
        .messages
        .iter()
        .rev()
        .filter(|message| message.role == Role::User);
    if let Some(message) = earlier.find(|message| Some(message.index) != last) {
        context.push((message.text(), EARLIER_SHARE));
    }
    context
}

sluicegate_plugin::classifier!(
    KeywordClassifier,
    config_schema: include_str!("config.schema.json"),
    last_messages: 6,
    text: TextWish::Window(Window { head: 1_024,
        tail: 512 }),
    metrics: [counter("fallbacks", "Requests that no label of the table claimed")],
);
