//! The data plane's application: one request after another on each client connection.
//!
//! Invariants: each request takes the current snapshot once; a connection that waits for a request
//! closes when the server stops; probes are answered on this port, the admin API never is.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pingora::protocols::http::ServerSession;

use super::connection::{After, Application, Settings, Unreadable};
use super::live::Live;
use crate::admin::Readiness;
use crate::admission::Standing;
use crate::api;
use crate::pipeline::{self, Client, Head, RequestContext};

/// Longest `x-request-id` that is taken over from a client.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The application of the data plane's listener.
pub(super) struct DataPlane {
    live: Arc<Live>,
}

impl DataPlane {
    /// Serves from what is live.
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self { live }
    }
}

#[async_trait]
impl Application for DataPlane {
    fn settings(&self) -> Settings {
        let snapshot = self.live.snapshot();
        let server = &snapshot.config.server;
        Settings {
            header_timeout: server.header_timeout,
            max_header_bytes: server.max_header_bytes,
            max_headers: server.max_headers,
            max_streams: server.max_streams_per_connection,
            keepalive_timeout: server.keepalive_timeout,
        }
    }

    fn is_balancer(&self, address: IpAddr) -> bool {
        let snapshot = self.live.snapshot();
        snapshot.config.server.proxy_protocol_from.contain(address)
    }

    async fn serve(&self, session: &mut ServerSession, standing: Standing) -> After {
        let snapshot = self.live.snapshot();
        let shared = self.live.shared();
        let (mut client, head) = Client::new(session, &shared.closing, standing);
        if let Some((status, word)) = self.probe(&head) {
            let sent = client
                .send(status, plain_text(), Bytes::from_static(word))
                .await;
            return if sent.is_ok() {
                After::Stays
            } else {
                After::Left
            };
        }
        let mut cx = RequestContext::new(Arc::clone(shared), request_id(&head));
        cx.expose_all = snapshot.config.telemetry.expose_all;
        cx.access_log = snapshot.config.telemetry.access_log;
        pipeline::serve(cx, snapshot, head, &mut client).await;
        match (client.is_gone(), client.has_left()) {
            (false, _) => After::Stays,
            (true, false) => After::Cut,
            (true, true) => After::Left,
        }
    }

    /// A head that cannot be read gets a clear answer.
    fn refusal(&self, why: Unreadable) -> Option<(StatusCode, Bytes)> {
        let status = match why {
            Unreadable::Malformed(_) => StatusCode::BAD_REQUEST,
            Unreadable::Slow => StatusCode::REQUEST_TIMEOUT,
            Unreadable::TooLarge | Unreadable::TooManyHeaders => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
        };
        let (message, code, reason) = match why {
            Unreadable::Malformed(fault) => (
                format!("the request's head is malformed: {fault}"),
                "malformed_request",
                "malformed",
            ),
            Unreadable::Slow => (
                "the request's head did not arrive in time".to_owned(),
                "header_timeout",
                "slow",
            ),
            Unreadable::TooLarge => (
                "the request's head is larger than this server takes".to_owned(),
                "header_too_large",
                "too_large",
            ),
            Unreadable::TooManyHeaders => (
                "the request has more header fields than this server takes".to_owned(),
                "too_many_headers",
                "too_large",
            ),
        };
        let metrics = &self.live.shared().metrics;
        metrics.unreadable.with_label_values(&[reason]).inc();
        let body = api::error::body(&message, "invalid_request_error", None, code);
        Some((status, body))
    }
}

impl DataPlane {
    /// `/livez`, `/readyz` and `/health`: one word each.
    fn probe(&self, head: &Head) -> Option<(StatusCode, &'static [u8])> {
        match head.path.as_str() {
            "/livez" => Some((StatusCode::OK, b"alive")),
            "/readyz" | "/health" => {
                let readiness = self.live.readiness();
                let (status, word) = match readiness {
                    Readiness::Ready if head.path == "/health" => (StatusCode::OK, "ok"),
                    Readiness::Ready => (StatusCode::OK, readiness.as_str()),
                    Readiness::Starting | Readiness::Draining => {
                        (StatusCode::SERVICE_UNAVAILABLE, readiness.as_str())
                    }
                };
                Some((status, word.as_bytes()))
            }
            _ => None,
        }
    }
}

fn plain_text() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers
}

/// The client's own id where it is short and printable, else a new one.
fn request_id(head: &Head) -> String {
    let usable = |id: &&str| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    head.text("x-request-id")
        .filter(usable)
        .map_or_else(|| format!("req-{:032x}", fastrand::u128(..)), str::to_owned)
}
