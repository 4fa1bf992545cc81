//! The body that goes to an upstream.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Name, Place, Request};
use crate::api::json;
use crate::api::prompt::Part;
use crate::api::splice::Splices;
use crate::api::text::cut;

/// Most of a client's number that the access log shows, in bytes.
const SHOWN_BYTES: usize = 24;

/// What a route changes in a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// The name that the backends know the model by; none: as the client wrote it.
    pub(crate) model: Option<String>,
    /// Fields for a silent client, as JSON text: written only where the request lacks the key.
    /// `max_tokens` counts as present when the request has `max_completion_tokens`.
    pub(crate) insert: Vec<(&'static str, String)>,
    /// Most that `max_tokens`, `max_completion_tokens` and an inserted `max_tokens` may say.
    pub(crate) max_tokens_cap: Option<u32>,
}

impl Request {
    /// The body with these changes, and with the entries of `sluicegate` as the system message that
    /// the upstream understands. When nothing changes: the same bytes, not a copy.
    pub(crate) fn render(&self, changes: &Changes) -> Bytes {
        let mut splices = Splices::default();
        if let Some(model) = &changes.model {
            for place in self.named(Name::Model) {
                if json::text(self.slice(&place.value)).as_deref() != Some(model) {
                    splices.replace(place.value.clone(), json::quote(model));
                }
            }
        }
        for lowered in self.lowered(changes) {
            splices.replace(lowered.place.value.clone(), lowered.cap.to_string());
        }
        self.insert_message(&mut splices);
        let members = self.places.members.iter();
        splices.remove(members.map(|place| (place.whole(), place.name == Name::Extension)));
        let added = self.added(changes);
        if !added.is_empty() {
            let mut text = String::new();
            for (name, value) in added {
                text.push(',');
                json::quote_into(&mut text, name);
                text.push(':');
                text.push_str(&value);
            }
            let last = self.places.members.last();
            let end = last.map_or(0, |last| last.value.end);
            splices.replace(end..end, text);
        }
        splices.apply(&self.body)
    }

    /// What defaults and caps change, for the access log: `max_tokens=4096->1024`,
    /// `temperature=0.2 (default)`. The model's name has a field of its own there.
    pub(crate) fn changed(&self, changes: &Changes) -> Vec<String> {
        let lowered = self.lowered(changes).map(|lowered| {
            let value = self.slice(&lowered.place.value);
            // A number of many digits is the client's text, and the log's line has a bound.
            let head = cut(value, SHOWN_BYTES);
            let more = if head.len() < value.len() { "…" } else { "" };
            let name = match lowered.place.name {
                Name::MaxCompletionTokens => "max_completion_tokens",
                _ => "max_tokens",
            };
            format!("{name}={head}{more}->{}", lowered.cap)
        });
        let added = self.added(changes).into_iter();
        let added = added.map(|(name, value)| format!("{name}={value} (default)"));
        lowered.chain(added).collect()
    }

    /// The members with a name.
    fn named(&self, name: Name) -> impl Iterator<Item = &Place> {
        self.places
            .members
            .iter()
            .filter(move |place| place.name == name)
    }

    /// The limits that are above the cap, duplicates included.
    fn lowered<'a>(&'a self, changes: &Changes) -> impl Iterator<Item = Lowered<'a>> {
        changes.max_tokens_cap.into_iter().flat_map(move |cap| {
            self.places
                .members
                .iter()
                .filter(|place| matches!(place.name, Name::MaxTokens | Name::MaxCompletionTokens))
                .filter(move |place| {
                    json::number(self.slice(&place.value)).is_some_and(|asked| asked > cap.into())
                })
                .map(move |place| Lowered { place, cap })
        })
    }

    /// The defaults that the request lacks.
    fn added<'a>(&self, changes: &'a Changes) -> Vec<(&'static str, Cow<'a, str>)> {
        let has = |name: &str| {
            let mut keys = self
                .places
                .members
                .iter()
                .map(|place| self.slice(&place.key));
            keys.any(|key| json::decode(key) == name)
        };
        let mut added: Vec<(&'static str, Cow<'a, str>)> = Vec::new();
        for (name, value) in &changes.insert {
            let is_present = match *name {
                "max_tokens" | "max_completion_tokens" => {
                    has("max_tokens") || has("max_completion_tokens")
                }
                name => has(name),
            };
            if is_present || added.iter().any(|(earlier, _)| earlier == name) {
                continue;
            }
            let cap = changes.max_tokens_cap.filter(|cap| {
                matches!(*name, "max_tokens" | "max_completion_tokens")
                    && json::number(value).is_some_and(|asked| asked > (*cap).into())
            });
            added.push((
                name,
                cap.map_or(Cow::Borrowed(value), |cap| cap.to_string().into()),
            ));
        }
        added
    }

    /// Puts the entries of `sluicegate` in front of the last user message, as a system message.
    fn insert_message(&self, splices: &mut Splices<'_>) {
        let prompt = &self.prompt;
        let Some((at, message)) = prompt
            .inserted
            .and_then(|at| Some((at, prompt.messages.get(at)?)))
        else {
            return;
        };
        let mut text = String::from("{\"role\":\"system\",\"content\":[");
        for (index, part) in message.parts.iter().enumerate() {
            let Part::Text(part) = part else { continue };
            text.push_str(if index == 0 { "" } else { "," });
            text.push_str("{\"type\":\"text\",\"text\":");
            match &part.literal {
                Some(literal) => text.push_str(self.slice(literal)),
                None => json::quote_into(&mut text, &part.text),
            }
            text.push('}');
        }
        text.push_str("]}");
        let source = |index: usize| prompt.messages.get(index)?.source.clone();
        let before = at.checked_sub(1).and_then(source);
        match (source(at + 1), before, &self.places.messages) {
            (Some(next), _, _) => splices.replace(next.start..next.start, text + ","),
            (None, Some(before), _) => splices.replace(before.end..before.end, format!(",{text}")),
            (None, None, Some(list)) => splices.replace(list.start + 1..list.start + 1, text),
            (None, None, None) => {}
        }
    }
}

/// A limit that a cap lowers.
struct Lowered<'a> {
    place: &'a Place,
    cap: u32,
}
