//! Collects an answer while it goes by.
//!
//! The bytes are copied into one buffer: slices of the upstream's chunks would keep those alive for
//! as long as the entry. An answer over the limit, or
//! for which there is no room while it passes, is let go at once. What is not complete is never
//! stored; who says so is the pipeline, which alone has seen the exchange end.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};

use super::stored::{Stored, StoredBody};
use crate::admission::Held;
use crate::api::sse::Event;
use crate::api::{Endpoint, Usage};

/// An answer on its way into the cache.
#[derive(Debug)]
pub(crate) struct Recorder {
    endpoint: Endpoint,
    max_entry_bytes: usize,
    buffer: BytesMut,
    /// Where each event ends in the buffer; none for a plain answer.
    ends: Option<Vec<usize>>,
    is_over: bool,
    held: Held,
}

/// What is known of an answer once it is whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The model that gave it, as the upstream calls it.
    pub(crate) model: String,
    pub(crate) content_type: String,
    pub(crate) usage: Option<Usage>,
    pub(crate) created: SystemTime,
}

impl Recorder {
    /// For a streamed answer of at most this many bytes.
    pub(crate) fn stream(endpoint: Endpoint, max_entry_bytes: usize, held: Held) -> Self {
        Self {
            ends: Some(Vec::new()),
            ..Self::plain(endpoint, max_entry_bytes, held)
        }
    }

    /// For a plain answer of at most this many bytes.
    pub(crate) fn plain(endpoint: Endpoint, max_entry_bytes: usize, held: Held) -> Self {
        Self {
            endpoint,
            max_entry_bytes,
            buffer: BytesMut::new(),
            ends: None,
            is_over: false,
            held,
        }
    }

    /// Takes the next event of a stream. Events without data (heartbeats) are not kept.
    pub(crate) fn event(&mut self, event: &Event) {
        if event.data.is_some() {
            self.take(&event.raw);
            if let Some(ends) = &mut self.ends {
                ends.push(self.buffer.len());
            }
        }
    }

    /// Takes the next bytes of a plain answer.
    pub(crate) fn chunk(&mut self, chunk: &[u8]) {
        self.take(chunk);
    }

    /// Whether the answer was too large, or found no room, so that nothing will be stored.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        let total = self.buffer.len() + bytes.len();
        if total > self.max_entry_bytes || self.held.set(total).is_err() {
            self.is_over = true;
            // Nothing is always granted.
            let _ = self.held.set(0);
            self.buffer = BytesMut::new();
            self.ends = self.ends.take().map(|_| Vec::new());
            return;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The answer, if it may be kept: complete, not too large, and not empty.
    pub(crate) fn finish(self, complete: bool, answer: Answer) -> Option<Stored> {
        if !complete || self.is_over || self.buffer.is_empty() {
            return None;
        }
        // Copied to its size: the buffer may have grown to twice of it.
        let bytes = Bytes::copy_from_slice(&self.buffer);
        let body = match self.ends {
            None => StoredBody::Plain(bytes),
            Some(ends) => {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let slices = starts
                    .zip(&ends)
                    .map(|(start, end)| bytes.slice(start..*end));
                StoredBody::Events(slices.collect())
            }
        };
        let Answer {
            model,
            content_type,
            usage,
            created,
        } = answer;
        Some(Stored {
            endpoint: self.endpoint,
            body,
            model,
            created,
            content_type,
            usage,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Budget;
    use crate::api::sse::Framer;

    /// May hold anything.
    fn held() -> Held {
        Budget::of(usize::MAX).holder()
    }

    fn answer() -> Answer {
        Answer {
            model: "m".into(),
            content_type: "text/event-stream".into(),
            usage: None,
            created: SystemTime::UNIX_EPOCH,
        }
    }

    fn record(max_entry_bytes: usize) -> Recorder {
        let mut recorder = Recorder::stream(Endpoint::Chat, max_entry_bytes, held());
        let mut framer = Framer::new(1024);
        framer.push(Bytes::from_static(b"data: a\n\n: ping\n\ndata: b\r\n\r\n"));
        while let Some(event) = framer.next().unwrap() {
            recorder.event(&event);
        }
        recorder
    }

    #[test]
    fn events_are_kept_as_they_came_without_heartbeats() {
        let StoredBody::Events(events) = record(1024).finish(true, answer()).unwrap().body else {
            panic!("a stream");
        };
        assert_eq!(events, ["data: a\n\n", "data: b\r\n\r\n"]);
    }

    #[test]
    fn a_plain_answer_is_kept_whole() {
        let mut recorder = Recorder::plain(Endpoint::Chat, 4, held());
        recorder.chunk(b"ab");
        recorder.chunk(b"cd");
        let stored = recorder.finish(true, answer()).unwrap();
        assert!(matches!(stored.body, StoredBody::Plain(body) if body == "abcd"));
    }

    #[test]
    fn incomplete_empty_or_too_large_is_not_stored() {
        assert!(record(1024).finish(false, answer()).is_none());
        let recorder = record(19);
        assert!(recorder.is_over());
        assert!(recorder.finish(true, answer()).is_none());
        assert!(record(20).finish(true, answer()).is_some());
        assert!(
            Recorder::plain(Endpoint::Chat, 9, held())
                .finish(true, answer())
                .is_none()
        );
    }

    #[test]
    fn what_finds_no_room_is_not_stored() {
        let mut recorder = Recorder::plain(Endpoint::Chat, usize::MAX, Budget::of(0).holder());
        recorder.chunk(&[b'a'; 8 * 1024]);
        assert!(!recorder.is_over());
        recorder.chunk(&[b'a'; 8 * 1024]);
        assert!(recorder.is_over());
        assert!(recorder.finish(true, answer()).is_none());
    }
}
