//! A classifier that gives every request one label: ten bytes that stand in the component once, so
//! that a test can change them, and the config's `suffix`. Words in the last user message make it
//! fail: `do-trap`, `do-spin`, `do-hog`, `do-fail`, `do-lie`, `do-abstain`.

use std::hint::black_box;

use serde::Deserialize;
use sluicegate_plugin::{Classifier, ConfigIssue, Failure, Host, Opinion, Request, issue};

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

impl Classifier for Marked {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Vec<ConfigIssue>> {
        if config.refuse {
            return Err(vec![issue("/refuse", "told to refuse its config")]);
        }
        let mark = String::from_utf8_lossy(black_box(&MARK)).into_owned();
        Ok(Self(mark + &config.suffix))
    }

    fn classify(&self, request: &Request, _: &dyn Host) -> Result<Opinion, Failure> {
        let text = request.last_user_text();
        let asked = |word: &str| text.contains(word);
        if asked("do-trap") {
            panic!("told to trap");
        }
        while asked("do-spin") {
            black_box(&text);
        }
        if asked("do-hog") {
            let hoard: Vec<Vec<u8>> = (0..200).map(|_| vec![1; 1 << 20]).collect();
            black_box(&hoard);
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
