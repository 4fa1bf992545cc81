//! The events of a live streamed answer, framed and judged as they come.

use std::time::Duration;

use tokio::time::timeout;

use crate::api::prompt::Prompt;
use crate::api::sse::{Event, Framer};
use crate::api::stream::{Progress, Seen};
use crate::config::BackendName;
use crate::upstream::{Exchange, UpstreamError};

/// Largest single event; OpenAI-style servers send a few KiB, an audio delta some hundred.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// A streamed answer that is still coming in.
pub(crate) struct Events {
    exchange: Exchange,
    framer: Framer,
    pub(crate) progress: Progress,
    pub(crate) backend: BackendName,
    /// Longest wait between two reads.
    between_bytes: Duration,
    ended: bool,
}

/// Why no further event comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventsError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("an event is larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
}

impl Events {
    /// Reads on from an exchange whose head was read.
    pub(super) fn new(
        exchange: Exchange,
        backend: BackendName,
        prompt: &Prompt,
        between_bytes: Duration,
    ) -> Self {
        Self {
            exchange,
            framer: Framer::new(MAX_EVENT_BYTES),
            progress: Progress::new(prompt.endpoint, prompt.parameters.choices),
            backend,
            between_bytes,
            ended: false,
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
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            match timeout(self.between_bytes, self.exchange.chunk()).await {
                Err(_) => return Err(EventsError::Silent(self.between_bytes)),
                Ok(chunk) => match chunk? {
                    Some(chunk) => self.framer.push(chunk),
                    None => self.ended = true,
                },
            }
        }
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
