//! What makes requests easy to read and results easy to write.

use crate::bindings::base::sluicegate::plugin::types::{Message, Part, Request, Text};
use crate::{Decision, Ignorable, Opinion, Scope, Scored};

impl Request {
    /// The last message with the role `user`, when the view holds one.
    #[must_use]
    pub fn last_user_message(&self) -> Option<&Message> {
        let at = usize::try_from(self.last_user?).ok()?;
        self.messages.get(at)
    }

    /// The shown text of the last user message: its text parts joined by line breaks; empty when
    /// there is none.
    #[must_use]
    pub fn last_user_text(&self) -> String {
        self.last_user_message()
            .map(Message::text)
            .unwrap_or_default()
    }

    /// A granted header that the client sent; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name == name)?;
        Some(&header.value)
    }
}

impl Message {
    /// The shown text of its text parts, joined by line breaks.
    #[must_use]
    pub fn text(&self) -> String {
        let mut joined = String::new();
        for (_, text) in self.texts() {
            if !joined.is_empty() {
                joined.push('\n');
            }
            joined.push_str(&text.head);
            if let Some(tail) = &text.tail {
                joined.push('\n');
                joined.push_str(tail);
            }
        }
        joined
    }

    /// Its text parts with their places; tool results are not among them.
    pub fn texts(&self) -> impl Iterator<Item = (u32, &Text)> {
        (0_u32..)
            .zip(&self.parts)
            .filter_map(|(at, part)| match part {
                Part::Text(text) => Some((at, text)),
                Part::Image(_)
                | Part::Audio(_)
                | Part::Video(_)
                | Part::File(_)
                | Part::ToolCall(_)
                | Part::ToolResult(_)
                | Part::Other(_) => None,
            })
    }
}

impl Text {
    /// True when `head` is all of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        usize::try_from(self.size).is_ok_and(|size| self.head.len() >= size)
    }
}

impl Opinion {
    /// No label: the next plugin of the stage is asked.
    #[must_use]
    pub fn abstain() -> Self {
        Self {
            label: None,
            alternatives: Vec::new(),
            complexity: None,
            language: None,
            modality: None,
            attributes: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// One label, and no opinion on anything else. `confidence` from 0 (a guess) to 1 (certain).
    #[must_use]
    pub fn label(label: impl Into<String>, confidence: f32) -> Self {
        Self {
            label: Some(Scored {
                label: label.into(),
                confidence,
            }),
            ..Self::abstain()
        }
    }
}

impl Decision {
    /// Neither look up nor store; `reason` in at most 256 bytes.
    #[must_use]
    pub fn bypass(reason: impl Into<String>) -> Self {
        Self {
            lookup: false,
            store: false,
            ttl_seconds: 1,
            scope: Scope::Tenant,
            ignore: Ignorable::empty(),
            key_parts: Vec::new(),
            memo: String::new(),
            reason: Some(reason.into()),
        }
    }

    /// Look up and store for so many seconds (1 to 31,536,000), shared as `scope` says; the key is
    /// the whole request.
    #[must_use]
    pub fn cache(ttl_seconds: u32, scope: Scope) -> Self {
        Self {
            lookup: true,
            store: true,
            ttl_seconds,
            scope,
            ignore: Ignorable::empty(),
            key_parts: Vec::new(),
            memo: String::new(),
            reason: None,
        }
    }
}
