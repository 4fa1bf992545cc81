//! One attempt: an exchange with one backend, up to the point from which there is no way back.
//!
//! A streamed answer commits with its first content, a plain one when it is there as a whole, so
//! that a failure before that can still go elsewhere. [`Failure`] says whether it may.

use http::StatusCode;

use super::answer::{Answer, Body, Live, Relayed};
use super::balance::Candidate;
use super::context::RequestContext;
use super::error::Error;
use super::events::{Events, EventsError};
use super::reply::{self, Plain};
use crate::api::request::Request;
use crate::api::sse::Event;
use crate::config::{BackendName, Commit, Route, Timeouts};
use crate::upstream::{Exchange, Outgoing, Retry, UpstreamError};

/// What an attempt gave in place of an answer that the client gets.
pub(super) struct Failure {
    pub(super) error: Error,
    retry: Retry,
    /// The upstream's own answer, passed on when nobody else gives a better one.
    pub(super) answer: Option<Answer>,
}

impl Failure {
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
    let pool = candidate.hop.pool.config().name.clone();
    let exchange = Exchange::open(candidate.picked, out, &timeouts(request, route))
        .await
        .map_err(|source| {
            let retry = source.retry();
            let error = Error::of_attempt(pool, backend.clone(), source);
            Failure {
                error,
                retry,
                answer: None,
            }
        })?;
    let status = exchange.status();
    let headers = exchange.headers().clone();
    if status == StatusCode::OK && reply::is_event_stream(&headers) {
        let events = Events::new(exchange, request);
        let live = commit(cx, events, route).await?;
        return Ok(Answer {
            status,
            headers,
            body: Body::Live(Box::new(live)),
        });
    }
    let plain = reply::read(exchange)
        .await
        .map_err(|error| broken(error.into(), &backend))?;
    let body = match plain {
        Plain::Whole(body) => Body::Whole(body, None),
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
        502..=504 => Err(Failure {
            error: Error::UpstreamErrorStatus {
                backend,
                status: status.as_u16(),
            },
            retry: Retry::Safe,
            answer: Some(answer),
        }),
        _ => Ok(answer),
    }
}

/// Reads a stream up to its first content, or not at all where the route commits with the head.
async fn commit(
    cx: &mut RequestContext,
    mut events: Events,
    route: &Route,
) -> Result<Live, Failure> {
    let mut begun: Vec<Event> = Vec::new();
    if route.commit == Commit::Head {
        return Ok(Live {
            begun,
            events,
            seat: None,
        });
    }
    loop {
        match events.next_before_content().await {
            Err(error) => return Err(stream_failed(error, &events.backend)),
            // A clean end without content is whole when it has its terminal: an empty answer.
            Ok(None) if events.progress.is_complete_at_clean_end() => break,
            Ok(None) => {
                let error = Error::UpstreamIncomplete {
                    backend: events.backend.clone(),
                };
                return Err(Failure {
                    error,
                    retry: Retry::Ambiguous,
                    answer: None,
                });
            }
            Ok(Some((_, seen))) if seen.error => {
                let error = Error::UpstreamErrorEvent {
                    backend: events.backend.clone(),
                };
                return Err(Failure {
                    error,
                    retry: Retry::Ambiguous,
                    answer: None,
                });
            }
            Ok(Some((event, seen))) => {
                begun.push(event);
                if seen.content || seen.done {
                    break;
                }
            }
        }
    }
    cx.note_first_token();
    Ok(Live {
        begun,
        events,
        seat: None,
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
    };
    Failure {
        error,
        retry,
        answer: None,
    }
}

fn broken(error: EventsError, backend: &BackendName) -> Failure {
    Failure {
        // The answer had begun: another attempt would be paid for twice.
        retry: Retry::Never,
        ..stream_failed(error, backend)
    }
}
