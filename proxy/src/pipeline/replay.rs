//! Turns a stored answer into the form that this client asked for.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::answer::{Answer, Body};
use crate::api::prompt::{Endpoint, Prompt};
use crate::cache::{Stored, replay};

/// A stream for a client that streams, a plain answer for one that does not.
pub(super) fn run(stored: &Stored, prompt: &Prompt) -> Answer {
    // Embeddings have no streamed form.
    if !prompt.parameters.streaming || stored.endpoint == Endpoint::Embeddings {
        return Answer::json(StatusCode::OK, replay::plain(stored));
    }
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Answer {
        status: StatusCode::OK,
        headers,
        body: Body::Replay(replay::stream(stored, prompt.parameters.include_usage)),
    }
}
