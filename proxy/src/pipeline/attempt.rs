//! One attempt: an exchange with one backend, up to the point from which there is no way back.
//!
//! A streamed answer commits with its first content, a plain one when it is there as a whole, so
//! that a failure before that can still go elsewhere. [`Failure`] says whether it may.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::answer::{Answer, Body, Live, Relayed, Whole};
use super::balance::Candidate;
use super::context::RequestContext;
use super::error::Error;
use super::events::{Events, EventsError};
use super::reply::{self, Plain};
use crate::api;
use crate::api::plain::{self, Unreadable};
use crate::api::request::Request;
use crate::api::sse::Event;
use crate::config::{BackendName, Commit, Route, Timeouts};
use crate::telemetry::CacheResult;
use crate::upstream::{self, Exchange, Outgoing, Retry, UpstreamError};

/// Memory that an event takes besides its bytes, roughly: an empty one costs a byte on the wire.
const EVENT_COST: usize = 256;

/// What an attempt gave in place of an answer that the client gets.
pub(super) struct Failure {
    pub(super) error: Error,
    retry: Retry,
    /// Nobody was listening: it does not count as an attempt.
    pub(super) is_free: bool,
    /// The upstream's own answer, passed on when nobody else gives a better one.
    pub(super) answer: Option<Box<Answer>>,
}

impl Failure {
    fn new(error: Error, retry: Retry) -> Self {
        Self {
            error,
            retry,
            is_free: false,
            answer: None,
        }
    }

    pub(super) fn may_retry(&self, ambiguous_allowed: bool) -> bool {
        match self.retry {
            Retry::Safe => true,
            Retry::Ambiguous => ambiguous_allowed,
            Retry::Never => false,
        }
    }
}

/// A plain answer comes as a whole, after its last token: it has the whole time for its first byte.
fn timeouts(request: &Request, route: &Route) -> Timeouts {
    match request.prompt.parameters.streaming {
        true => route.timeouts,
        false => Timeouts {
            first_token: route.timeouts.total,
            ..route.timeouts
        },
    }
}

/// One exchange, up to the commit point.
pub(super) async fn run(
    cx: &mut RequestContext,
    request: &Request,
    route: &Route,
    candidate: Candidate<'_>,
    out: &Outgoing,
) -> Result<Answer, Failure> {
    let backend = candidate.picked.backend.name().clone();
    let config = candidate.hop.pool.config();
    let pool = config.name.clone();
    let exchange = Exchange::open(candidate.picked, out, &timeouts(request, route))
        .await
        .map_err(|source| {
            let (retry, is_free) = (source.retry(), source.is_free());
            let error = Error::of_attempt(pool, backend.clone(), source);
            Failure {
                is_free,
                ..Failure::new(error, retry)
            }
        })?;
    let status = exchange.status();
    let headers = upstream::headers::shown(exchange.headers(), config);
    if status == StatusCode::OK && reply::is_event_stream(&headers) {
        let held = cx.shared.admission.buffered.holder();
        let events = Events::new(exchange, request, held);
        return commit(cx, events, headers, route).await;
    }
    let may_be_stored = cx.record.cache == CacheResult::Miss;
    let plain = reply::read(exchange, may_be_stored, &mut cx.answer_held)
        .await
        .map_err(|error| broken(error.into(), &backend))?;
    let body = match plain {
        Plain::Whole(bytes) => {
            let judged = status.is_success() && reply::is_json(&headers);
            let facts = judged.then(|| plain::inspect(request.prompt.endpoint, &bytes));
            // Cut off where its framing could not tell, or never an answer. It was paid for.
            if status == StatusCode::OK && matches!(facts, Some(Err(Unreadable::NotJson))) {
                let error = Error::UpstreamIncomplete { backend };
                return Err(Failure::new(error, Retry::Never));
            }
            Body::Whole(Whole {
                bytes,
                facts: facts.and_then(Result::ok),
                seat: None,
            })
        }
        Plain::Open { begun, exchange } => Body::Relayed(Box::new(Relayed {
            begun,
            exchange: *exchange,
        })),
    };
    let answer = Answer {
        status,
        headers,
        body,
    };
    match status.as_u16() {
        502..=504 => {
            let error = Error::UpstreamErrorStatus {
                backend,
                status: status.as_u16(),
            };
            Err(Failure {
                answer: Some(Box::new(answer)),
                ..Failure::new(error, Retry::Safe)
            })
        }
        _ => Ok(answer),
    }
}

/// Reads a stream up to its first content, or not at all where the route commits with the head.
async fn commit(
    cx: &mut RequestContext,
    mut events: Events,
    headers: HeaderMap,
    route: &Route,
) -> Result<Answer, Failure> {
    let mut begun: Vec<Event> = Vec::new();
    if route.commit == Commit::Content {
        loop {
            match events.next_before_content().await {
                Err(error) => return Err(stream_failed(error, &events.backend)),
                // A clean end without content is whole when it has its terminal: an empty answer.
                Ok(None) if events.progress.is_complete_at_clean_end() => break,
                Ok(None) => {
                    let backend = events.backend.clone();
                    let error = Error::UpstreamIncomplete { backend };
                    return Err(Failure::new(error, Retry::Ambiguous));
                }
                Ok(Some((event, seen))) if seen.error => {
                    return error_event(cx, &event, headers, events.backend.clone());
                }
                Ok(Some((event, seen))) => {
                    let kept = events.keep(event.raw.len() + EVENT_COST);
                    begun.push(event);
                    if seen.content || seen.done {
                        break;
                    }
                    kept.map_err(|error| stream_failed(error, &events.backend))?;
                }
            }
        }
        cx.note_first_token();
    }
    let live = Live {
        begun,
        events,
        seat: None,
    };
    Ok(Answer {
        status: StatusCode::OK,
        headers,
        body: Body::Live(Box::new(live)),
    })
}

/// An error in place of the first content. Servers send their head before they look at a request, so
/// this is often what would have been a 400 or a 503: it becomes that answer, in its own words. One
/// that tells no status is a failure that another attempt may mend.
fn error_event(
    cx: &mut RequestContext,
    event: &Event,
    mut headers: HeaderMap,
    backend: BackendName,
) -> Result<Answer, Failure> {
    let words = event.data.clone().unwrap_or_default();
    let told = api::error::told_status(&words);
    let status = told.and_then(|status| StatusCode::from_u16(status).ok());
    headers.remove(header::CONTENT_LENGTH);
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let answer = Answer {
        status: status.unwrap_or(StatusCode::BAD_GATEWAY),
        headers,
        body: Body::Whole(Whole::of(words)),
    };
    let error = Error::UpstreamErrorEvent { backend };
    let retry = match told {
        Some(502..=504) => Retry::Safe,
        Some(status) => {
            if status >= 500 {
                cx.fail(&error);
            }
            return Ok(answer);
        }
        None => Retry::Ambiguous,
    };
    Err(Failure {
        answer: Some(Box::new(answer)),
        ..Failure::new(error, retry)
    })
}

fn stream_failed(error: EventsError, backend: &BackendName) -> Failure {
    let backend = backend.clone();
    let (error, retry) = match error {
        EventsError::Upstream(UpstreamError::Timeout) => {
            (Error::UpstreamTimeout { backend }, Retry::Never)
        }
        EventsError::Upstream(source) => {
            (Error::UpstreamBroken { backend, source }, Retry::Ambiguous)
        }
        EventsError::TooLarge => (Error::UpstreamIncomplete { backend }, Retry::Never),
        EventsError::Full => (Error::BuffersFull, Retry::Never),
        EventsError::Cut => (Error::UpstreamIncomplete { backend }, Retry::Ambiguous),
    };
    Failure::new(error, retry)
}

fn broken(error: EventsError, backend: &BackendName) -> Failure {
    Failure {
        // The answer had begun: another attempt would be paid for twice.
        retry: Retry::Never,
        ..stream_failed(error, backend)
    }
}
