//! A classifier that gives every request one label: ten bytes that stand in the component once, so
//! that a test can change them, and the config's `suffix`. Words in the last user message make it
//! misbehave: `do-trap`, `do-spin`, `do-hog`, `do-dive`, `do-fail`, `do-lie`, `do-forge`, `do-shout`,
//! `do-flood`, `do-abstain`.

use std::hint::black_box;

use serde::Deserialize;
use sluicegate_plugin::{Classifier, ConfigIssue, Failure, Host, Level, Opinion, Request, issue};

/// Read through `black_box`: a constant could be folded into the code piece by piece.
static MARK: [u8; 10] = *b"marked-000";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    suffix: String,
    #[serde(default)]
    refuse: bool,
}

struct Marked(String);

/// Calls itself for ever; what it adds up keeps the compiler from making a loop of it.
fn dive(depth: u64) -> u64 {
    depth.wrapping_add(dive(black_box(depth + 1)))
}

impl Classifier for Marked {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Vec<ConfigIssue>> {
        if config.refuse {
            return Err(vec![issue("/refuse", format!("told to refuse {:?}", config.suffix))]);
        }
        let mark = String::from_utf8_lossy(black_box(&MARK)).into_owned();
        Ok(Self(mark + &config.suffix))
    }

    fn classify(&self, request: &Request, host: &dyn Host) -> Result<Opinion, Failure> {
        let text = request.last_user_text();
        let asked = |word: &str| text.contains(word);
        if asked("do-trap") {
            panic!("told to trap");
        }
        while asked("do-spin") {
            black_box(&text);
        }
        if asked("do-hog") {
            // Never touched: the memory is refused before the deadline comes.
            let hoard: Vec<Vec<u8>> = (0..20).map(|_| Vec::with_capacity(8 << 20)).collect();
            black_box(&hoard);
        }
        if asked("do-dive") {
            black_box(dive(1));
        }
        if asked("do-shout") {
            let mut opinion = Opinion::label("loud", 1.0);
            opinion.reasons.push("x".repeat(2 << 20));
            return Ok(opinion);
        }
        if asked("do-forge") {
            return Ok(Opinion::label("code\r\nx-forged: 1\r\n\r\nforged", 1.0));
        }
        if asked("do-flood") {
            (0..1000).for_each(|line| host.log(Level::Error, &format!("flood {line}")));
        }
        if asked("do-fail") {
            return Err(Failure::Internal("told to fail".into()));
        }
        if asked("do-lie") {
            return Ok(Opinion::label("NOT A LABEL!", 7.0));
        }
        if asked("do-abstain") {
            return Ok(Opinion::abstain());
        }
        Ok(Opinion::label(self.0.clone(), 1.0))
    }
}

sluicegate_plugin::classifier!(
    Marked,
    last_messages: 1,
    config_schema: r#"{"type": "object", "additionalProperties": false, "properties":
        {"suffix": {"type": "string"}, "refuse": {"type": "boolean"}}}"#,
);
