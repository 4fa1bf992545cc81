//! Sends a request upstream and awaits the point from which there is no way back.
//!
//! Retry and fallback live here alone; one try is in [`attempt`]. Whether another may follow is
//! decided in [`Failure::may_retry`], from what was sent and what came back: connect and TLS
//! failures, refused streams, 502, 503 and 504 are safe; a connection that broke before any byte of
//! the answer is ambiguous and up to the route; 4xx and 500 are answers.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{sleep, timeout_at};

use super::answer::Answer;
use super::attempt::{self, Failure};
use super::authenticate::Caller;
use super::balance::Candidates;
use super::client::Head;
use super::context::RequestContext;
use super::error::{Error, Result};
use super::route::{Hop, Target};
use super::sampling;
use crate::api::request::{Changes, Request};
use crate::config::{BackendName, PoolName, Route};
use crate::telemetry::Stage;
use crate::upstream::{self, Outgoing};

/// Longest pause before a backend is tried again: a random part of it is waited (full jitter,
/// "Exponential Backoff And Jitter", AWS, 2015).
const BACKOFF: Duration = Duration::from_millis(25);

/// An answer and whose it is.
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    /// The model as it was sent.
    pub(crate) model: String,
    /// Another pool than the route's first gave it.
    pub(crate) fallback: bool,
}

/// Tries the candidates until one answers.
///
/// # Errors
/// The last attempt's failure, or [`Error::DeadlineExceeded`].
///
/// # Cancel safety
/// Dropping the future closes the running exchange and releases its in-flight count.
pub(super) async fn run(
    cx: &mut RequestContext,
    request: &Request,
    caller: &Caller,
    head: &Head,
    target: &Target,
    mut candidates: Candidates<'_>,
) -> Result<Reply> {
    cx.enter(Stage::Forward);
    let route = &target.route;
    let deadline = cx.started + route.timeouts.total;
    cx.deadline = Some(deadline);
    let ambiguous = route.retry_ambiguous.unwrap_or(true);
    let mut last: Option<Failure> = None;
    let mut refused: Option<Refused> = None;
    while let Some(candidate) = candidates.next() {
        if candidate.again {
            #[expect(clippy::disallowed_methods, reason = "backs off")]
            sleep(BACKOFF.mul_f64(fastrand::f64())).await;
        }
        cx.record.attempts += 1;
        let pool = &candidate.hop.pool.config().name;
        cx.note_upstream(pool, candidate.picked.backend.name());
        let (model, out) = outgoing(cx, request, caller, head, route, candidate.hop);
        let fallback = candidate.fallback;
        let tried = timeout_at(
            deadline.into(),
            attempt::run(cx, request, route, candidate, &out),
        )
        .await;
        let failure = match tried {
            Err(_) => return Err(Error::DeadlineExceeded),
            Ok(Ok(answer)) => {
                let passes = route.fallback_on_429
                    && answer.status == StatusCode::TOO_MANY_REQUESTS
                    && candidates.has_fallback();
                if !passes {
                    cx.record.upstream_model = Some(model.clone());
                    return Ok(Reply {
                        answer,
                        model,
                        fallback,
                    });
                }
                let reply = Reply {
                    answer,
                    model,
                    fallback,
                };
                refused.get_or_insert_with(|| Refused::of(cx, reply));
                candidates.leave_pool();
                last = None;
                continue;
            }
            Ok(Err(failure)) => failure,
        };
        if failure.is_free {
            candidates.not_reached();
        }
        if !failure.may_retry(ambiguous) || !candidates.has_more() {
            return match refused {
                Some(refused) => Ok(refused.give(cx)),
                None => give_up(cx, failure, model, fallback),
            };
        }
        last = Some(failure);
    }
    if let Some(refused) = refused {
        return Ok(refused.give(cx));
    }
    match last {
        Some(failure) => give_up(cx, failure, request.prompt.model.clone(), false),
        None => Err(candidates.none_left(target)),
    }
}

/// A 429, kept for the client in case nobody gives a better answer: it says when to come again, which a
/// fallback's failure does not.
struct Refused {
    reply: Reply,
    pool: Option<PoolName>,
    backend: Option<BackendName>,
}

impl Refused {
    /// Keeps the answer of the attempt that the record names.
    fn of(cx: &RequestContext, reply: Reply) -> Self {
        Self {
            reply,
            pool: cx.record.pool.clone(),
            backend: cx.record.backend.clone(),
        }
    }

    /// Gives it, under the names of who gave it.
    fn give(self, cx: &mut RequestContext) -> Reply {
        cx.record.pool = self.pool;
        cx.record.backend = self.backend;
        cx.record.upstream_model = Some(self.reply.model.clone());
        self.reply
    }
}

/// Passes on the upstream's own words where there are any.
fn give_up(
    cx: &mut RequestContext,
    failure: Failure,
    model: String,
    fallback: bool,
) -> Result<Reply> {
    match failure.answer {
        Some(mut answer) => {
            cx.fail(&failure.error);
            let (name, value) = Error::RETRIES_SPENT;
            answer.headers.insert(name, value);
            cx.record.upstream_model = Some(model.clone());
            Ok(Reply {
                answer: *answer,
                model,
                fallback,
            })
        }
        None => Err(failure.error),
    }
}

/// The request as this pool's backends shall see it, with the model name in it.
fn outgoing(
    cx: &mut RequestContext,
    request: &Request,
    caller: &Caller,
    head: &Head,
    route: &Route,
    hop: &Hop,
) -> (String, Outgoing) {
    let changes = changes(request, route, hop);
    cx.record.changed = request.changed(&changes);
    let body = request.render(&changes);
    let bearer = caller.bearer.as_deref();
    let out = Outgoing {
        method: head.method.clone(),
        path: head.path_and_query.clone(),
        headers: upstream::headers::request(&head.headers, hop.pool.config(), bearer),
        body,
        may_resend: route.retry_ambiguous.unwrap_or(true),
    };
    let model = changes
        .model
        .unwrap_or_else(|| request.prompt.model.clone());
    (model, out)
}

/// Model name, defaults and caps. A model name that stays is not rewritten.
fn changes(request: &Request, route: &Route, hop: &Hop) -> Changes {
    let asked = &request.prompt.model;
    Changes {
        model: hop.model.clone().filter(|model| model != asked),
        ..sampling::changes(route)
    }
}
