//! Passes a request on whose body nobody reads, as a stream in both directions.
//!
//! The path gives the label where it says enough. Another attempt is made only while no byte of the
//! body has been taken from the client; and where a backend may have worked on the request, or says
//! so by a 502, 503 or 504, only for methods that may be repeated (RFC 9110 §9.2.2), unless the route
//! says otherwise.

use std::sync::Arc;

use super::answer::{Answer, Body, Relayed};
use super::authenticate::Caller;
use super::balance;
use super::classify::{self, Class};
use super::client::{Client, Head, content_length};
use super::context::RequestContext;
use super::error::{Error, Result};
use super::route::{self, Facts, Target};
use super::snapshot::Snapshot;
use crate::config::{self, Label};
use crate::telemetry::Stage;
use crate::upstream::{self, AttemptError, Exchange, Outgoing, Retry, Wrote};

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
    let class = Class {
        label: label_of(head.plain_path()).map(Label::new),
        ..Class::default()
    };
    classify::note_label(cx, &snapshot, class.label.as_ref());
    let facts = Facts {
        head,
        caller,
        class: &class,
        prompt: None,
    };
    let target = route::run(cx, &snapshot, &facts)?;
    let limit = snapshot.config.server.max_body_bytes;
    if content_length(&head.headers).is_some_and(|length| length > limit as u64) {
        return Err(Error::BodyTooLarge { limit });
    }
    // A body may take as long to come as an answer.
    drop(snapshot);
    let mut candidates = balance::run(cx, &target);
    cx.enter(Stage::Forward);
    let ambiguous = target.route.retry_ambiguous;
    let ambiguous = ambiguous.unwrap_or_else(|| head.method.is_idempotent());
    let mut last = None;
    while let Some(candidate) = candidates.next() {
        cx.record.attempts += 1;
        cx.record.pool = Some(candidate.hop.pool.config().name.clone());
        let backend = candidate.picked.backend.name().clone();
        cx.record.backend = Some(backend.clone());
        let bearer = caller.bearer.as_deref();
        let out = Outgoing {
            method: head.method.clone(),
            path: head.path_and_query.clone(),
            headers: upstream::headers::relayed(&head.headers, candidate.hop.pool.config(), bearer),
            body: bytes::Bytes::new(),
            may_resend: ambiguous,
        };
        let config = candidate.hop.pool.config();
        let pool = config.name.clone();
        let opened = open(client, head, &target, candidate.picked, out, limit).await;
        match opened {
            Ok(exchange) => {
                let is_gateway_error = matches!(exchange.status().as_u16(), 502..=504);
                let answer = relayed(exchange, config);
                if !is_gateway_error || client.has_body() || !ambiguous {
                    return Ok(answer);
                }
                // Kept for the client, in case nobody gives a better answer.
                last = Some(Ok(answer));
            }
            Err(Stop::Client(error)) => return Err(error),
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
                match last {
                    Some(Ok(_)) if again => {}
                    Some(Ok(answer)) => return Ok(spent(cx, answer)),
                    _ if again => last = Some(Err(error)),
                    _ => return Err(error),
                }
            }
        }
    }
    last.unwrap_or_else(|| Err(candidates.none_left(&target)))
        .map(|answer| spent(cx, answer))
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
fn spent(cx: &mut RequestContext, mut answer: Answer) -> Answer {
    if let Some(backend) = cx.record.backend.clone() {
        let status = answer.status.as_u16();
        cx.fail(&Error::UpstreamErrorStatus { backend, status });
    }
    let (name, value) = Error::RETRIES_SPENT;
    answer.headers.insert(name, value);
    answer
}

/// Why an exchange did not come about.
enum Stop {
    Client(Error),
    Upstream {
        source: AttemptError,
        /// No byte of the body has been taken from the client.
        untouched: bool,
    },
}

async fn open(
    client: &mut Client<'_>,
    head: &Head,
    target: &Target,
    picked: upstream::Picked,
    out: Outgoing,
    limit: usize,
) -> std::result::Result<Exchange, Stop> {
    let timeouts = &target.route.timeouts;
    let length = content_length(&head.headers);
    if !client.has_body() {
        let work = async { Ok(Exchange::open(picked, &out, timeouts).await) };
        return client
            .unless_gone(work)
            .await
            .map_err(Stop::Client)?
            .map_err(|source| Stop::Upstream {
                source,
                untouched: true,
            });
    }
    // The client is watched only once its body has been read.
    let mut sending = Exchange::start(picked, out, length, timeouts)
        .await
        .map_err(|source| Stop::Upstream {
            source,
            untouched: true,
        })?;
    let mut left = limit;
    while let Some(chunk) = client.chunk().await.map_err(Stop::Client)? {
        left = left
            .checked_sub(chunk.len())
            .ok_or(Stop::Client(Error::BodyTooLarge { limit }))?;
        // The upstream may have answered already (413): its head is read below.
        match sending.write(chunk).await {
            Ok(Wrote::More) => {}
            Ok(Wrote::Stop) => {
                client.leave_body();
                break;
            }
            Err(source) => {
                return Err(Stop::Upstream {
                    source,
                    untouched: false,
                });
            }
        }
    }
    // Boxed: it is large.
    let work = Box::pin(async { Ok(sending.finish().await) });
    client
        .unless_gone(work)
        .await
        .map_err(Stop::Client)?
        .map_err(|source| Stop::Upstream {
            source,
            untouched: false,
        })
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
