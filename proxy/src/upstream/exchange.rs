//! One request to one backend, and its answer.
//!
//! [`Exchange::open`] sends a request whose body is there and awaits the head of the answer;
//! [`Exchange::start`] returns an [`Upload`] for a body that is still arriving. Then
//! [`Exchange::chunk`] gives the answer's body.
//!
//! Invariants:
//! - the attempt is in flight from [`super::Pool::pick`] until the answer's last bytes are handed
//!   on, the exchange fails, or it is dropped, whichever is first;
//! - by the time the last bytes are handed on, the connection is idle in its pool: the client can
//!   not send its next request sooner;
//! - dropping anything here before that closes the connection (HTTP/1.1) or resets the stream
//!   (HTTP/2), at once;
//! - an exchange that failed gives its error again, and never a clean end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::attempt::{Answer, Failed, Opened, Read, attempt};
use super::backend::{Backend, Fault, InFlight};
use super::balance::Picked;
use super::errors::{AttemptError, UpstreamError};
use super::request::Outgoing;
use super::upload::Upload;
use crate::config::Timeouts;

/// An answer whose head is there.
pub(crate) struct Exchange {
    backend: Arc<Backend>,
    /// None: the exchange is over.
    in_flight: Option<InFlight>,
    status: StatusCode,
    headers: HeaderMap,
    /// None: the exchange is over.
    answer: Option<Answer>,
    /// What was already there behind the bytes that were handed on last.
    ahead: Option<Read>,
    /// How it failed.
    failure: Option<UpstreamError>,
    has_begun: bool,
    first_token_until: Instant,
    between_bytes: Duration,
}

impl Exchange {
    /// Sends a request to the backend that was picked, and awaits the head of its answer. Interim
    /// answers (1xx) are skipped.
    ///
    /// When the connection had been idle and turns out dead before any byte of an answer, a request
    /// that may be sent twice ([`Outgoing::may_resend`]) is, on a fresh one.
    ///
    /// # Errors
    /// [`AttemptError`]; its [`AttemptError::retry`] says what may follow.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection and ends the in-flight count.
    pub(crate) async fn open(
        picked: Picked,
        out: &Outgoing,
        timeouts: &Timeouts,
    ) -> Result<Self, AttemptError> {
        let Picked { backend, in_flight } = picked;
        let started = Instant::now();
        // Boxed: it is large, and a request must not carry its size through every stage.
        let mut opened = Box::pin(attempt(&backend, out, timeouts, false)).await;
        if let Err(failed) = &opened
            && failed.was_idle
            && out.may_resend
        {
            opened = Box::pin(attempt(&backend, out, timeouts, true)).await;
        }
        Self::begin(backend, in_flight, started, opened, timeouts)
    }

    /// Opens a connection for a request whose body comes in parts: of `length` bytes, or of
    /// unknown length. `out.body` is not looked at.
    ///
    /// # Errors
    /// As [`Self::open`].
    ///
    /// # Cancel safety
    /// As [`Self::open`].
    pub(crate) async fn start(
        picked: Picked,
        out: Outgoing,
        length: Option<u64>,
        timeouts: &Timeouts,
    ) -> Result<Upload, AttemptError> {
        Upload::start(picked, out, length, timeouts).await
    }

    /// Takes stock of how an attempt came out.
    pub(super) fn begin(
        backend: Arc<Backend>,
        in_flight: InFlight,
        started: Instant,
        opened: Result<Opened, Failed>,
        timeouts: &Timeouts,
    ) -> Result<Self, AttemptError> {
        let Opened {
            mut answer,
            first_token_until,
        } = match opened {
            Ok(opened) => opened,
            Err(failed) => {
                backend.record_failed_attempt(&failed.error);
                return Err(failed.error);
            }
        };
        let (status, headers) = answer.head();
        backend.count_attempt(class(status));
        backend.state.record_head();
        backend.state.record_latency(started.elapsed());
        let mut exchange = Self {
            backend,
            in_flight: Some(in_flight),
            status,
            headers,
            answer: Some(answer),
            ahead: None,
            failure: None,
            has_begun: false,
            first_token_until,
            between_bytes: timeouts.between_bytes,
        };
        // An answer without a body is over here.
        exchange.look_ahead();
        Ok(exchange)
    }

    /// Status of the answer; never 1xx.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Headers of the answer, without those that concern only the connection it came on.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Who answers.
    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// When the first content must be there: `first_token` after the request was sent.
    pub(crate) fn first_token_until(&self) -> Instant {
        self.first_token_until
    }

    /// The next bytes of the body, never empty; none at its end. Waits until
    /// [`Self::first_token_until`] for the first bytes, then `between_bytes` at most.
    ///
    /// # Errors
    /// [`UpstreamError`]: the body has not ended, and never will.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let until = if self.has_begun {
            Instant::now() + self.between_bytes
        } else {
            self.first_token_until
        };
        self.chunk_until(until).await
    }

    /// As [`Self::chunk`], with a limit of the caller's: for a stream whose first bytes are not yet
    /// its first content.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    ///
    /// # Cancel safety
    /// As [`Self::chunk`].
    pub(crate) async fn chunk_until(
        &mut self,
        until: Instant,
    ) -> Result<Option<Bytes>, UpstreamError> {
        let read = match (self.ahead.take(), &mut self.answer) {
            (Some(read), _) => read,
            (None, Some(answer)) => timeout_at(until, answer.read())
                .await
                .unwrap_or(Err(UpstreamError::Timeout)),
            (None, None) => return self.failure.clone().map_or(Ok(None), Err),
        };
        match read {
            Ok(Some(bytes)) => {
                self.has_begun = true;
                self.look_ahead();
                Ok(Some(bytes))
            }
            Ok(None) => {
                self.finish();
                Ok(None)
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    /// Reads what is already there. When that is the end, the exchange is over before the bytes in
    /// front of it are handed on.
    fn look_ahead(&mut self) {
        let Some(answer) = &mut self.answer else {
            return;
        };
        // Unconstrained: tokio's budget may be used up, and then nothing would seem to be there.
        match tokio::task::unconstrained(answer.read()).now_or_never() {
            Some(Ok(None)) => self.finish(),
            read => self.ahead = read,
        }
    }

    fn finish(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.finish();
            self.backend.state.record_success();
        }
        self.in_flight = None;
    }

    fn fail(&mut self, error: &UpstreamError) {
        self.answer = None;
        self.in_flight = None;
        self.failure = Some(error.clone());
        let now = std::time::Instant::now();
        self.backend.state.record_failure(now, Fault::Broken);
    }
}

/// The metric label `result` of an answer.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}
