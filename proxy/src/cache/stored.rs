//! An answer as it is kept.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::api::{Endpoint, Usage};

/// A complete, successful answer.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) endpoint: Endpoint,
    pub(crate) body: StoredBody,
    /// The model that gave it, as the upstream calls it.
    pub(crate) model: String,
    pub(crate) created: SystemTime,
    /// The upstream's; of a replay in the other form, the form's own holds.
    pub(crate) content_type: String,
    /// As the upstream reported it, else our own count; none: nobody knows.
    pub(crate) usage: Option<Usage>,
}

/// The bytes of an answer.
#[derive(Debug, Clone)]
pub(crate) enum StoredBody {
    /// A stream, event by event, each with the blank line that ends it; the `[DONE]` may lack.
    Events(Vec<Bytes>),
    /// A plain answer.
    Plain(Bytes),
}

impl Stored {
    /// What it takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let body = match &self.body {
            StoredBody::Events(events) => events
                .iter()
                .map(|event| event.len() + size_of::<Bytes>())
                .fold(0, usize::saturating_add),
            StoredBody::Plain(body) => body.len(),
        };
        body + self.model.len() + self.content_type.len() + size_of::<Self>()
    }

    /// How long ago it was made; zero when the clock went back.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.created).unwrap_or_default()
    }
}
