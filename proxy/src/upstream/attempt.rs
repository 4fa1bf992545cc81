//! One connection, one request, one answer: what HTTP/1.1 and HTTP/2 have in common.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::backend::Backend;
use super::connect::{self, Connection};
use super::errors::{AttemptError, UpstreamError};
use super::request::{Framing, Outgoing};
use super::{h1, h2, headers};
use crate::config::Timeouts;

/// How soon a connection that had been idle must turn out dead to be replaced by a fresh one. A
/// backend that closed it while it was idle says so within a round trip; one that took longer may
/// have been at work on the request.
const DEAD_WITHIN: Duration = Duration::from_secs(1);

/// Why an attempt failed, and whether a fresh connection may replace the one that it was on.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: AttemptError,
    /// The connection had been idle, and broke before a byte of an answer.
    pub(super) was_idle: bool,
}

impl From<AttemptError> for Failed {
    fn from(error: AttemptError) -> Self {
        Self {
            error,
            was_idle: false,
        }
    }
}

/// A request on its way, over either protocol.
pub(super) enum Sending {
    H1(Box<h1::Sending>),
    H2(Box<h2::Sending>),
}

/// An answer on its way, over either protocol.
pub(super) enum Answer {
    H1(Box<h1::Answer>),
    H2(Box<h2::Answer>),
}

/// What a read of the body gave.
pub(super) type Read = Result<Option<Bytes>, UpstreamError>;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is on its way.
    All,
    /// The backend has answered with a final status from 300 up: it will not read on.
    Answered,
    /// The connection no longer takes bytes; an answer may still be readable.
    Broken,
}

/// An answer whose head is there, and when its first content is due.
pub(super) struct Opened {
    pub(super) answer: Answer,
    pub(super) first_token_until: Instant,
}

/// One connection, one request, one head.
pub(super) async fn attempt(
    backend: &Backend,
    out: &Outgoing,
    timeouts: &Timeouts,
    fresh: bool,
) -> Result<Opened, Failed> {
    let framing = Framing::of(out);
    let connection = connect::connect(backend, timeouts.connect, fresh).await?;
    let mut sending = Sending::new(connection, out, framing, backend)?;
    // What a write met shows in the answer, or in its absence.
    let _ = sending
        .send(out, framing, backend, timeouts.between_bytes)
        .await?;
    sending.answer(&out.method, timeouts.first_token).await
}

impl Sending {
    /// Takes a connection for a request; over HTTP/2, that sends its head.
    pub(super) fn new(
        connection: Connection,
        out: &Outgoing,
        framing: Framing,
        backend: &Backend,
    ) -> Result<Self, Failed> {
        Ok(match connection {
            Connection::H1 {
                stream,
                reused,
                home,
            } => Self::H1(Box::new(h1::Sending::new(stream, reused, home))),
            Connection::H2 { session, reused } => Self::H2(Box::new(h2::Sending::start(
                session,
                reused,
                out,
                backend.identity(),
                framing,
            )?)),
        })
    }

    /// Sends the whole request.
    async fn send(
        &mut self,
        out: &Outgoing,
        framing: Framing,
        backend: &Backend,
        limit: Duration,
    ) -> Result<Written, Failed> {
        match self {
            Self::H1(sending) => {
                let head = h1::head(out, backend.identity(), framing)?;
                Ok(sending.send(head, &out.body, limit).await?)
            }
            Self::H2(sending) => sending.write(out.body.clone(), true, limit).await,
        }
    }

    /// Whether a fresh connection may take over: this one had been idle, and nothing came back.
    pub(super) fn may_be_replaced(&self) -> bool {
        match self {
            Self::H1(sending) => sending.is_reused() && sending.is_unanswered(),
            Self::H2(sending) => sending.is_reused() && sending.is_unanswered(),
        }
    }

    /// Awaits the head of the answer for `first_token`.
    pub(super) async fn answer(
        self,
        method: &Method,
        first_token: Duration,
    ) -> Result<Opened, Failed> {
        let sent = Instant::now();
        let first_token_until = sent + first_token;
        let answered = match self {
            Self::H1(sending) => sending
                .answer(method, first_token_until)
                .await
                .map(|answer| Answer::H1(Box::new(answer))),
            Self::H2(sending) => sending
                .answer(first_token_until)
                .await
                .map(|answer| Answer::H2(Box::new(answer))),
        };
        match answered {
            Ok(answer) => Ok(Opened {
                answer,
                first_token_until,
            }),
            Err(failed) => {
                let was_idle = failed.was_idle && sent.elapsed() < DEAD_WITHIN;
                Err(Failed { was_idle, ..failed })
            }
        }
    }
}

impl Answer {
    /// Status, and the headers that may be passed on.
    pub(super) fn head(&mut self) -> (StatusCode, HeaderMap) {
        let (status, headers) = match self {
            Self::H1(answer) => (answer.status(), answer.headers()),
            Self::H2(answer) => (answer.status(), answer.headers()),
        };
        (status, headers.map(headers::response).unwrap_or_default())
    }

    /// The next bytes of the body; none at its end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn read(&mut self) -> Read {
        match self {
            Self::H1(answer) => answer.read().await,
            Self::H2(answer) => answer.read().await,
        }
    }

    /// Gives the connection back. Only after [`Self::read`] gave none.
    pub(super) fn finish(self) {
        match self {
            Self::H1(answer) => answer.finish(),
            Self::H2(answer) => drop(answer),
        }
    }
}
