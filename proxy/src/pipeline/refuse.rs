//! Tells the client why there is no answer, in OpenAI's form.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::client::Client;
use super::context::RequestContext;
use super::error::Error;
use crate::telemetry::{Outcome, headers};

/// Sends an error, unless nobody is there to read it.
pub(super) async fn run(
    cx: &mut RequestContext,
    error: &Error,
    client: &mut Client<'_>,
) -> Outcome {
    cx.close_stage();
    cx.fail(error);
    if client.is_gone() {
        cx.record.status = error.row().status;
        return Outcome::Aborted;
    }
    let status =
        StatusCode::from_u16(error.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    cx.record.status = status.as_u16();
    if client.awaits_continue() {
        client.leave_body();
    }
    client.skip_arrived_body();
    let sent = client.send(status, head(cx, error), error.body()).await;
    cx.record.body_bytes_in = client.body_bytes_received();
    cx.record.body_bytes_out = client.body_bytes_sent();
    if sent.is_err() {
        return Outcome::Aborted;
    }
    client.linger().await;
    Outcome::Complete
}

fn head(cx: &RequestContext, error: &Error) -> HeaderMap {
    let mut head = HeaderMap::with_capacity(12);
    head.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Error::Unauthenticated = error {
        head.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Error::MethodNotAllowed { allowed, .. } = error {
        head.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    if let Some(seconds) = error.retry_after() {
        head.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.retries_spent() {
        let (name, value) = Error::RETRIES_SPENT;
        head.insert(name, value);
    }
    for (name, value) in headers::response(&cx.record, cx.expose_all) {
        head.insert(name, value);
    }
    head
}
