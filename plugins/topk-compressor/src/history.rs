//! Which earlier turns go.
//!
//! Counted backwards from the last user message: the newest messages stay, up to a number and a
//! budget of tokens, as they are after the other cuts. What goes ends before a user message, so that
//! the rest begins with one. A group of tool call and results goes whole or stays whole.

use std::collections::{HashMap, HashSet};

use sluicegate_plugin::{Message, Part, Request, Role};

use crate::choose::Place;
use crate::config::Config;
use crate::{Planned, Source};

/// The messages that go.
pub(crate) fn find(
    config: &Config,
    request: &Request,
    texts: &[Source<'_>],
    planned: &[Planned],
    needed: &HashSet<u32>,
) -> HashSet<u32> {
    let Some(last) = request.last_user_message().map(|message| message.index) else {
        return HashSet::new();
    };
    let turns: Vec<_> = request
        .messages
        .iter()
        .filter(|message| message.index < last && !is_instruction(message))
        .collect();
    let bytes = bytes(texts, planned);
    let (mut first, mut tokens) = (turns.len(), 0_u32);
    for (number, message) in turns.iter().enumerate().rev() {
        tokens = tokens.saturating_add(tokens_left(message, &bytes));
        if turns.len() - number > config.history_messages || tokens > config.history_tokens {
            break;
        }
        first = number;
    }
    let starts_turn = |number: &usize| {
        turns
            .get(*number)
            .is_none_or(|turn| turn.role == Role::User)
    };
    let first = (first..=turns.len())
        .find(starts_turn)
        .unwrap_or(turns.len());
    let old = turns.iter().take(first);
    let mut going: HashSet<u32> = old
        .filter(|message| may_go(message, needed))
        .map(|message| message.index)
        .collect();
    keep_groups_whole(request, &mut going);
    going
}

/// Takes back the cuts in the last user message where they would leave nothing of it: something has
/// to be asked.
pub(crate) fn keep_question(request: &Request, texts: &[Source<'_>], planned: &mut Vec<Planned>) {
    let Some(last) = request.last_user_message().map(|message| message.index) else {
        return;
    };
    let bytes = bytes(texts, planned);
    let (all, cut) = bytes.get(&last).copied().unwrap_or_default();
    if cut >= all {
        planned.retain(|cut| cut.place.message() != last);
    }
}

fn is_instruction(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

/// True for what is open, holds nothing that the question needs, no media, and no tool call on its
/// own.
fn may_go(message: &Message, needed: &HashSet<u32>) -> bool {
    let is_plain = message.parts.iter().all(|part| match part {
        Part::Text(_) => true,
        Part::ToolCall(_) | Part::ToolResult(_) => message.group.is_some(),
        Part::Image(_) | Part::Audio(_) | Part::Video(_) | Part::File(_) | Part::Other(_) => false,
    });
    is_plain && !message.locked && !needed.contains(&message.index)
}

/// Takes a message back whose group does not go with it: one member stays, or was not shown, or is
/// a call that waits for its result.
fn keep_groups_whole(request: &Request, going: &mut HashSet<u32>) {
    let mut torn = HashSet::new();
    let (mut calls, mut results) = (HashSet::new(), HashSet::new());
    for message in &request.messages {
        let Some(group) = message.group else { continue };
        if !going.contains(&message.index) {
            torn.insert(group);
        }
        for part in &message.parts {
            match part {
                Part::ToolCall(call) => {
                    calls.insert((group, call.id.as_str()));
                }
                Part::ToolResult(result) => {
                    results.insert((group, result.id.as_str()));
                }
                Part::Text(_)
                | Part::Image(_)
                | Part::Audio(_)
                | Part::Video(_)
                | Part::File(_)
                | Part::Other(_) => {}
            }
        }
    }
    torn.extend(
        calls
            .symmetric_difference(&results)
            .map(|(group, _)| *group),
    );
    for message in &request.messages {
        if message.group.is_some_and(|group| torn.contains(&group)) {
            going.remove(&message.index);
        }
    }
}

/// Each message's bytes of text, and how many of them other cuts take.
type Bytes = HashMap<u32, (usize, usize)>;

fn bytes(texts: &[Source<'_>], planned: &[Planned]) -> Bytes {
    let mut bytes = Bytes::new();
    let mut sizes = HashMap::new();
    for source in texts {
        bytes.entry(source.message.index).or_default().0 += source.text.len();
        sizes.insert((source.message.index, source.part), source.text.len());
    }
    for planned in planned {
        let cut = match &planned.place {
            Place::Message(_) => 0,
            Place::Part { message, part } => sizes.get(&(*message, *part)).copied().unwrap_or(0),
            Place::Span { range, .. } => range.len(),
        };
        bytes.entry(planned.place.message()).or_default().1 += cut;
    }
    bytes
}

/// The message's tokens, less the share of its bytes that other cuts take.
fn tokens_left(message: &Message, bytes: &Bytes) -> u32 {
    let (all, cut) = bytes.get(&message.index).copied().unwrap_or_default();
    let number = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let (all, left) = (number(all).max(1), number(all.saturating_sub(cut)));
    if cut == 0 {
        return message.tokens;
    }
    u32::try_from(u64::from(message.tokens).saturating_mul(left) / all).unwrap_or(u32::MAX)
}
