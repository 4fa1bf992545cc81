//! A classifier: words from the config, and a header that the operator may grant.

use serde::Deserialize;
use sluicegate_plugin::{Classifier, ConfigIssue, Failure, Host, Opinion, Request, issue};

/// The slot's table: `words = ["refund", "parcel"]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    words: Vec<String>,
}

struct Tickets(Config);

impl Classifier for Tickets {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Vec<ConfigIssue>> {
        if config.words.is_empty() {
            return Err(vec![issue("/words", "expected at least one word")]);
        }
        Ok(Self(config))
    }

    fn classify(&self, request: &Request, _: &dyn Host) -> Result<Opinion, Failure> {
        if request.header("x-app") == Some("help-desk") {
            return Ok(Opinion::label("ticket", 1.0));
        }
        let text = request.last_user_text().to_lowercase();
        Ok(match self.0.words.iter().any(|word| text.contains(word)) {
            true => Opinion::label("ticket", 0.9),
            false => Opinion::abstain(),
        })
    }
}

sluicegate_plugin::classifier!(
    Tickets,
    name: "tickets",
    description: "Finds support tickets.",
    headers: ["x-app"],
    last_messages: 1,
);

/// An example has an entry point; a plugin has none.
fn main() {}
