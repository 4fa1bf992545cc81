//! The built-in request: what a candidate must answer before it may see a client's.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::call;
use super::error::LoadError;
use super::failure::{Failure, FailureKind};
use super::instance::LiveInstance;
use super::types::{AnswerFacts, Budget, Finish, Summary};
use super::view::{CallContext, ViewRules, select};
use crate::api::prompt::{Endpoint, Message, Origin, Parameters, Part, Prompt, Role, Text};
use crate::config::SlotKind;

/// Id of the built-in request in the log.
const REQUEST_ID: &str = "smoke-test";

/// Instances that are tried. A first call also pays for pages and tables, and on a busy machine the host
/// charges it with what it takes of the core itself: too slow once proves nothing.
const TRIES: usize = 3;

/// The first instance that answers.
///
/// # Errors
/// Those of `make`, and [`LoadError::Smoke`]: of what is not a matter of time, at once.
pub(super) fn first(
    rules: &ViewRules,
    make: impl Fn() -> Result<LiveInstance, LoadError>,
) -> Result<LiveInstance, LoadError> {
    let mut tries = 1;
    loop {
        let mut instance = make()?;
        match call(rules, &mut instance) {
            Ok(()) => return Ok(instance),
            Err(LoadError::Smoke(failure))
                if failure.kind == FailureKind::Deadline && tries < TRIES =>
            {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Calls the stage's functions under the limits of a request: what is too slow here would fail for
/// every client. A plugin that says `unsupported` has answered.
///
/// # Errors
/// [`LoadError::Smoke`].
fn call(rules: &ViewRules, instance: &mut LiveInstance) -> Result<(), LoadError> {
    let prompt = Arc::new(prompt());
    let headers = HeaderMap::new();
    let cx = CallContext {
        prompt: &prompt,
        request_id: REQUEST_ID,
        tenant: "anonymous",
        session: None,
        route_hint: None,
        draw: 0.5,
        explain: true,
        headers: &headers,
    };
    let selection = select(&prompt, rules);
    instance
        .state()
        .begin(Some(Arc::clone(&prompt)), REQUEST_ID);
    let answered = match rules.slot().kind {
        SlotKind::Classify => call::on_classify(rules, instance, &cx, &selection, &()).map(|_| ()),
        SlotKind::Compress => {
            call::on_compress(rules, instance, &cx, &selection, &Budget::default()).map(|_| ())
        }
        SlotKind::CachePolicy => {
            let summary = Summary::default();
            call::on_decide(rules, instance, &cx, &selection, &summary).and_then(|decision| {
                let answer = answer(decision.memo);
                instance.state().begin(None, REQUEST_ID);
                call::on_admit(rules.slot(), instance, &answer).map(|_| ())
            })
        }
    };
    instance.state().end();
    match answered {
        Ok(())
        | Err(Failure {
            kind: FailureKind::Unsupported,
            ..
        }) => Ok(()),
        Err(failure) => Err(LoadError::Smoke(failure)),
    }
}

fn prompt() -> Prompt {
    let messages = vec![
        message(Role::System, "You are a helpful assistant."),
        message(Role::User, "Hello! What is the capital of France?"),
    ];
    Prompt {
        endpoint: Endpoint::Chat,
        model: "auto".to_owned(),
        text_bytes: 65,
        messages,
        last_user: Some(1),
        inserted: None,
        tools: Vec::new(),
        parameters: Parameters {
            choices: 1,
            ..Parameters::default()
        },
        user: None,
        prompt_tokens: 22,
    }
}

fn message(role: Role, text: &str) -> Message {
    Message {
        role,
        parts: vec![Part::Text(Text {
            text: text.to_owned(),
            origin: Origin::Message,
            literal: None,
            source: None,
        })],
        tokens: 11,
        group: None,
        source: None,
    }
}

fn answer(memo: String) -> AnswerFacts {
    AnswerFacts {
        request_id: REQUEST_ID.to_owned(),
        model: "auto".to_owned(),
        fallback: false,
        finish: Finish::Stop,
        text_bytes: 31,
        head: "The capital of France is Paris.".to_owned(),
        prompt_tokens: 22,
        completion_tokens: 7,
        duration: Duration::from_millis(250),
        memo,
    }
}
