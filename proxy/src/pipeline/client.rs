//! The client's side of a request: its head, its body, whether it is still there, and what is sent
//! to it.
//!
//! Invariants: the body is bounded in size and in time; a client that left is noticed while the
//! proxy waits for something else; nothing is written after a write has failed.

use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use tokio::time::timeout;

use super::error::{Error, Result};
use super::gather::Gather;
use crate::admission::{Held, Standing};

/// Bytes that are read and thrown away after an early refusal, so that the client can read it.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
/// Time for that.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes that are read and thrown away before an early refusal, when they are there.
const ARRIVED_BYTES: usize = 1024 * 1024;
/// Longest wait for a client that does not take what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest pause inside of a request's body; the body as a whole has its own limit.
pub(crate) const BODY_PAUSE: Duration = Duration::from_secs(60);
/// What the end of a connection may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// A request's head, apart from the connection.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// Without the query, as it came.
    pub(crate) path: String,
    /// What [`Self::plain_path`] gives, where it differs.
    pub(super) decoded_path: Option<String>,
    /// Path and query as they came.
    pub(crate) path_and_query: String,
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// The path as an upstream may understand it: without escapes (RFC 3986 §2.4). All decisions go
    /// by it, or another spelling of an endpoint would pass by its route and its caps.
    pub(crate) fn plain_path(&self) -> &str {
        self.decoded_path.as_deref().unwrap_or(&self.path)
    }

    /// A header's value, when it is text.
    pub(crate) fn text(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One request's client.
pub(crate) struct Client<'a> {
    session: &'a mut ServerSession,
    standing: Standing,
    /// No answer may promise that the connection stays.
    closing: &'a AtomicBool,
    /// A write failed, or the client closed its side.
    gone: bool,
    /// The connection was ended from here.
    was_cut: bool,
    /// The client asked for `100 Continue` and waits for it.
    expects_continue: bool,
    /// Bytes of the body that were written.
    sent: u64,
    /// The rest of the request's body is not wanted any more.
    body_unwanted: bool,
}

impl<'a> Client<'a> {
    /// Takes over a session whose head was read. From when `closing` is true, answers say that the
    /// connection ends with them; one above the limit ends with its first.
    pub(crate) fn new(
        session: &'a mut ServerSession,
        closing: &'a AtomicBool,
        standing: Standing,
    ) -> (Self, Head) {
        if standing == Standing::Crowd {
            session.set_keepalive(None);
        }
        // A client that never reads must not hold its upstream for ever.
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        let request = session.req_header();
        let head = Head {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            decoded_path: decoded(request.uri.path()),
            path_and_query: request
                .uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            headers: request.headers.clone(),
        };
        let expects_continue = head
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let client = Self {
            session,
            standing,
            closing,
            gone: false,
            was_cut: false,
            expects_continue,
            sent: 0,
            body_unwanted: false,
        };
        (client, head)
    }

    /// True when the connection can carry nothing more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// True when the client itself left, or could not be written to.
    pub(crate) fn has_left(&self) -> bool {
        self.gone && !self.was_cut
    }

    /// Bytes of answer bodies written so far.
    pub(crate) fn body_bytes_sent(&self) -> u64 {
        self.sent
    }

    /// Whether its connection is one of those that are served.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// The client's address, for the log.
    pub(crate) fn address(&self) -> String {
        self.session
            .client_addr()
            .map_or_else(|| "-".to_owned(), ToString::to_string)
    }

    /// True when the client asks for another protocol on this connection.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.session.is_upgrade_req()
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`] above `limit` bytes, [`Error::BuffersFull`] when `held` may not grow by
    /// them, [`Error::BodyTimeout`] when the last byte is not there after `within`,
    /// [`Error::Unreadable`] and [`Error::ClientGone`].
    pub(crate) async fn body(
        &mut self,
        head: &Head,
        limit: usize,
        within: Duration,
        held: &mut Held,
    ) -> Result<Bytes> {
        match timeout(within, self.read_body(head, limit, held)).await {
            Ok(body) => body,
            Err(_) => Err(Error::BodyTimeout { within }),
        }
    }

    async fn read_body(&mut self, head: &Head, limit: usize, held: &mut Held) -> Result<Bytes> {
        let announced = content_length(&head.headers);
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(Error::BodyTooLarge { limit });
        }
        let Some(first) = self.chunk().await? else {
            return Ok(Bytes::new());
        };
        // Most bodies come with their head in one read: no copy then.
        if announced == Some(first.len() as u64) {
            held.grow(first.len())?;
            return match self.chunk().await? {
                None => Ok(first),
                Some(_) => Err(unreadable("more body than its content-length")),
            };
        }
        let mut body = Gather::new(held);
        let mut next = Some(first);
        while let Some(chunk) = next {
            if body.len() + chunk.len() > limit {
                return Err(Error::BodyTooLarge { limit });
            }
            body.push(&chunk)?;
            next = self.chunk().await?;
        }
        Ok(body.finish())
    }

    /// The next piece of the request's body; none at its end.
    ///
    /// # Errors
    /// [`Error::ClientGone`] when the connection ended inside the body, [`Error::BodyTimeout`] when
    /// nothing came for [`BODY_PAUSE`], [`Error::Unreadable`] when its framing is broken.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if std::mem::take(&mut self.expects_continue)
            && self.session.write_continue_response().await.is_err()
        {
            return Err(self.lost());
        }
        match self.session.read_request_body().await {
            Ok(chunk) => Ok(chunk),
            Err(error) => {
                use pingora::ErrorType::{ConnectionClosed, H2Error, ReadError, ReadTimedout};
                match error.etype() {
                    ReadTimedout => Err(Error::BodyTimeout { within: BODY_PAUSE }),
                    ReadError if is_malformed(&error) => Err(self.unreadable()),
                    ConnectionClosed | ReadError | H2Error => Err(self.lost()),
                    _ => Err(self.unreadable()),
                }
            }
        }
    }

    /// Nobody knows where the body ends, and the next request begins.
    fn unreadable(&mut self) -> Error {
        self.session.set_keepalive(None);
        unreadable("the body's framing is broken")
    }

    fn lost(&mut self) -> Error {
        self.gone = true;
        Error::ClientGone
    }

    /// Works for as long as the client stays: `work` is dropped when it leaves. An h1 client that
    /// closes its side has left, as with nginx: it cannot be told from one that is gone.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::ClientGone`].
    pub(crate) async fn unless_gone<T>(
        &mut self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            // Ends only when the client is gone: the body has been read, and a pipelined request
            // is kept for later.
            () = watch(self.session, self.body_unwanted) => Err(self.lost()),
        }
    }

    /// True when the request announces a body.
    pub(crate) fn has_body(&mut self) -> bool {
        !self.session.is_body_empty()
    }

    /// Bytes of the request's body that were read.
    pub(crate) fn body_bytes_received(&self) -> u64 {
        self.session.body_bytes_read() as u64
    }

    /// Leaves the rest of the body unread: the connection then ends with this request, since nobody
    /// would know where the next one begins.
    pub(crate) fn leave_body(&mut self) {
        self.body_unwanted = true;
        self.session.set_keepalive(None);
    }

    /// True after [`Self::leave_body`].
    pub(crate) fn left_body(&self) -> bool {
        self.body_unwanted
    }

    /// True when the client still waits to be told to send its body.
    pub(crate) fn awaits_continue(&self) -> bool {
        self.expects_continue
    }

    /// Sends a whole answer.
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    pub(crate) async fn send(
        &mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<()> {
        // RFC 9110 §8.6: such an answer says nothing of a length.
        if !matches!(status.as_u16(), 204 | 304) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        self.send_head(status, &headers).await?;
        self.send_chunk(body, true).await
    }

    /// Sends the head of an answer; its body follows with [`Self::send_chunk`].
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    pub(crate) async fn send_head(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<()> {
        if self.closing.load(Ordering::Relaxed) {
            self.session.set_keepalive(None);
        }
        let framing = self.framing(status, headers);
        let head = response_head(status, headers, framing).map_err(|_| self.lost())?;
        match self.session.write_response_header(Box::new(head)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.lost()),
        }
    }

    /// How the end of an answer's body is told. h2 tells it by its frames, and an HTTP/1.0 client
    /// only by the connection's end, which then must come.
    fn framing(&mut self, status: StatusCode, headers: &HeaderMap) -> Framing {
        let bodiless = status.is_informational() || matches!(status.as_u16(), 204 | 304);
        if bodiless || headers.contains_key(header::CONTENT_LENGTH) || self.session.is_http2() {
            return Framing::AsIs;
        }
        if self.session.req_header().version == http::Version::HTTP_11 {
            return Framing::Chunked;
        }
        self.session.set_keepalive(None);
        Framing::AsIs
    }

    /// Sends a piece of the body, and its end with `end`.
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    pub(crate) async fn send_chunk(&mut self, chunk: Bytes, end: bool) -> Result<()> {
        let bytes = chunk.len() as u64;
        match self.session.write_response_body(chunk, end).await {
            Ok(()) => {
                self.sent += bytes;
                Ok(())
            }
            Err(_) => Err(self.lost()),
        }
    }

    /// Ends the connection without ending the body, so that the client sees that it was cut.
    pub(crate) async fn cut(&mut self) {
        (self.gone, self.was_cut) = (true, true);
        // Over TLS a goodbye is written, which a client that does not read could hold up.
        let _ = timeout(GOODBYE, self.session.shutdown()).await;
    }

    /// Reads and throws away what has arrived of the body, up to a mebibyte. Where that is all of it, the
    /// connection can stay: a refusal need not cost the client another handshake.
    pub(crate) fn skip_arrived_body(&mut self) {
        let mut left = ARRIVED_BYTES;
        while !self.gone && !self.expects_continue && !self.session.is_body_done() {
            let Some(Ok(Some(chunk))) = self.session.read_request_body().now_or_never() else {
                break;
            };
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    }

    /// Reads on for a moment after a refusal that did not wait for the body: closing at once would
    /// reset the connection, and the client might never read why.
    pub(crate) async fn linger(&mut self) {
        if self.gone || self.expects_continue {
            return;
        }
        let mut left = LINGER_BYTES;
        let drain = async {
            while let Ok(Some(chunk)) = self.session.read_request_body().await {
                match left.checked_sub(chunk.len()) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        };
        // Others wait for the place of one above the limit.
        let patience = match self.standing {
            Standing::Served => LINGER,
            Standing::Crowd => GOODBYE,
        };
        if timeout(patience, drain).await.is_err() || !self.session.is_body_done() {
            self.session.set_keepalive(None);
        }
    }
}

/// A path without its escapes; none where it has none, or where they are no text.
pub(super) fn decoded(path: &str) -> Option<String> {
    match percent_encoding::percent_decode_str(path).decode_utf8() {
        Ok(Cow::Owned(decoded)) => Some(decoded),
        Ok(Cow::Borrowed(_)) | Err(_) => None,
    }
}

/// Ends when the client has left. A pipelined request is kept for later; an unwanted body is read
/// and thrown away.
async fn watch(session: &mut ServerSession, body_unwanted: bool) {
    if !body_unwanted {
        // Ends only with an error: the body has been read.
        let _ = session.read_body_or_idle(true).await;
        return;
    }
    while session.read_body_or_idle(false).await.is_ok() {}
}

/// True when the connection is well, and what came on it is not.
fn is_malformed(error: &pingora::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::InvalidData)
}

fn unreadable(reason: &str) -> Error {
    Error::Unreadable {
        reason: reason.to_owned(),
    }
}

/// The announced length of a body.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// What a head says of the length of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// What its headers say, or the protocol.
    AsIs,
    /// Chunks (RFC 9112 §7.1).
    Chunked,
}

fn response_head(
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(headers.len() + 4))?;
    for (name, value) in headers {
        head.append_header(name, value)?;
    }
    if framing == Framing::Chunked {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(head)
}
