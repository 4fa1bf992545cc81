//! A request whose body is still arriving: relayed part by part.
//!
//! The head waits for the first part, so that both leave in one write. What was sent is remembered
//! up to [`REPLAY_BYTES`]: with a connection that had been idle and turns out dead, a small body that
//! may be is sent again on a fresh one, as [`Exchange::open`] does; a larger one cannot be.
//!
//! Invariant: the backend sees exactly the announced length; a body that is shorter or longer ends
//! the exchange instead of the request.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use super::attempt::{Failed, Sending, Written};
use super::balance::Picked;
use super::connect;
use super::errors::AttemptError;
use super::exchange::Exchange;
use super::h1;
use super::request::{Framing, Outgoing};
use crate::config::Timeouts;

/// Body bytes that are remembered for a fresh connection.
const REPLAY_BYTES: usize = 64 * 1024;

/// Whether more of the body is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a backend that has answered reads no more"]
pub(crate) enum Wrote {
    /// Go on.
    More,
    /// The backend has answered or gone: call [`Upload::finish`].
    Stop,
}

/// A request that is being sent.
pub(crate) struct Upload {
    picked: Picked,
    out: Outgoing,
    framing: Framing,
    timeouts: Timeouts,
    started: Instant,
    sending: Sending,
    is_head_sent: bool,
    /// Bytes that the backend still expects; of use with [`Framing::Length`] alone.
    left: u64,
    /// The body so far; none once it is too large to be sent again.
    sent: Option<Vec<Bytes>>,
    sent_bytes: usize,
    has_stopped: bool,
}

impl Upload {
    pub(super) async fn start(
        picked: Picked,
        out: Outgoing,
        length: Option<u64>,
        timeouts: &Timeouts,
    ) -> Result<Self, AttemptError> {
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        let backend = &picked.backend;
        let sending = match reach(&picked, &out, framing, timeouts.connect, false).await {
            Ok(sending) => sending,
            Err(failed) => {
                backend.record_failed_attempt(&failed.error);
                return Err(failed.error);
            }
        };
        Ok(Self {
            picked,
            out,
            framing,
            timeouts: *timeouts,
            started: Instant::now(),
            sending,
            is_head_sent: false,
            left: length.unwrap_or(u64::MAX),
            sent: Some(Vec::new()),
            sent_bytes: 0,
            has_stopped: false,
        })
    }

    /// Sends the next part of the body.
    ///
    /// # Errors
    /// [`AttemptError::Request`] when the body is longer than announced,
    /// [`AttemptError::FirstByteTimeout`] when the backend stopped reading.
    ///
    /// # Cancel safety
    /// None: drop the upload too.
    pub(crate) async fn write(&mut self, part: Bytes) -> Result<Wrote, AttemptError> {
        if self.has_stopped {
            return Ok(Wrote::Stop);
        }
        if part.is_empty() {
            return Ok(Wrote::More);
        }
        let Some(left) = self.left.checked_sub(part.len() as u64) else {
            return Err(self.failed(AttemptError::Request("a body longer than announced")));
        };
        if self.framing != Framing::Chunked {
            self.left = left;
        }
        self.remember(&part);
        let written = match self.send(part).await {
            Ok(Written::Broken) if self.can_replay() => self.replay().await,
            written => written,
        };
        match written {
            Ok(Written::All) => Ok(Wrote::More),
            Ok(Written::Answered | Written::Broken) => {
                self.has_stopped = true;
                Ok(Wrote::Stop)
            }
            Err(failed) => Err(self.failed(failed.error)),
        }
    }

    /// Ends the body and awaits the head of the answer.
    ///
    /// # Errors
    /// As [`Exchange::open`], and [`AttemptError::Request`] when the body is shorter than announced.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection and ends the in-flight count.
    pub(crate) async fn finish(mut self) -> Result<Exchange, AttemptError> {
        if !self.has_stopped {
            if self.framing != Framing::Chunked && self.left > 0 {
                return Err(self.failed(AttemptError::Request("a body shorter than announced")));
            }
            if let Err(failed) = self.end().await {
                return Err(self.failed(failed.error));
            }
        }
        let can_replay = !self.has_stopped && self.can_replay();
        let first_token = self.timeouts.first_token;
        let Self {
            picked,
            out,
            framing,
            timeouts,
            started,
            sending,
            sent,
            ..
        } = self;
        let mut opened = sending.answer(&out.method, first_token).await;
        if let Err(failed) = &opened
            && failed.was_idle
            && can_replay
        {
            let body = sent.unwrap_or_default().concat().into();
            opened = match resend(&picked, &out, framing, &timeouts, body).await {
                Ok(sending) => sending.answer(&out.method, first_token).await,
                Err(failed) => Err(failed),
            };
        }
        let Picked { backend, in_flight } = picked;
        Exchange::begin(backend, in_flight, started, opened, &timeouts)
    }

    /// Sends a part, with the head in front of the first.
    async fn send(&mut self, part: Bytes) -> Result<Written, Failed> {
        let limit = self.timeouts.between_bytes;
        let is_first = !std::mem::replace(&mut self.is_head_sent, true);
        match &mut self.sending {
            Sending::H1(sending) => {
                let head = if is_first {
                    h1::head(&self.out, self.picked.backend.identity(), self.framing)?
                } else {
                    match sending.look() {
                        Written::All => BytesMut::new(),
                        stopped => return Ok(stopped),
                    }
                };
                Ok(send_h1(sending, head, &part, self.framing, limit).await?)
            }
            Sending::H2(sending) => sending.write(part, false, limit).await,
        }
    }

    /// Sends what ends the body: the last chunk, or the head alone when there was no body.
    async fn end(&mut self) -> Result<Written, Failed> {
        let limit = self.timeouts.between_bytes;
        let is_first = !std::mem::replace(&mut self.is_head_sent, true);
        match &mut self.sending {
            Sending::H1(sending) => {
                let mut last = if is_first {
                    h1::head(&self.out, self.picked.backend.identity(), self.framing)?
                } else {
                    BytesMut::new()
                };
                if self.framing == Framing::Chunked {
                    last.extend_from_slice(b"0\r\n\r\n");
                }
                Ok(sending.write(&last, limit).await?)
            }
            Sending::H2(sending) => sending.write(Bytes::new(), true, limit).await,
        }
    }

    fn remember(&mut self, part: &Bytes) {
        self.sent_bytes = self.sent_bytes.saturating_add(part.len());
        if self.sent_bytes > REPLAY_BYTES {
            self.sent = None;
        } else if let Some(sent) = &mut self.sent {
            sent.push(part.clone());
        }
    }

    fn can_replay(&self) -> bool {
        self.out.may_resend && self.sent.is_some() && self.sending.may_be_replaced()
    }

    /// Goes on with a fresh connection.
    async fn replay(&mut self) -> Result<Written, Failed> {
        let connect = self.timeouts.connect;
        self.sending = reach(&self.picked, &self.out, self.framing, connect, true).await?;
        self.is_head_sent = false;
        let body = self.sent.as_deref().unwrap_or_default().concat().into();
        self.send(body).await
    }

    /// Counts the failure, once.
    fn failed(&self, error: AttemptError) -> AttemptError {
        self.picked.backend.record_failed_attempt(&error);
        error
    }
}

/// Connects, and sends the head where that is a step of its own.
async fn reach(
    picked: &Picked,
    out: &Outgoing,
    framing: Framing,
    limit: Duration,
    fresh: bool,
) -> Result<Sending, Failed> {
    let connection = connect::connect(&picked.backend, limit, fresh).await?;
    Sending::new(connection, out, framing, &picked.backend)
}

/// Sends the whole of a small body again, on a fresh connection.
async fn resend(
    picked: &Picked,
    out: &Outgoing,
    framing: Framing,
    timeouts: &Timeouts,
    body: Bytes,
) -> Result<Sending, Failed> {
    let mut sending = reach(picked, out, framing, timeouts.connect, true).await?;
    let limit = timeouts.between_bytes;
    match &mut sending {
        Sending::H1(sending) => {
            let mut head = h1::head(out, picked.backend.identity(), framing)?;
            if framing == Framing::Chunked {
                chunk(&mut head, &body);
                head.extend_from_slice(b"0\r\n\r\n");
                sending.write(&head, limit).await?;
            } else {
                sending.send(head, &body, limit).await?;
            }
        }
        Sending::H2(sending) => {
            sending.write(body, true, limit).await?;
        }
    }
    Ok(sending)
}

async fn send_h1(
    sending: &mut h1::Sending,
    mut head: BytesMut,
    part: &[u8],
    framing: Framing,
    limit: Duration,
) -> Result<Written, AttemptError> {
    if framing == Framing::Chunked {
        chunk(&mut head, part);
        sending.write(&head, limit).await
    } else {
        sending.send(head, part, limit).await
    }
}

/// Appends a part as one chunk (RFC 9112 §7.1); nothing for an empty part, which would end the body.
fn chunk(buffer: &mut BytesMut, part: &[u8]) {
    if !part.is_empty() {
        buffer.reserve(part.len() + 20);
        buffer.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        buffer.put_slice(part);
        buffer.extend_from_slice(b"\r\n");
    }
}
