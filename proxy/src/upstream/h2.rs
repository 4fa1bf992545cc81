//! One HTTP/2 exchange: a stream of a shared connection.
//!
//! As in HTTP/1.1, an answer may come while the request is still being sent, so sending and the
//! head of the answer are awaited together.
//!
//! Invariant: a stream that is dropped before its end is reset with CANCEL (the `h2` crate does so
//! when the last handle goes), and its place in the connection is given back ([`Lease`]).

use std::pin::pin;
use std::time::Duration;

use ::h2::{Reason, SendStream};
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::http::v2::write_body;
use pingora::{Error, ErrorType};
use tokio::time::{Instant, timeout_at};

use super::address::host_header;
use super::attempt::{Failed, Written};
use super::connect::Lease;
use super::errors::{AttemptError, UpstreamError, brief};
use super::request::{Framing, Outgoing, target};
use crate::config::BackendIdentity;

/// A request on its way.
pub(super) struct Sending {
    lease: Box<Lease>,
    /// None: the request had no body.
    body: Option<SendStream<Bytes>>,
    reused: bool,
    /// The head of the answer is there.
    has_head: bool,
}

impl Sending {
    /// Sends the head.
    pub(super) fn start(
        mut lease: Box<Lease>,
        reused: bool,
        out: &Outgoing,
        identity: &BackendIdentity,
        framing: Framing,
    ) -> Result<Self, Failed> {
        let head = request_head(out, identity, framing)?;
        let has_body = framing != Framing::None && framing != Framing::Length(0);
        let session = lease.session();
        session
            .write_request_header(head, !has_body)
            .map_err(|error| failure(&error, reused))?;
        let body = has_body
            .then(|| session.take_request_body_writer())
            .flatten();
        Ok(Self {
            lease,
            body,
            reused,
            has_head: false,
        })
    }

    /// Whether the connection served a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether nothing has come back yet.
    pub(super) fn is_unanswered(&self) -> bool {
        !self.has_head
    }

    /// Sends a part of the body; `limit` is how long the backend may leave its window shut.
    ///
    /// # Cancel safety
    /// None: how much was sent is then unknown. Drop the exchange.
    pub(super) async fn write(
        &mut self,
        data: Bytes,
        end: bool,
        limit: Duration,
    ) -> Result<Written, Failed> {
        let Some(body) = &mut self.body else {
            return Ok(Written::All);
        };
        let session = self.lease.session();
        let mut writing = pin!(write_body(body, data, end, Some(limit)));
        if !self.has_head {
            tokio::select! {
                biased;
                written = &mut writing => return Ok(sent(written)?),
                head = session.read_response_header() => {
                    head.map_err(|error| failure(&error, self.reused))?;
                    self.has_head = true;
                }
            }
        }
        // Success does not stop a request: some backends begin to answer while they read.
        let status = session.response_header().map(|head| head.status);
        if status.is_some_and(|status| status.as_u16() >= 300) {
            return Ok(Written::Answered);
        }
        Ok(sent(writing.await)?)
    }

    /// Awaits the head of the answer.
    pub(super) async fn answer(mut self, until: Instant) -> Result<Answer, Failed> {
        if !self.has_head {
            timeout_at(until, self.lease.session().read_response_header())
                .await
                .map_err(|_| Failed::from(AttemptError::FirstByteTimeout))?
                .map_err(|error| failure(&error, self.reused))?;
        }
        Ok(Answer {
            lease: self.lease,
            _body: self.body,
        })
    }
}

/// An answer: its head, and its body as it comes.
pub(super) struct Answer {
    lease: Box<Lease>,
    /// Held, since giving up an unfinished body would reset a stream that is still answering.
    _body: Option<SendStream<Bytes>>,
}

impl Answer {
    /// Status of the head.
    pub(super) fn status(&mut self) -> StatusCode {
        let head = self.lease.session().response_header();
        head.map_or(StatusCode::BAD_GATEWAY, |head| head.status)
    }

    /// Headers as they came.
    pub(super) fn headers(&mut self) -> Option<&HeaderMap> {
        self.lease
            .session()
            .response_header()
            .map(|head| &head.headers)
    }

    /// The next bytes of the body; none at its end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            match self.lease.session().read_response_body().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(read) => return Ok(read),
                Err(error) => return Err(UpstreamError::Reset(brief(&error))),
            }
        }
    }
}

/// The request's head. `content-length` is sent, as some backends want it; HTTP/2 frames the body
/// by itself.
fn request_head(
    out: &Outgoing,
    identity: &BackendIdentity,
    framing: Framing,
) -> Result<Box<RequestHeader>, Failed> {
    let target = target(out, identity)?;
    let build = || -> pingora::Result<RequestHeader> {
        let mut head = RequestHeader::build_no_case(out.method.clone(), target.as_bytes(), None)?;
        for (name, value) in &out.headers {
            head.append_header(name.clone(), value.clone())?;
        }
        // Becomes `:authority`; HTTP/2 forbids neither, but not all servers like both.
        head.insert_header(header::HOST, host_header(identity))?;
        if let Framing::Length(length) = framing {
            head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(length))?;
        }
        Ok(head)
    };
    match build() {
        Ok(head) => Ok(Box::new(head)),
        Err(_) => Err(AttemptError::Request("a head that HTTP/2 cannot carry").into()),
    }
}

/// What became of a write.
fn sent(written: pingora::Result<()>) -> Result<Written, AttemptError> {
    match written {
        Ok(()) => Ok(Written::All),
        Err(error) if *error.etype() == ErrorType::WriteTimedout => {
            Err(AttemptError::FirstByteTimeout)
        }
        // The stream was reset: the head, or why there is none, comes with the answer.
        Err(_) => Ok(Written::Broken),
    }
}

/// Sorts pingora's errors of everything before the head of an answer.
fn failure(error: &Error, reused: bool) -> Failed {
    let Some(cause) = error.root_cause().downcast_ref::<::h2::Error>() else {
        return AttemptError::Protocol(brief(error)).into();
    };
    let reason = cause.reason();
    // RFC 9113 §8.7: both say that the stream was not processed. The `h2` crate gives a GOAWAY to
    // streams above its last processed one alone.
    let refused = cause.is_remote()
        && (cause.is_reset() && reason == Some(Reason::REFUSED_STREAM)
            || cause.is_go_away() && reason == Some(Reason::NO_ERROR));
    if refused {
        return AttemptError::Refused(brief(cause)).into();
    }
    if cause.is_io() || cause.is_remote() {
        // A reset stream's connection lives; only a dead connection is worth a fresh one.
        let was_idle = reused && cause.is_io();
        return Failed {
            error: AttemptError::ClosedBeforeAnswer { reused },
            was_idle,
        };
    }
    AttemptError::Protocol(brief(cause)).into()
}
