//! The admin API: takes a request whose head was read, asks [`Gate`] and [`route`], answers.

use std::sync::Arc;
use std::time::Duration;

use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use serde_json::json;

use super::answer::{self, Answer};
use super::gate::Gate;
use super::route::{self, Action, Scope};
use super::{Readiness, Views};

/// No request here needs a body; what clients send along is read and thrown away up to this.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Time for that body to arrive in.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The admin API on one listener.
pub(crate) struct App {
    views: Arc<dyn Views>,
    gate: Gate,
    scope: Scope,
}

impl App {
    /// The API that shows `views` behind `gate`.
    pub(crate) fn new(views: Arc<dyn Views>, gate: Gate, scope: Scope) -> Self {
        Self { views, gate, scope }
    }

    /// What may be done for a request with this head; the rules in the order in which they tell a
    /// stranger least. A target with a host of its own (`GET http://…`) needs no rule here: pingora
    /// has refused it unless that host is the one of `Host` (RFC 9112 §3.2.2).
    fn admit(&self, head: &RequestHeader) -> Result<Action, Answer> {
        self.gate.check_source(&head.headers)?;
        let action = route::find(self.scope, &head.method, head.uri.path());
        if !action.is_ok_and(Action::is_probe) {
            self.gate.check_token(&head.headers)?;
        }
        Ok(action?)
    }

    async fn act(&self, action: Action) -> Answer {
        match action {
            Action::Live => Answer::word(200, "alive"),
            Action::Ready => Answer::readiness(self.views.ready()),
            Action::Health => match self.views.ready() {
                Readiness::Ready => Answer::word(200, "ok"),
                not_ready => Answer::readiness(not_ready),
            },
            Action::Metrics => Answer::metrics(self.views.metrics_text()),
            Action::Plugins => Answer::json(200, &json!({"plugins": self.views.plugins()})),
            Action::Pools => Answer::json(200, &json!({"pools": self.views.pools()})),
            Action::Config => Answer::json(200, &json!(self.views.config())),
            Action::Reload => match self.views.reload().await {
                Ok(reloaded) => Answer::json(200, &json!(reloaded)),
                Err(refused) => refused.into(),
            },
            Action::ClearCache => Answer::json(200, &json!({"cleared": self.views.clear_cache()})),
        }
    }

    /// Serves the request that `session` has read the head of. None: the client is gone.
    pub(crate) async fn serve(&self, session: &mut ServerSession) -> Option<()> {
        let answer = self.answer(session).await;
        send(session, answer).await.ok()
    }

    /// The answer to the request that `session` has read the head of.
    async fn answer(&self, session: &mut ServerSession) -> Answer {
        let action = match self.admit(session.req_header()) {
            Ok(action) => action,
            Err(refused) => return refused,
        };
        if let Err(refused) = discard_body(session).await {
            session.set_keepalive(None);
            return refused;
        }
        self.act(action).await
    }
}

/// Reads the body to its end.
///
/// # Errors
/// The answer to one that is too large, too slow or broken.
async fn discard_body(session: &mut ServerSession) -> Result<(), Answer> {
    if session.is_body_done() {
        return Ok(());
    }
    // A client that waits for leave to send a body would wait for its own time-out.
    if session
        .req_header()
        .headers
        .contains_key(http::header::EXPECT)
    {
        session
            .write_continue_response()
            .await
            .map_err(|_| answer::body_incomplete())?;
    }
    let all = async {
        let mut left = MAX_BODY_BYTES;
        while let Some(chunk) = session
            .read_request_body()
            .await
            .map_err(|_| answer::body_incomplete())?
        {
            left = left
                .checked_sub(chunk.len())
                .ok_or_else(answer::body_too_large)?;
        }
        Ok(())
    };
    tokio::time::timeout(BODY_TIMEOUT, all)
        .await
        .unwrap_or_else(|_| Err(answer::body_incomplete()))
}

async fn send(session: &mut ServerSession, answer: Answer) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(answer.status, Some(6))?;
    head.insert_header("content-type", answer.content_type)?;
    head.insert_header("content-length", answer.body.len())?;
    // State of a running process: never from a cache, never guessed to be a page.
    head.insert_header("cache-control", "no-store")?;
    head.insert_header("x-content-type-options", "nosniff")?;
    if let Some((name, value)) = answer.header {
        head.insert_header(name, value)?;
    }
    session.write_response_header(Box::new(head)).await?;
    session.write_response_body(answer.body, true).await
}

#[cfg(test)]
mod tests;
