//! A request on its way over HTTP/1.1.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::FutureExt;
use http::Method;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use super::Answer;
use super::rewound::Rewound;
use crate::upstream::attempt::{Failed, Written};
use crate::upstream::connect::Home;
use crate::upstream::errors::AttemptError;

/// Most bytes in one write; the head goes with the body's first part.
const WRITE_BYTES: usize = 64 * 1024;

/// Most bytes of an early answer that are held while the request is still being sent.
const EARLY_BYTES: usize = 64 * 1024;

/// A request on its way.
pub(in crate::upstream) struct Sending {
    stream: Stream,
    home: Home,
    reused: bool,
    /// What the backend sent meanwhile.
    early: BytesMut,
    has_answered: bool,
    is_broken: bool,
}

impl Sending {
    pub(in crate::upstream) fn new(stream: Stream, reused: bool, home: Home) -> Self {
        Self {
            stream,
            home,
            reused,
            early: BytesMut::new(),
            has_answered: false,
            is_broken: false,
        }
    }

    /// Whether the connection served a request before.
    pub(in crate::upstream) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether nothing has come back yet.
    pub(in crate::upstream) fn is_unanswered(&self) -> bool {
        self.early.is_empty()
    }

    /// Sends a head and a body: in one write, as far as they fit.
    pub(in crate::upstream) async fn send(
        &mut self,
        mut head: BytesMut,
        body: &[u8],
        limit: Duration,
    ) -> Result<Written, AttemptError> {
        let room = WRITE_BYTES.saturating_sub(head.len());
        let (first, rest) = body.split_at_checked(room).unwrap_or((body, &[]));
        head.extend_from_slice(first);
        match self.write(&head, limit).await? {
            Written::All if !rest.is_empty() => self.write(rest, limit).await,
            written => Ok(written),
        }
    }

    /// Sends bytes; `limit` is how long the backend may take for each [`WRITE_BYTES`] of them.
    ///
    /// # Cancel safety
    /// None: how much was sent is then unknown. Drop the exchange.
    pub(in crate::upstream) async fn write(
        &mut self,
        data: &[u8],
        limit: Duration,
    ) -> Result<Written, AttemptError> {
        for piece in data.chunks(WRITE_BYTES) {
            let mut left = piece;
            let written = timeout(
                limit,
                std::future::poll_fn(|cx| self.poll_send(cx, &mut left)),
            );
            match written.await.map_err(|_| AttemptError::FirstByteTimeout)? {
                Written::All => {}
                stopped => return Ok(stopped),
            }
        }
        Ok(Written::All)
    }

    /// Looks, without waiting, whether the backend has answered or gone.
    pub(in crate::upstream) fn look(&mut self) -> Written {
        let looked = std::future::poll_fn(|cx| Poll::Ready(self.poll_early(cx))).now_or_never();
        match looked {
            Some(Poll::Ready(written)) => written,
            Some(Poll::Pending) | None => Written::All,
        }
    }

    /// Writes and flushes `left`; looks at what comes in while that has to wait.
    fn poll_send(&mut self, cx: &mut Context<'_>, left: &mut &[u8]) -> Poll<Written> {
        loop {
            let written = if left.is_empty() {
                Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| None)
            } else {
                Pin::new(&mut self.stream).poll_write(cx, left).map_ok(Some)
            };
            match written {
                Poll::Ready(Ok(None)) => return Poll::Ready(Written::All),
                Poll::Ready(Ok(Some(count))) if count > 0 => left.advance(count),
                Poll::Ready(Ok(Some(_)) | Err(_)) => {
                    self.is_broken = true;
                    return Poll::Ready(Written::Broken);
                }
                Poll::Pending => return self.poll_early(cx),
            }
        }
    }

    /// Reads what is there. Ready: sending is to stop.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        loop {
            if self.early.len() >= EARLY_BYTES {
                return Poll::Pending;
            }
            let mut space = [0; 4096];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.early.extend_from_slice(buffer.filled());
                    // Interim answers and success do not stop a request: some backends begin to
                    // answer while they read.
                    if final_status(&self.early).is_some_and(|status| status >= 300) {
                        self.has_answered = true;
                        return Poll::Ready(Written::Answered);
                    }
                }
                Poll::Ready(_) => {
                    self.is_broken = true;
                    return Poll::Ready(Written::Broken);
                }
            }
        }
    }

    /// Awaits the head of the final answer.
    pub(in crate::upstream) async fn answer(
        self,
        method: &Method,
        until: Instant,
    ) -> Result<Answer, Failed> {
        // After an early error answer, the backend may take the rest of the request for a new one.
        let may_reuse = !self.has_answered && !self.is_broken;
        let read_before = !self.early.is_empty();
        let stream = if read_before {
            Box::new(Rewound {
                first: self.early.freeze(),
                rest: self.stream,
            })
        } else {
            self.stream
        };
        let mut answer = Answer::new(stream, self.home, may_reuse, method);
        timeout_at(until, answer.read_head(self.reused, read_before))
            .await
            .map_err(|_| Failed::from(AttemptError::FirstByteTimeout))??;
        Ok(answer)
    }
}

/// The final status that `bytes` begin with, past any interim answers; none while it is not there
/// yet, or when this is no HTTP (the parser will say so).
fn final_status(mut bytes: &[u8]) -> Option<u16> {
    loop {
        let code = bytes.strip_prefix(b"HTTP/1.")?.get(2..5)?;
        let status: u16 = std::str::from_utf8(code).ok()?.parse().ok()?;
        if !(100..200).contains(&status) {
            return Some(status);
        }
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        bytes = bytes.get(end + 4..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_answers_hide_no_final_status() {
        assert_eq!(
            final_status(b"HTTP/1.1 413 Payload Too Large\r\n"),
            Some(413)
        );
        assert_eq!(
            final_status(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 Unauthorized\r\n"),
            Some(401)
        );
        assert_eq!(
            final_status(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 4"),
            None
        );
        assert_eq!(final_status(b"HTTP/1.1 10"), None);
        assert_eq!(final_status(b"+OK POP3 server ready"), None);
    }
}
