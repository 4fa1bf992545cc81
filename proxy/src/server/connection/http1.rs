//! HTTP/1.x on one connection: one request after another.
//!
//! Invariants: pingora sees a head only when it is whole and [`grammar`] has passed it; behind a
//! request whose end is in doubt, nothing is read as a request.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use pingora::protocols::Stream;
use pingora::protocols::http::{ServerSession, date};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::super::phase::{self, Phase};
use super::chunked::{Chunks, Watched};
use super::grammar::{self, Fault, Framed};
use super::head::{self, Awaited, Waits};
use super::transport::Activity;
use super::{After, Application, Settings, Unreadable};
use crate::admission::Standing;
use crate::pipeline::BODY_PAUSE;

/// What a goodbye may take: over TLS it is written.
const GOODBYE: Duration = Duration::from_secs(1);
/// What a client may still send behind a refused head, so that it reads the refusal. Closing a
/// connection with unread bytes resets it.
const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// Room for one read of a head.
const READ_BYTES: usize = 4096;

/// Serves requests until the connection ends.
pub(super) async fn serve<A: Application>(
    stream: Stream,
    activity: &Activity,
    app: &A,
    standing: Standing,
    mut phase: phase::Watch,
) {
    let mut stream = Watched::new(stream);
    let mut bytes = BytesMut::new();
    let mut silence = app.settings().of(standing).header_timeout;
    loop {
        if !bytes.is_empty() {
            activity.begin();
        }
        let settings = app.settings().of(standing);
        let waits = Waits {
            silence,
            head: settings.header_timeout,
        };
        let read = read_head(&mut stream, &mut bytes, &settings);
        let chunks = match head::awaited(read, activity, waits, &mut phase).await {
            Awaited::Here(Ok(chunks)) => chunks,
            Awaited::Here(Err(NoHead::Left)) => return,
            Awaited::Here(Err(NoHead::Refused(why))) => return refuse(app, stream, why).await,
            Awaited::Slow => return refuse(app, stream, Unreadable::Slow).await,
            Awaited::Silent | Awaited::Stopping => return close(&mut stream).await,
        };
        stream.chunks = chunks;
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelining_enabled(true);
        session.set_read_timeout(Some(BODY_PAUSE));
        session.set_pipelined_prefix(std::mem::take(&mut bytes));
        // Waits for nothing: the head is here.
        if !matches!(session.read_request().await, Ok(true)) {
            let why = Unreadable::Malformed("the target, or whom it is for, is in doubt");
            return refuse_read(app, session, why).await;
        }
        if let Some(why) = head::over(&settings, session.req_header()) {
            return refuse_read(app, session, why).await;
        }
        let keepalive = settings.keepalive_timeout;
        // Pingora has looked at what the client wants; a stop may only take it away.
        let stays = session.get_keepalive().is_some() && *phase.borrow() == Phase::Serving;
        session.set_keepalive(stays.then(|| keepalive.as_secs().max(1)));
        if app.serve(&mut session, standing).await != After::Stays {
            return;
        }
        let Ok(Ok(Some(reusable))) = timeout(GOODBYE, session.finish()).await else {
            return;
        };
        let (reused, pipelined) = reusable.into_parts();
        let Ok(reused) = reused.into_any().downcast() else {
            return; // no other stream was put into the session
        };
        stream = reused;
        bytes = pipelined.unwrap_or_default();
        silence = keepalive;
        activity.arm();
    }
}

/// Why there is no head.
enum NoHead {
    /// The client closed its side, or the connection broke.
    Left,
    Refused(Unreadable),
}

impl From<Fault> for NoHead {
    fn from(fault: Fault) -> Self {
        Self::Refused(Unreadable::Malformed(fault))
    }
}

/// Reads until `bytes` begins with a whole head that may be served; says how its body is framed,
/// as far as it is here.
async fn read_head(
    stream: &mut Watched,
    bytes: &mut BytesMut,
    settings: &Settings,
) -> Result<Chunks, NoHead> {
    let most = settings.max_header_bytes;
    stream.chunks = Chunks::outside();
    let mut seen = 0;
    loop {
        // An empty line before a request is nothing (RFC 9112 §2.2).
        if seen < 2 && bytes.starts_with(b"\r\n") {
            let _ = bytes.split_to(2);
            seen = 0;
        }
        if let Some(end) = end_of_head(bytes, seen)? {
            let (head, body) = bytes.split_at(end);
            // Besides the headers there are the request line and the empty one.
            let fields = memchr::memchr_iter(b'\n', head).count().saturating_sub(2);
            if fields > settings.max_headers {
                return Err(NoHead::Refused(Unreadable::TooManyHeaders));
            }
            if end > most {
                return Err(NoHead::Refused(Unreadable::TooLarge));
            }
            let mut chunks = match grammar::check(head)? {
                Framed::Length => Chunks::outside(),
                Framed::Chunked => Chunks::begin(),
            };
            chunks.see(body)?;
            return Ok(chunks);
        }
        if bytes.len() > most {
            return Err(NoHead::Refused(Unreadable::TooLarge));
        }
        seen = bytes.len();
        bytes.reserve(READ_BYTES);
        match stream.read_buf(bytes).await {
            Ok(0) | Err(_) => return Err(NoHead::Left),
            Ok(_) => {}
        }
    }
}

/// Where the head ends that `bytes` begins with, of which the first `seen` hold no end.
fn end_of_head(bytes: &[u8], seen: usize) -> Result<Option<usize>, Fault> {
    // A line may have begun before.
    let from = seen.saturating_sub(1);
    for at in memchr::memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()) {
        let end = from + at + 1;
        let head = bytes.get(..end).unwrap_or_default();
        // Told at once: a client that ends its lines so waits for an answer now.
        if !head.ends_with(b"\r\n") {
            return Err("a line that ends with LF alone, and not with CR LF");
        }
        if head.ends_with(b"\r\n\r\n") || end == 2 {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// Answers a head that nobody reads as a request, and closes.
async fn refuse<A: Application>(app: &A, mut stream: Box<Watched>, why: Unreadable) {
    if let Some((status, body)) = app.refusal(why) {
        let mut answer = BytesMut::new();
        answer.extend_from_slice(&refusal_head(status, body.len()));
        answer.extend_from_slice(&body);
        let told = async {
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            linger(&mut stream).await
        };
        // The client may be gone; there is nobody else to tell.
        let _ = timeout(GOODBYE, told).await;
    }
}

fn refusal_head(status: StatusCode, length: usize) -> Vec<u8> {
    let date = date::get_cached_date();
    let date = date.to_str().unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// Reads on and throws away, until the client has read why and closed.
async fn linger(stream: &mut Watched) -> io::Result<()> {
    stream.chunks = Chunks::outside();
    let mut scratch = BytesMut::with_capacity(READ_BYTES);
    let mut left = LINGER_BYTES;
    while left > 0 {
        scratch.clear();
        match stream.read_buf(&mut scratch).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// As [`refuse`], of a head that pingora has read.
async fn refuse_read<A: Application>(app: &A, mut session: ServerSession, why: Unreadable) {
    if let Some((status, body)) = app.refusal(why) {
        session.set_keepalive(None);
        let told = session.respond_error_with_body(status.as_u16(), body);
        // The client may be gone, or not read; there is nobody else to tell.
        let _ = timeout(GOODBYE, told).await;
    }
    // Nobody waits for the end of a goodbye.
    let _ = timeout(GOODBYE, session.shutdown()).await;
}

async fn close(stream: &mut Watched) {
    // Nobody waits for the end of a goodbye.
    let _ = timeout(GOODBYE, stream.shutdown()).await;
}
