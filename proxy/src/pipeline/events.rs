//! The events of a live streamed answer, framed and judged as they come.

use bytes::BytesMut;

use crate::admission::Held;
use crate::api::request::Request;
use crate::api::sse::{self, Event, Framer};
use crate::api::stream::{self, Progress, Seen};
use crate::config::BackendName;
use crate::upstream::{Exchange, UpstreamError};

/// Largest single event; OpenAI-style servers send a few KiB, an audio delta some hundred.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Most that is kept back before the first content: a role, and comments that keep a connection alive.
const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// What an event of a stream that has begun may take while there is no room for more.
const SPARED_BYTES: usize = 1024 * 1024;

/// The beginning of the text that is kept, for policies that look at it.
const HEAD_BYTES: usize = 4 * 1024;

/// A streamed answer that is still coming in.
pub(crate) struct Events {
    exchange: Exchange,
    framer: Framer,
    pub(crate) progress: Progress,
    pub(crate) backend: BackendName,
    ended: bool,
    /// What is buffered here, and what the caller keeps back.
    held: Held,
    kept_bytes: usize,
    /// The last event that was taken was an error.
    pub(crate) saw_error: bool,
}

/// Why no further event comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventsError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("an event is larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
    #[error("there is no room to hold more of it back")]
    Full,
    #[error("the stream ended in the middle of an event")]
    Cut,
}

impl Events {
    /// Reads on from an exchange whose head was read.
    pub(super) fn new(exchange: Exchange, request: &Request, held: Held) -> Self {
        Self {
            backend: exchange.backend().name().clone(),
            exchange,
            framer: Framer::new(MAX_EVENT_BYTES),
            progress: Progress::new(request.prompt.endpoint, request.expected_choices())
                .keep_head(HEAD_BYTES),
            ended: false,
            held,
            kept_bytes: 0,
            saw_error: false,
        }
    }

    /// The next event and what it carries; none after a clean end of the body.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`EventsError`]; nothing more comes after one.
    pub(super) async fn next(&mut self) -> Result<Option<(Event, Seen)>, EventsError> {
        self.read(false).await
    }

    /// As [`Self::next`], under the first token's deadline however many events come before it.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) async fn next_before_content(
        &mut self,
    ) -> Result<Option<(Event, Seen)>, EventsError> {
        self.read(true).await
    }

    /// Counts more bytes of events that the caller keeps back.
    ///
    /// # Errors
    /// [`EventsError::Full`].
    pub(super) fn keep(&mut self, bytes: usize) -> Result<(), EventsError> {
        self.kept_bytes += bytes;
        match self.kept_bytes > MAX_KEPT_BYTES {
            true => Err(EventsError::TooLarge),
            false => self.hold(true),
        }
    }

    /// The caller has passed on what it kept.
    pub(super) fn passed_on(&mut self) {
        if self.kept_bytes > 0 {
            self.kept_bytes = 0;
            // Less than before is always granted.
            let _ = self.hold(false);
        }
    }

    /// Asks for room for what has to wait here. A stream that has begun gets on with what it always
    /// may have: others' uploads are no reason to break it off.
    fn hold(&mut self, first: bool) -> Result<(), EventsError> {
        let bytes = self.framer.buffered_bytes() + self.kept_bytes;
        match self.held.set(bytes) {
            Err(_) if first || bytes > SPARED_BYTES => Err(EventsError::Full),
            _ => Ok(()),
        }
    }

    async fn read(&mut self, first: bool) -> Result<Option<(Event, Seen)>, EventsError> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(Some(event));
            }
            if self.ended {
                return self.unterminated();
            }
            self.hold(first)?;
            let chunk = match first {
                true => {
                    let until = self.exchange.first_token_until();
                    self.exchange.chunk_until(until).await
                }
                false => self.exchange.chunk().await,
            };
            match chunk? {
                Some(chunk) => {
                    self.framer.push(chunk);
                }
                None => self.ended = true,
            }
        }
    }

    /// Reads what stands behind the end of the answer, and looks at none of it.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) async fn end(&mut self) -> Result<(), EventsError> {
        while self.exchange.chunk().await?.is_some() {}
        Ok(())
    }

    /// What stands behind the last blank line at a clean end: an event whose end lacks. A whole one
    /// gets it, so that what the proxy may add stands apart from it; half of one is for nobody (and
    /// a comment or half a field name says nothing).
    fn unterminated(&mut self) -> Result<Option<(Event, Seen)>, EventsError> {
        let Some(rest) = self.framer.finish() else {
            return Ok(None);
        };
        let lacks: &[u8] = match rest.last() {
            Some(b'\n' | b'\r') => b"\n",
            _ => b"\n\n",
        };
        let raw = BytesMut::from_iter(rest.iter().chain(lacks));
        let event = sse::read(raw.freeze(), false);
        match &event.data {
            None => return Ok(None),
            Some(data) if !stream::is_whole(data) => return Err(EventsError::Cut),
            Some(_) => {}
        }
        let seen = self.progress.see(&event);
        Ok(Some((event, seen)))
    }

    /// The next event that has already arrived.
    ///
    /// # Errors
    /// [`EventsError::TooLarge`].
    pub(super) fn buffered(&mut self) -> Result<Option<(Event, Seen)>, EventsError> {
        match self.framer.next() {
            Err(_) => Err(EventsError::TooLarge),
            Ok(None) => Ok(None),
            Ok(Some(event)) => {
                let seen = self.progress.see(&event);
                Ok(Some((event, seen)))
            }
        }
    }
}
