//! One backend's HTTP: reads a request, picks the reply, sends it at the model's pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use serde_json::{Value, json};

use super::faults::{self, Fault};
use super::persona::Persona;
use super::reply::{Reply, Script};
use super::{Pace, chat, completions, embeddings};

/// Largest request that is read.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// Events of a broken stream that still arrive.
const BROKEN_AFTER: usize = 4;

/// A made-up model behind an address.
pub(super) struct Model {
    name: &'static str,
    persona: Persona,
    pace: Pace,
    requests: AtomicU64,
    last_body: Mutex<Value>,
}

/// What becomes of the connection.
enum Next {
    Keep,
    Cut,
}

impl Model {
    pub(super) fn new(name: &'static str, persona: Persona, pace: Pace) -> Self {
        Self {
            name,
            persona,
            pace,
            requests: AtomicU64::new(0),
            last_body: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn last_body(&self) -> Value {
        self.last_body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn reply(&self, path: &str, body: &[u8]) -> Reply {
        let Ok(request) = serde_json::from_slice::<Value>(body) else {
            return Reply::error(400, None, "The body is not JSON.");
        };
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let fault = request["model"].as_str().and_then(faults::of);
        if let Some(Fault::Status(status)) = fault {
            return Reply::error(status, None, "An error on demand.");
        }
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let id = format!("{}-{number}", self.name);
        let mut reply = match path {
            "/v1/chat/completions" => {
                chat::reply(self.persona, &request, &format!("chatcmpl-{id}"), created)
            }
            "/v1/completions" => {
                completions::reply(self.persona, &request, &format!("cmpl-{id}"), created)
            }
            "/v1/embeddings" => embeddings::reply(&request),
            _ => Reply::error(404, None, "There is nothing at this path."),
        };
        if let (Some(Fault::BrokenStream), Reply::Stream(script)) = (fault, &mut reply) {
            script.cut_after = Some(BROKEN_AFTER);
        }
        *self
            .last_body
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = request;
        reply
    }

    async fn answer(&self, session: &mut ServerSession) -> pingora::Result<Next> {
        let head = session.req_header();
        let path = head.uri.path().to_owned();
        match (head.method.as_str(), path.as_str()) {
            ("GET", "/health") => send_json(session, 200, &json!({"status": "ok"})).await,
            ("GET", "/v1/models") => {
                let model = json!({"id": self.name, "object": "model", "owned_by": "demo"});
                send_json(session, 200, &json!({"object": "list", "data": [model]})).await
            }
            ("POST", _) => {
                let Some(body) = read_body(session).await? else {
                    return Ok(Next::Cut);
                };
                match self.reply(&path, &body) {
                    Reply::Json {
                        status,
                        body,
                        tokens,
                    } => {
                        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
                        if tokens > 0 {
                            let thinking = self.pace.first_token + self.pace.token * tokens;
                            think(thinking).await;
                        }
                        send_json(session, status, &body).await
                    }
                    Reply::Stream(script) => self.send_stream(session, script).await,
                }
            }
            _ => {
                let body = json!({"error": {
                    "message": "There is nothing at this path.",
                    "type": "invalid_request_error", "param": null, "code": "not_found",
                }});
                send_json(session, 404, &body).await
            }
        }
    }

    async fn send_stream(
        &self,
        session: &mut ServerSession,
        script: Script,
    ) -> pingora::Result<Next> {
        let mut head = ResponseHeader::build(200, Some(3))?;
        head.insert_header("content-type", "text/event-stream; charset=utf-8")?;
        head.insert_header("cache-control", "no-cache")?;
        head.insert_header("transfer-encoding", "chunked")?;
        session.write_response_header(Box::new(head)).await?;
        let mut pause = self.pace.first_token;
        for (sent, event) in script.events.into_iter().enumerate() {
            if script.cut_after.is_some_and(|limit| sent >= limit) {
                return Ok(Next::Cut);
            }
            if event.is_token {
                think(pause).await;
                pause = self.pace.token;
            }
            session.write_response_body(event.bytes, false).await?;
        }
        session.finish_body().await?;
        Ok(Next::Keep)
    }
}

/// Takes the time that a model would take.
#[expect(clippy::disallowed_methods, reason = "the time itself is played")]
async fn think(time: Duration) {
    tokio::time::sleep(time).await;
}

#[async_trait]
impl HttpServerApp for Model {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        session.set_keepalive(Some(60));
        match self.answer(&mut session).await.ok()? {
            Next::Keep => {
                let settings = HttpPersistentSettings::for_session(&session);
                let stream = session.finish().await.ok()??;
                Some(ReusedHttpStream::from_reusable_stream(stream, settings))
            }
            Next::Cut => {
                session.shutdown().await;
                None
            }
        }
    }
}

/// The whole body; none when it is larger than [`MAX_BODY_BYTES`].
async fn read_body(session: &mut ServerSession) -> pingora::Result<Option<Bytes>> {
    if session
        .req_header()
        .headers
        .contains_key(http::header::EXPECT)
    {
        session.write_continue_response().await?;
    }
    let mut body = Vec::new();
    while let Some(chunk) = session.read_request_body().await? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.into()))
}

async fn send_json(
    session: &mut ServerSession,
    status: u16,
    body: &Value,
) -> pingora::Result<Next> {
    let body = Bytes::from(body.to_string());
    let mut head = ResponseHeader::build(status, Some(3))?;
    head.insert_header("content-type", "application/json")?;
    head.insert_header("content-length", body.len())?;
    if status == 429 {
        head.insert_header("retry-after", "1")?;
    }
    session.write_response_header(Box::new(head)).await?;
    session.write_response_body(body, true).await?;
    Ok(Next::Keep)
}
