//! The data plane's application: one request after another on each client connection.
//!
//! Invariants: each request takes the current snapshot once; a connection that waits for a request
//! closes when the server stops; probes are answered on this port, the admin API never is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::live::Live;
use crate::admin::Readiness;
use crate::api;
use crate::pipeline::{self, Client, Head, RequestContext};

/// Longest `x-request-id` that is taken over from a client.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The application that each worker runs.
pub(super) struct DataPlane {
    live: Arc<Live>,
    options: HttpServerOptions,
}

impl DataPlane {
    /// Serves from what is live.
    pub(super) fn new(live: Arc<Live>) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(Duration::from_secs(300));
        Self { live, options }
    }
}

#[async_trait]
impl HttpServerApp for DataPlane {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let mut stopping = shutdown.clone();
        let read = tokio::select! {
            // A request that is here already is served.
            biased;
            read = session.read_request() => read,
            // An idle connection has nothing to finish.
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        match read {
            Ok(true) => {}
            Ok(false) => return None,
            Err(_) => {
                refuse_unreadable(&mut session).await;
                return None;
            }
        }
        // A client that sends its next request early must not look like one that left.
        session.set_pipelining_enabled(true);
        self.serve(&mut session, shutdown).await?;
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

impl DataPlane {
    /// Serves the request whose head was read. None: the connection must close.
    async fn serve(&self, session: &mut ServerSession, shutdown: &ShutdownWatch) -> Option<()> {
        let snapshot = self.live.snapshot();
        let keepalive = (!*shutdown.borrow())
            .then(|| snapshot.config.server.keepalive_timeout.as_secs().max(1));
        session.set_keepalive(keepalive);
        let (mut client, head) = Client::new(session);
        if let Some((status, word)) = self.probe(&head) {
            let sent = client
                .send(status, plain_text(), Bytes::from_static(word))
                .await;
            return sent.ok();
        }
        let mut cx = RequestContext::new(Arc::clone(self.live.shared()), request_id(&head));
        cx.expose_all = snapshot.config.telemetry.expose_all;
        cx.access_log = snapshot.config.telemetry.access_log;
        pipeline::serve(cx, snapshot, head, &mut client).await;
        (!client.is_gone()).then_some(())
    }

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

/// A head that cannot be read gets a clear answer, and the connection ends: nobody knows where the
/// next request begins.
async fn refuse_unreadable(session: &mut ServerSession) {
    session.set_keepalive(None);
    let body = api::error::body(
        "the request's head is malformed",
        "invalid_request_error",
        None,
        "malformed_request",
    );
    // The client may be gone; there is nobody else to tell.
    let _ = session.respond_error_with_body(400, body).await;
}
