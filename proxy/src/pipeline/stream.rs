//! Sends the answer to the client, event by event as it comes.
//!
//! From here on there is no `Error`, only an [`Outcome`]: the head is out. A stream that ends
//! without its terminal gets one error event and no `[DONE]`; a relayed body that breaks is cut, so
//! that nobody takes it for whole. Whole events leave as the bytes that came.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};
use tokio::time::{timeout, timeout_at};

use super::answer::{Answer, Body, Live, Relayed, Whole};
use super::client::Client;
use super::context::RequestContext;
use super::error::{self, Error};
use super::events::{Events, EventsError};
use super::reply;
use super::store::Seat;
use crate::api::plain::Tail;
use crate::api::sse::Event;
use crate::api::{self, Usage};
use crate::telemetry::{CacheResult, Outcome, Stage, headers};
use crate::upstream::UpstreamError;

/// How long the end of a body may come after its `[DONE]`; then the connection is given up.
const DONE_GRACE: Duration = Duration::from_millis(250);

const DONE: &[u8] = b"data: [DONE]\n\n";

/// Sends an answer; says how it ended.
///
/// # Cancel safety
/// Dropping the future closes the upstream exchange.
pub(super) async fn run(
    cx: &mut RequestContext,
    answer: Answer,
    client: &mut Client<'_>,
) -> Outcome {
    cx.enter(Stage::Stream);
    let Answer {
        status,
        headers,
        body,
    } = answer;
    cx.record.status = status.as_u16();
    let head = decorate(cx, headers);
    let outcome = match body {
        Body::Whole(body) => whole(cx, status, head, body, client).await,
        Body::Replay(events) => {
            cx.note_first_token();
            replay(cx, status, head, &events, client).await
        }
        Body::Live(live) => live_events(cx, status, head, *live, client).await,
        Body::Relayed(relayed) => relay(cx, status, head, *relayed, client).await,
    };
    if client.left_body() {
        client.linger().await;
    }
    cx.record.body_bytes_in = client.body_bytes_received();
    cx.record.body_bytes_out = client.body_bytes_sent();
    outcome
}

/// The upstream's headers with ours. Names of ours that an upstream sent are replaced.
fn decorate(cx: &RequestContext, mut head: HeaderMap) -> HeaderMap {
    let ours: Vec<HeaderName> = head
        .keys()
        .filter(|name| name.as_str().starts_with("x-sluicegate-"))
        .cloned()
        .collect();
    for name in ours {
        head.remove(name);
    }
    for (name, value) in headers::response(&cx.record, cx.expose_all) {
        head.insert(name, value);
    }
    head
}

async fn whole(
    cx: &mut RequestContext,
    status: StatusCode,
    head: HeaderMap,
    body: Whole,
    client: &mut Client<'_>,
) -> Outcome {
    let Whole { bytes, facts, seat } = body;
    if let Some(facts) = &facts {
        cx.note_first_token();
        note_usage(cx, facts.usage, facts.text_bytes);
    } else if cx.record.cache == CacheResult::Hit {
        cx.note_first_token();
    }
    let kept = seat.is_some().then(|| bytes.clone());
    if client.send(status, head, bytes).await.is_err() {
        return Outcome::Aborted;
    }
    if let (Some(seat), Some(body), Some(facts)) = (seat, kept, facts) {
        seat.commit_whole(&body, &facts);
    }
    Outcome::Complete
}

async fn replay(
    cx: &mut RequestContext,
    status: StatusCode,
    mut head: HeaderMap,
    events: &[Bytes],
    client: &mut Client<'_>,
) -> Outcome {
    head.remove(header::CONTENT_LENGTH);
    if client.send_head(status, &head).await.is_err() {
        return Outcome::Aborted;
    }
    let bytes = events.iter().map(Bytes::len).sum();
    let sent = match cx.answer_held.set(bytes) {
        // One write: a stored stream is here already.
        Ok(()) => client.send_chunk(joined(events), true).await,
        Err(_) => one_by_one(events, client).await,
    };
    match sent {
        Ok(()) => Outcome::Complete,
        Err(_) => Outcome::Aborted,
    }
}

async fn one_by_one(events: &[Bytes], client: &mut Client<'_>) -> error::Result<()> {
    for event in events {
        client.send_chunk(event.clone(), false).await?;
    }
    client.send_chunk(Bytes::new(), true).await
}

async fn live_events(
    cx: &mut RequestContext,
    status: StatusCode,
    mut head: HeaderMap,
    live: Live,
    client: &mut Client<'_>,
) -> Outcome {
    let Live {
        begun,
        mut events,
        mut seat,
    } = live;
    // The length may change by a `[DONE]` or an error event.
    head.remove(header::CONTENT_LENGTH);
    if client.send_head(status, &head).await.is_err() {
        return Outcome::Aborted;
    }
    let mut out = joined_events(&begun);
    drop(begun);
    let ending = loop {
        if !out.is_empty() && client.send_chunk(out, false).await.is_err() {
            break Ending::ClientGone;
        }
        events.passed_on();
        if events.saw_error {
            break Ending::ErrorEvent;
        }
        if events.progress.saw_done() {
            // Nothing that follows counts any more; the end of the body frees the connection.
            let end = client.unless_gone(async { Ok(events.end().await) });
            let _ = timeout(DONE_GRACE, end).await;
            break Ending::Clean;
        }
        let deadline = cx.deadline.unwrap_or_else(far_future);
        let next = next_events(cx, &mut events, seat.as_deref_mut(), client);
        match timeout_at(deadline.into(), next).await {
            Err(_) => break Ending::Failed(Error::DeadlineExceeded),
            Ok(Ok(Some(bytes))) => out = bytes,
            Ok(Ok(None)) => break Ending::Clean,
            Ok(Err(ending)) => break ending,
        }
    };
    note_usage(cx, events.progress.usage(), events.progress.text_bytes);
    match ending {
        Ending::ClientGone => Outcome::Aborted,
        Ending::ErrorEvent => {
            // The client has the upstream's own words: they are the one error event.
            cx.fail(&Error::UpstreamErrorEvent {
                backend: events.backend.clone(),
            });
            match client.send_chunk(Bytes::new(), true).await {
                Ok(()) => Outcome::UpstreamFailed,
                Err(_) => Outcome::Aborted,
            }
        }
        Ending::Clean if events.progress.is_complete_at_clean_end() => {
            let last = match events.progress.saw_done() {
                true => Bytes::new(),
                false => Bytes::from_static(DONE),
            };
            if client.send_chunk(last, true).await.is_err() {
                return Outcome::Aborted;
            }
            if let Some(seat) = seat {
                seat.commit_stream(&events.progress);
            }
            Outcome::Complete
        }
        Ending::Clean => {
            let error = Error::UpstreamIncomplete {
                backend: events.backend.clone(),
            };
            fail(cx, &error, client).await
        }
        Ending::Failed(error) => fail(cx, &error, client).await,
    }
}

/// A day from now: for an answer that no route bounds.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(24 * 60 * 60)
}

/// Why a live stream gives no more events.
enum Ending {
    /// The upstream's body ended.
    Clean,
    Failed(Error),
    /// The upstream sent an error event, which has been passed on.
    ErrorEvent,
    ClientGone,
}

/// The next whole events, as many as have arrived. Waits for the upstream and watches the client.
async fn next_events(
    cx: &mut RequestContext,
    events: &mut Events,
    mut seat: Option<&mut Seat>,
    client: &mut Client<'_>,
) -> Result<Option<Bytes>, Ending> {
    let backend = events.backend.clone();
    let failed = |error| Ending::Failed(as_error(error, &backend));
    // The client's departure is the only error that `unless_gone` adds.
    let first = client
        .unless_gone(async { Ok(events.next().await) })
        .await
        .map_err(|_| Ending::ClientGone)?
        .map_err(failed)?;
    let Some((first, mut seen)) = first else {
        return Ok(None);
    };
    let mut raw = vec![first];
    // What came in the same read leaves in the same write, up to the end of the answer.
    while !seen.error && !seen.done {
        let Some((event, also)) = events.buffered().map_err(failed)? else {
            break;
        };
        seen.content |= also.content;
        seen.error = also.error;
        seen.done = also.done;
        raw.push(event);
    }
    events.saw_error = seen.error;
    if seen.content {
        cx.note_first_token();
    }
    if let Some(seat) = &mut seat {
        for event in &raw {
            seat.event(event);
        }
    }
    Ok(Some(joined_events(&raw)))
}

fn as_error(error: EventsError, backend: &crate::config::BackendName) -> Error {
    let backend = backend.clone();
    match error {
        EventsError::Upstream(UpstreamError::Timeout) => Error::UpstreamTimeout { backend },
        EventsError::Upstream(source) => Error::UpstreamBroken { backend, source },
        EventsError::Full => Error::BuffersFull,
        EventsError::TooLarge | EventsError::Cut => Error::UpstreamIncomplete { backend },
    }
}

/// One error event, no `[DONE]`, and the end of the body.
async fn fail(cx: &mut RequestContext, error: &Error, client: &mut Client<'_>) -> Outcome {
    cx.fail(error);
    let row = error.row();
    let event = api::error::event(&error.to_string(), row.kind, None, row.code);
    match client.send_chunk(event, true).await {
        Ok(()) => Outcome::UpstreamFailed,
        Err(_) => Outcome::Aborted,
    }
}

/// Counts what an upstream made; a stored answer was counted when it was made.
fn note_usage(cx: &mut RequestContext, usage: Option<Usage>, text_bytes: usize) {
    if cx.record.cache == CacheResult::Hit {
        return;
    }
    if let Some(usage) = usage {
        cx.record.prompt_tokens = usage.prompt;
        cx.record.completion_tokens = usage.completion;
    } else {
        // About four bytes a token; the exact count of what is stored is made off the path.
        let bytes = u32::try_from(text_bytes).unwrap_or(u32::MAX);
        cx.record.completion_tokens = bytes.div_ceil(4);
    }
}

async fn relay(
    cx: &mut RequestContext,
    status: StatusCode,
    head: HeaderMap,
    relayed: Relayed,
    client: &mut Client<'_>,
) -> Outcome {
    let Relayed {
        begun,
        mut exchange,
    } = relayed;
    if client.send_head(status, &head).await.is_err() {
        return Outcome::Aborted;
    }
    let mut tail = (cx.endpoint.is_some() && reply::is_json(&head)).then(Tail::default);
    // One by one: each is freed when a slow client has taken it.
    for piece in begun {
        if let Some(tail) = &mut tail {
            tail.push(&piece);
        }
        if client.send_chunk(piece, false).await.is_err() {
            return Outcome::Aborted;
        }
    }
    // Nothing more is held than what is on its way.
    let _ = cx.answer_held.set(0);
    let deadline = cx.deadline.unwrap_or_else(far_future);
    loop {
        let read = async { Ok(timeout_at(deadline.into(), exchange.chunk()).await) };
        let error = match client.unless_gone(read).await {
            Err(_) => return Outcome::Aborted,
            Ok(Ok(Ok(chunk))) => {
                let is_last = chunk.is_none();
                let chunk = chunk.unwrap_or_default();
                if let Some(tail) = &mut tail {
                    tail.push(&chunk);
                }
                match client.send_chunk(chunk, is_last).await {
                    Err(_) => return Outcome::Aborted,
                    Ok(()) if is_last => {
                        if let Some(usage) = tail.and_then(|tail| tail.usage()) {
                            note_usage(cx, Some(usage), 0);
                        }
                        return Outcome::Complete;
                    }
                    Ok(()) => continue,
                }
            }
            Ok(Ok(Err(error))) => as_error(error.into(), exchange.backend().name()),
            Ok(Err(_)) => Error::DeadlineExceeded,
        };
        cx.fail(&error);
        client.cut().await;
        return Outcome::UpstreamFailed;
    }
}

fn joined_events(events: &[Event]) -> Bytes {
    match events {
        [only] => only.raw.clone(),
        several => joined(
            &several
                .iter()
                .map(|event| event.raw.clone())
                .collect::<Vec<_>>(),
        ),
    }
}

/// One piece is handed on as it is.
fn joined(pieces: &[Bytes]) -> Bytes {
    match pieces {
        [] => Bytes::new(),
        [only] => only.clone(),
        several => {
            let mut whole = BytesMut::with_capacity(several.iter().map(Bytes::len).sum());
            for piece in several {
                whole.extend_from_slice(piece);
            }
            whole.freeze()
        }
    }
}
