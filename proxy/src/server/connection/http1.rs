//! HTTP/1.x on one connection: one request after another.

use std::time::Duration;

use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;

use super::super::phase::{self, Phase};
use super::head::{self, Awaited, Waits};
use super::transport::Activity;
use super::{Application, Unreadable};
use crate::admission::Standing;

/// Longest pause inside of a request's body; the body as a whole has its own limit.
const BODY_PAUSE: Duration = Duration::from_secs(60);
/// What a goodbye may take: over TLS it is written.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves requests until the connection ends.
pub(super) async fn serve<A: Application>(
    mut stream: Stream,
    activity: &Activity,
    app: &A,
    standing: Standing,
    mut phase: phase::Watch,
) {
    let mut pipelined = None;
    let mut silence = app.settings().of(standing).header_timeout;
    loop {
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelining_enabled(true);
        session.set_read_timeout(None); // `awaited` knows better
        if let Some(bytes) = pipelined.take() {
            session.set_pipelined_prefix(bytes);
            activity.begin();
        }
        let settings = app.settings().of(standing);
        let waits = Waits {
            silence,
            head: settings.header_timeout,
        };
        activity.begin_head(settings.max_header_bytes);
        let head = head::awaited(session.read_request(), activity, waits, &mut phase).await;
        match head {
            Awaited::Here(Ok(true)) => activity.end_head(),
            Awaited::Here(Ok(false)) => return, // the client left
            Awaited::Here(Err(error)) => {
                let why = head::unreadable(&error, activity);
                return refuse(app, session, why).await;
            }
            Awaited::Slow => return refuse(app, session, Unreadable::Slow).await,
            Awaited::Silent | Awaited::Stopping => return close(session).await,
        }
        if let Some(why) = head::over(&settings, session.req_header()) {
            return refuse(app, session, why).await;
        }
        session.set_read_timeout(Some(BODY_PAUSE));
        let keepalive = settings.keepalive_timeout;
        // Pingora has looked at what the client wants; a stop may only take it away.
        let stays = session.get_keepalive().is_some() && *phase.borrow() == Phase::Serving;
        session.set_keepalive(stays.then(|| keepalive.as_secs().max(1)));
        if app.serve(&mut session, standing).await.is_none() {
            return;
        }
        let Ok(Some(reusable)) = session.finish().await else {
            return;
        };
        (stream, pipelined) = reusable.into_parts();
        silence = keepalive;
        activity.arm();
    }
}

async fn refuse<A: Application>(app: &A, mut session: ServerSession, why: Unreadable) {
    session.set_keepalive(None);
    app.refuse(&mut session, why).await;
    close(session).await;
}

async fn close(mut session: ServerSession) {
    // Nobody waits for the end of a goodbye.
    let _ = tokio::time::timeout(GOODBYE, session.shutdown()).await;
}
