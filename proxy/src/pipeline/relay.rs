//! Passes a request on whose body nobody reads, as a stream in both directions.
//!
//! The path gives the label where it says enough. [`upload`] carries a body. Another attempt is made only while no byte of the
//! body has been taken from the client; and where a backend may have worked on the request, or says
//! so by a 502, 503 or 504, only for methods that may be repeated (RFC 9110 §9.2.2), unless the route
//! says otherwise.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::answer::{Answer, Body, Relayed};
use super::authenticate::Caller;
use super::balance;
use super::classify::{self, Class};
use super::client::{Client, Head, content_length};
use super::context::RequestContext;
use super::error::{Error, Result};
use super::route::{self, Facts, Target};
use super::snapshot::Snapshot;
use super::upload::{self, Bounds};
use crate::config::{self, BackendName, Label, PoolName};
use crate::telemetry::Stage;
use crate::upstream::{self, AttemptError, Exchange, Outgoing, Retry};

/// Routes by the path and opens the exchange, body included.
///
/// # Errors
/// Those of routing, and the last attempt's.
pub(super) async fn run(
    cx: &mut RequestContext,
    snapshot: Arc<Snapshot>,
    caller: &Caller,
    client: &mut Client<'_>,
    head: &Head,
) -> Result<Answer> {
    let (target, bounds) = routed(cx, &snapshot, caller, head)?;
    // A body may take as long to come as an answer.
    drop(snapshot);
    let deadline = cx.started + target.route.timeouts.total;
    cx.deadline = Some(deadline);
    let mut candidates = balance::run(cx, &target);
    cx.enter(Stage::Forward);
    let ambiguous = target.route.retry_ambiguous;
    let ambiguous = ambiguous.unwrap_or_else(|| head.method.is_idempotent());
    let mut last = None;
    while let Some(candidate) = candidates.next() {
        let hop = candidate.hop.pool.config();
        let (pool, backend) = (hop.name.clone(), candidate.picked.backend.name().clone());
        cx.record.attempts += 1;
        cx.note_upstream(&pool, &backend);
        let out = Outgoing {
            method: head.method.clone(),
            path: head.path_and_query.clone(),
            headers: upstream::headers::relayed(&head.headers, hop, caller.bearer.as_deref()),
            body: bytes::Bytes::new(),
            may_resend: ambiguous,
        };
        let opening = open(client, head, &target, candidate.picked, out, bounds);
        let opened = timeout_at(deadline.into(), opening).await;
        match opened.unwrap_or(Err(Stop::Request(Error::DeadlineExceeded))) {
            Ok(exchange) => {
                let is_gateway_error = matches!(exchange.status().as_u16(), 502..=504);
                let answer = relayed(exchange, hop);
                if !is_gateway_error || client.has_body() || !ambiguous {
                    return Ok(answer);
                }
                last = Some(Last::Answer(answer, pool, backend));
            }
            Err(Stop::Request(error)) => return Err(error),
            Err(Stop::Upstream { source, untouched }) => {
                if source.is_free() {
                    candidates.not_reached();
                }
                let again = untouched
                    && match source.retry() {
                        Retry::Safe => true,
                        Retry::Ambiguous => ambiguous,
                        Retry::Never => false,
                    };
                let error = Error::of_attempt(pool, backend, source);
                last = match last {
                    Some(answer @ Last::Answer(..)) => Some(answer),
                    _ => Some(Last::Error(error)),
                };
                if !again {
                    break;
                }
            }
        }
    }
    match last {
        Some(Last::Answer(answer, pool, backend)) => Ok(spent(cx, answer, &pool, backend)),
        Some(Last::Error(error)) => Err(error),
        None => Err(candidates.none_left(&target)),
    }
}

/// What the client gets when no attempt gives it anything better.
enum Last {
    /// An upstream's own error, and who gave it.
    Answer(Answer, PoolName, BackendName),
    Error(Error),
}

/// Routes by the path.
fn routed(
    cx: &mut RequestContext,
    snapshot: &Snapshot,
    caller: &Caller,
    head: &Head,
) -> Result<(Target, Bounds)> {
    let class = Class {
        label: label_of(head.plain_path()).map(Label::new),
        ..Class::default()
    };
    classify::note_label(cx, snapshot, class.label.as_ref());
    let facts = Facts {
        head,
        caller,
        class: &class,
        prompt: None,
    };
    let target = route::run(cx, snapshot, &facts)?;
    let limit = snapshot.config.server.max_body_bytes;
    if content_length(&head.headers).is_some_and(|length| length > limit as u64) {
        return Err(Error::BodyTooLarge { limit });
    }
    let bounds = Bounds {
        bytes: limit,
        within: snapshot.config.server.body_timeout,
    };
    Ok((target, bounds))
}

fn relayed(exchange: Exchange, pool: &config::Pool) -> Answer {
    Answer {
        status: exchange.status(),
        headers: upstream::headers::shown(exchange.headers(), pool),
        body: Body::Relayed(Box::new(Relayed {
            begun: Vec::new(),
            exchange,
        })),
    }
}

/// An upstream's own error, when no attempt is left.
fn spent(
    cx: &mut RequestContext,
    mut answer: Answer,
    pool: &PoolName,
    backend: BackendName,
) -> Answer {
    cx.note_upstream(pool, &backend);
    let status = answer.status.as_u16();
    cx.fail(&Error::UpstreamErrorStatus { backend, status });
    let (name, value) = Error::RETRIES_SPENT;
    answer.headers.insert(name, value);
    answer
}

/// Why an exchange did not come about.
pub(super) enum Stop {
    /// The request cannot go on.
    Request(Error),
    Upstream {
        source: AttemptError,
        /// No byte of the body has been taken from the client.
        untouched: bool,
    },
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Request(error)
    }
}

/// The failure of a backend that has got nothing of a body.
fn untouched(source: AttemptError) -> Stop {
    Stop::Upstream {
        source,
        untouched: true,
    }
}

async fn open(
    client: &mut Client<'_>,
    head: &Head,
    target: &Target,
    picked: upstream::Picked,
    out: Outgoing,
    bounds: Bounds,
) -> std::result::Result<Exchange, Stop> {
    let timeouts = &target.route.timeouts;
    if !client.has_body() {
        let work = async { Ok(Exchange::open(picked, &out, timeouts).await) };
        return client.unless_gone(work).await?.map_err(untouched);
    }
    // The client is watched only once something of its body has been read.
    let length = content_length(&head.headers);
    let sending = Exchange::start(picked, out, length, timeouts).await;
    upload::run(client, sending.map_err(untouched)?, bounds).await
}

/// The label that a path gives on its own.
fn label_of(path: &str) -> Option<&'static str> {
    match path {
        "/v1/audio/transcriptions" | "/v1/audio/translations" => Some("stt"),
        "/v1/audio/speech" => Some("tts"),
        _ if path.starts_with("/v1/images/") => Some("image_generation"),
        _ if path == "/v1/videos" || path.starts_with("/v1/videos/") => Some("video"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::label_of;

    #[test]
    fn a_path_that_says_enough_gives_the_label() {
        assert_eq!(label_of("/v1/audio/speech"), Some("tts"));
        assert_eq!(label_of("/v1/images/edits"), Some("image_generation"));
        assert_eq!(label_of("/v1/videos/abc"), Some("video"));
        assert_eq!(label_of("/v1/videosphere"), None);
        assert_eq!(label_of("/v1/files"), None);
    }
}
