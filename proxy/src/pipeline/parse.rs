//! Receives a request's body and reads it.

use std::time::Duration;

use http::header;

use super::client::{Client, Head};
use super::context::RequestContext;
use super::error::{Error, Result};
use crate::api::prompt::Endpoint;
use crate::api::request::{self, Request};
use crate::config::Server;
use crate::telemetry::Stage;

/// Texts above this many bytes are parsed on the blocking pool, not on the worker.
const WORKER_BYTES: usize = 256 * 1024;

/// Reads and parses the body.
///
/// # Errors
/// Those of [`Client::body`], [`Error::EncodedBody`], and [`Error::Invalid`] that names the field.
pub(super) async fn run(
    cx: &mut RequestContext,
    server: &Server,
    client: &mut Client<'_>,
    head: &Head,
    endpoint: Endpoint,
) -> Result<Request> {
    cx.enter(Stage::Parse);
    refuse_encoded(head)?;
    let within: Duration = server.body_timeout;
    let body = client.body(head, server.max_body_bytes, within).await?;
    cx.record.body_bytes_in = body.len() as u64;
    let request = if body.len() <= WORKER_BYTES {
        request::parse(endpoint, body)?
    } else {
        tokio::task::spawn_blocking(move || request::parse(endpoint, body))
            .await
            .map_err(|_| Error::Unreadable {
                reason: "the parser failed".to_owned(),
            })??
    };
    cx.record.model = Some(request.prompt.model.clone());
    cx.record.stream = request.prompt.parameters.streaming;
    cx.record.prompt_tokens = request.prompt.prompt_tokens;
    Ok(request)
}

/// Decisions need the text: a compressed body cannot be read here.
fn refuse_encoded(head: &Head) -> Result<()> {
    match head.text(header::CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(encoding) => Err(Error::EncodedBody {
            encoding: encoding.chars().take(32).collect(),
        }),
    }
}
