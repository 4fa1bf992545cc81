//! From a client's body and a compressor's edits to the body that goes upstream.
//!
//! The input is a body, a line `---`, and a script of one command a line:
//!
//! | Command | Meaning |
//! | --- | --- |
//! | `m MESSAGE`, `g MESSAGE`, `p MESSAGE PART` | drops a message, with its group, or a part |
//! | `s MESSAGE PART START END`, `r … TEXT` | drops or replaces these bytes |
//! | `c MESSAGE PART START END`, `x … TEXT` | the same, counted in characters |
//! | `results`, `last-user`, `most EDITS BYTES` | what the slot allows |
//! | `endpoint NAME`, `model NAME`, `cap TOKENS`, `default JSON` | the route |
//!
//! What must come out is put together by the slow readings of the JSON ([`super::json`]), of the
//! request ([`super::talk`]) and of the rules ([`sluicegate_edits::reference`]), byte by byte.

mod expected;
mod script;

use bytes::Bytes;
use sluicegate_edits::reference::{self, Left, Outcome};

use super::both;
use super::json;
use super::talk::{Kind, Talk};
use crate::api::Endpoint;
use crate::api::request;
use crate::plugin;
use script::Script;

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The body is refused.
    NoRequest,
    /// The edits are refused.
    Refused,
    /// The edits were made, and changed something.
    Made,
    /// There was nothing to do.
    Idle,
}

/// The target.
pub fn edits(data: &[u8]) {
    fate(data);
}

/// [`edits`], for a test that wants to know whether it tests anything.
pub(super) fn fate(data: &[u8]) -> Fate {
    let (body, script) = both(data);
    let script = Script::read(&script);
    let object = body.strip_prefix('\u{feff}').unwrap_or(&body);
    let tree = json::read(object);
    let parsed = request::parse(script.endpoint, Bytes::from(body.clone()));
    let (Ok(request), Some(tree)) = (parsed, tree) else {
        return Fate::NoRequest;
    };
    let talk = Talk::of(script.endpoint, &tree);
    talk.assert_is(&request.prompt);

    let edits = script.edits(&talk);
    let shape = talk.shape(script.slot.edit_last_user);
    let expected = reference::apply(&shape, &edits, &script.rules());
    let expected = expected
        .map_err(|broken| format!("{broken:?}"))
        .and_then(|outcome| {
            let has_answers = talk.list.is_none() && drops(&outcome);
            if has_answers {
                Err("what has an answer goes".to_owned())
            } else {
                Ok(outcome)
            }
        });
    let checked = plugin::fuzzing::edits(&request.prompt, &script.slot, &edits);
    let (plan, outcome) = match (checked, expected) {
        (Err(_), Err(_)) => return Fate::Refused,
        (Ok(plan), Ok(outcome)) => (plan, outcome),
        (Ok(plan), Err(why)) => panic!("{edits:?} become {plan:?}: {why}"),
        (Err(failure), Ok(outcome)) => panic!("{edits:?} must leave {outcome:?}: {failure}"),
    };
    let applied = request.apply(&plan).expect("what is taken can be made");
    let changes = expected::changes(&talk, &outcome, &edits);
    assert_eq!(
        text(&applied.body),
        body.replacen(tree.text, &tree.print(&changes), 1)
    );
    assert_stays_together(&talk, &outcome);

    let rendered = applied.render(&script.changes);
    expected::assert_rendered(&applied, &script, text(&rendered));
    assert_says(&talk, &outcome, script.endpoint, text(&rendered));
    match applied.body == request.body {
        true => Fate::Idle,
        false => Fate::Made,
    }
}

fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).expect("what leaves is UTF-8")
}

/// Whether something whole goes.
fn drops(outcome: &Outcome) -> bool {
    outcome.iter().any(|left| {
        left.as_ref()
            .is_none_or(|parts| parts.contains(&Left::Nothing))
    })
}

/// Tool calls and their results go together or not at all, and no result loses its text.
fn assert_stays_together(talk: &Talk<'_>, outcome: &Outcome) {
    for (message, left) in talk.messages.iter().zip(outcome) {
        let Some(caller) = message.group else {
            continue;
        };
        assert_eq!(
            outcome[caller].is_some(),
            left.is_some(),
            "calls and results part"
        );
        for (part, left) in message.parts.iter().zip(left.iter().flatten()) {
            assert!(
                part.kind != Kind::Result || *left != Left::Nothing,
                "a result is gone"
            );
        }
    }
}

/// What arrives, read anew, says what the edits left: who speaks, and every text.
fn assert_says(talk: &Talk<'_>, outcome: &Outcome, endpoint: Endpoint, rendered: &str) {
    let object = rendered.strip_prefix('\u{feff}').unwrap_or(rendered);
    let tree = json::read(object).expect("what goes upstream is JSON");
    assert!(
        tree.member("sluicegate").is_none(),
        "our own field goes upstream"
    );
    let arrived = Talk::of(endpoint, &tree);
    let said = |message: &super::talk::Message<'_>| {
        let texts = message.parts.iter().filter(|part| part.kind != Kind::Fixed);
        (
            message.role.clone(),
            texts.map(|part| part.text.clone()).collect::<Vec<_>>(),
        )
    };
    let arrived: Vec<_> = arrived.messages.iter().map(said).collect();

    let mut meant = Vec::new();
    let mut inserted = None;
    for (at, (message, left)) in talk.messages.iter().zip(outcome).enumerate() {
        let Some(left) = left else { continue };
        let texts = message
            .parts
            .iter()
            .zip(left)
            .filter(|(part, _)| part.kind != Kind::Fixed);
        let texts = texts.filter_map(|(part, left)| match left {
            Left::Whole => Some(part.text.clone()),
            Left::Text(new) => Some(new.clone()),
            Left::Nothing => None,
        });
        let said = (message.role.clone(), texts.collect::<Vec<_>>());
        match talk.inserted == Some(at) {
            true => inserted = Some(said),
            false => meant.push(said),
        }
    }
    if let Some(inserted) = inserted {
        // Its place is in front of the last user message, also when that is another one now.
        let at = meant
            .iter()
            .rposition(|(role, _)| role == "user")
            .unwrap_or(meant.len());
        meant.insert(at, inserted);
    }
    assert_eq!(arrived, meant, "what arrives is not what was meant");
}
