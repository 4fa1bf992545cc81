//! One HTTP/1.1 exchange on one connection: pingora's parser, our own writes.
//!
//! The head and the body's beginning leave in one write: with two, each request would cost a second
//! system call and a second packet. A backend may answer before it has read the whole request (413,
//! say) and then stop reading; so whenever a write has to wait, what the backend sends is looked
//! at, and an error answer ends the sending.
//!
//! Invariant: a connection returns to its pool only after an answer whose framing was whole, with
//! nothing read beyond it; anything else closes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use pingora::protocols::http::v1::client::HttpSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::host_header;
use super::connect::Home;
use super::errors::{AttemptError, UpstreamError, brief};
use super::exchange::{Failed, Outgoing};
use crate::config::BackendIdentity;

/// Most bytes in one write; the head goes with the body's first part.
const WRITE_BYTES: usize = 64 * 1024;

/// Most bytes of an early answer that are held while the request is still being sent.
const EARLY_BYTES: usize = 64 * 1024;

/// Interim answers that are skipped before one exchange is given up.
const MAX_INTERIM: u32 = 16;

/// How a request announces its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body.
    None,
    /// `content-length`.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

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

/// The request line and header section of `out` for this backend.
pub(super) fn head(
    out: &Outgoing,
    identity: &BackendIdentity,
    framing: Framing,
) -> Result<BytesMut, AttemptError> {
    let target = target(out, identity)?;
    let mut head = BytesMut::with_capacity(1024);
    for part in [
        out.method.as_str(),
        " ",
        &target,
        " HTTP/1.1\r\nhost: ",
        &host_header(identity),
    ] {
        head.extend_from_slice(part.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    for (name, value) in &out.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Framing::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// The path below the backend's base path. A byte that would end the request line is refused: it
/// would let a client write a request of its own into the connection (RFC 9112 §3.2).
pub(super) fn target(out: &Outgoing, identity: &BackendIdentity) -> Result<String, AttemptError> {
    if out.path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(AttemptError::Request("a control byte or space in the path"));
    }
    Ok(format!("{}{}", identity.base_path, out.path))
}

/// A request on its way.
pub(super) struct Sending {
    stream: Stream,
    home: Home,
    reused: bool,
    /// What the backend sent meanwhile.
    early: BytesMut,
    has_answered: bool,
    is_broken: bool,
}

impl Sending {
    pub(super) fn new(stream: Stream, reused: bool, home: Home) -> Self {
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
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether nothing has come back yet.
    pub(super) fn is_unanswered(&self) -> bool {
        self.early.is_empty()
    }

    /// Sends a head and a body: in one write, as far as they fit.
    pub(super) async fn send(
        &mut self,
        mut head: BytesMut,
        body: &[u8],
        limit: Duration,
    ) -> Result<Written, AttemptError> {
        let with_head = body.len().min(WRITE_BYTES.saturating_sub(head.len()));
        let (first, rest) = body.split_at(with_head);
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
    pub(super) async fn write(
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
    pub(super) fn look(&mut self) -> Written {
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
    pub(super) async fn answer(self, method: &Method, until: Instant) -> Result<Answer, Failed> {
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
        let mut answer = Answer {
            session: HttpSession::new(stream),
            home: self.home,
            // The parser learns of a HEAD only from a request that it wrote itself, so what it
            // holds for the length of the body is ignored here, and the connection not reused.
            may_reuse: may_reuse && method != Method::HEAD,
            is_bodyless: method == Method::HEAD,
        };
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

/// An answer: its head, and its body as it comes.
pub(super) struct Answer {
    session: HttpSession,
    home: Home,
    may_reuse: bool,
    /// It answers a HEAD.
    is_bodyless: bool,
}

impl Answer {
    /// Status of the head.
    pub(super) fn status(&self) -> StatusCode {
        // A head without a status is refused by the parser.
        self.session.get_status().unwrap_or(StatusCode::BAD_GATEWAY)
    }

    /// Headers as they came.
    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.session.resp_header().map(|head| &head.headers)
    }

    async fn read_head(&mut self, reused: bool, mut read_before: bool) -> Result<(), Failed> {
        for _ in 0..=MAX_INTERIM {
            let read = self.session.read_response().await;
            read.map_err(|error| head_failure(&error, reused, read_before))?;
            let status = self.status();
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(protocol("101 to a request that asked for no upgrade"));
            }
            if !status.is_informational() {
                return self.check_framing();
            }
            read_before = true;
        }
        Err(protocol("too many interim answers"))
    }

    /// Refuses an answer whose length two parties could read differently (RFC 9112 §6.1 and §6.3).
    fn check_framing(&self) -> Result<(), Failed> {
        let Some(headers) = self.headers() else {
            return Err(protocol("no head"));
        };
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        let Some(coding) = codings.next() else {
            return Ok(());
        };
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(protocol("transfer-encoding other than chunked"));
        }
        // The parser has dropped a content-length that stood beside it: only the raw head tells.
        let raw = self.session.get_headers_raw_bytes();
        let mut lines = raw.split(|byte| *byte == b'\n');
        if lines.any(|line| names(line, b"content-length")) {
            return Err(protocol("both content-length and transfer-encoding"));
        }
        Ok(())
    }

    /// The next bytes of the body; none at its end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if self.is_bodyless {
            return Ok(None);
        }
        loop {
            match self.session.read_body_bytes().await {
                // The parser's way to say that it has only seen the last chunk's beginning.
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(read) => return Ok(read),
                Err(error) => return Err(body_failure(&error)),
            }
        }
    }

    /// Puts the connection back, if it may be used again. Only after [`Self::read`] gave none.
    pub(super) fn finish(mut self) {
        if !self.may_reuse {
            return;
        }
        self.session.respect_keepalive();
        if !self.session.will_keepalive() {
            return;
        }
        let announced = self
            .session
            .get_header("keep-alive")
            .and_then(announced_timeout);
        // Waits for nothing when the connection is kept.
        if let Some(Some(stream)) = self.session.reuse().now_or_never() {
            self.home.release_h1(stream, announced);
        }
    }
}

/// Whether a header line has this name, however it is written.
fn names(line: &[u8], name: &[u8]) -> bool {
    let colon = line.iter().position(|byte| *byte == b':');
    let found = colon.and_then(|colon| line.get(..colon));
    found.is_some_and(|found| found.trim_ascii().eq_ignore_ascii_case(name))
}

/// The `timeout` of a `Keep-Alive` header.
fn announced_timeout(value: &http::HeaderValue) -> Option<Duration> {
    let parameters = value.to_str().ok()?.split(',');
    let mut timeouts = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| value.trim().parse().ok().map(Duration::from_secs))?
    });
    timeouts.next()
}

fn protocol(why: &str) -> Failed {
    AttemptError::Protocol(why.to_owned()).into()
}

/// Sorts pingora's errors of reading a head.
fn head_failure(error: &Error, reused: bool, read_before: bool) -> Failed {
    match error.etype() {
        ErrorType::ConnectionClosed | ErrorType::ReadError => {
            // pingora tells how far it came in the text alone.
            let nothing_read = !read_before
                && error
                    .context
                    .as_ref()
                    .is_some_and(|context| context.as_str().ends_with(": 0"));
            if nothing_read {
                Failed {
                    error: AttemptError::ClosedBeforeAnswer { reused },
                    was_idle: reused,
                }
            } else {
                protocol("connection closed within the head")
            }
        }
        _ => protocol(&brief(error)),
    }
}

/// Sorts pingora's errors of reading a body.
fn body_failure(error: &Error) -> UpstreamError {
    match error.etype() {
        ErrorType::ConnectionClosed => UpstreamError::Truncated(brief(error)),
        ErrorType::ReadError => UpstreamError::Reset(brief(error)),
        _ => UpstreamError::Protocol(brief(error)),
    }
}

/// A stream with bytes put back in front: those that were read while the request was being sent.
#[derive(Debug)]
struct Rewound {
    first: Bytes,
    rest: Stream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_read(cx, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        let piece = self.first.split_to(count);
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Rewound {
    async fn shutdown(&mut self) {
        self.rest.shutdown().await;
    }
}

impl UniqueID for Rewound {
    fn id(&self) -> UniqueIDType {
        self.rest.id()
    }
}

impl Ssl for Rewound {}

impl Peek for Rewound {}

impl GetTimingDigest for Rewound {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.rest.get_timing_digest()
    }
}

impl GetProxyDigest for Rewound {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.rest.get_proxy_digest()
    }
}

impl GetSocketDigest for Rewound {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.rest.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::identity;

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

    #[test]
    fn a_path_cannot_end_the_request_line() {
        let mut out = Outgoing {
            method: Method::GET,
            path: "/v1/models?a=b".to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let mut backend = identity("10.0.0.1", 8000);
        backend.base_path = "/openai".to_owned();
        let written = head(&out, &backend, Framing::None).unwrap();
        assert_eq!(
            written.as_ref(),
            b"GET /openai/v1/models?a=b HTTP/1.1\r\nhost: 10.0.0.1:8000\r\n\r\n"
        );
        for path in ["/v1/a b", "/v1/a\r\nx: y", "/v1/\0"] {
            out.path = path.to_owned();
            assert!(matches!(
                head(&out, &backend, Framing::None),
                Err(AttemptError::Request(_))
            ));
        }
    }

    #[test]
    fn the_announced_idle_time_is_found() {
        let value = |text| announced_timeout(&http::HeaderValue::from_static(text));
        assert_eq!(value("timeout=5, max=1000"), Some(Duration::from_secs(5)));
        assert_eq!(value("max=3,Timeout = 7"), Some(Duration::from_secs(7)));
        assert_eq!(value("max=3"), None);
    }
}
