//! HTTP/2 on one connection: requests beside each other.
//!
//! Leaving is graceful: GOAWAY first, then the streams that the client had begun by then, then the
//! end (RFC 9113 §6.8).

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{self, H2Accept, H2Options, HttpSession};
use pingora::protocols::{Digest, Stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::phase::{self, Phase};
use super::head::{self, Awaited, Waits};
use super::transport::Activity;
use super::{After, Application, CROWD_PATIENCE, Listener, Settings};
use crate::admission::Standing;

/// Malformed requests that a connection may send before it is closed.
const MAX_REJECTED: usize = 32;
/// Requests that a client may take back before [`Count::is_abuse`] looks at how many it let live.
const MAX_TAKEN_BACK: usize = 100;
/// Bytes of an answer that wait for the client's window, in each stream; the HTTP/2 library keeps
/// 400 KiB otherwise.
const SEND_BUFFER: usize = 32 * 1024;
/// How long a client may take to close a connection that has no stream, once it was told to.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves streams until the connection ends.
pub(super) async fn serve<A: Application>(
    stream: Stream,
    activity: &Activity,
    listener: Arc<Listener<A>>,
    standing: Standing,
    mut phase: phase::Watch,
) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    // Also the first patience, as for the first head of HTTP/1.1.
    let settings = listener.app.settings().of(standing);
    let limit = settings.header_timeout;
    let waits = Waits {
        silence: limit,
        head: limit,
    };
    let handshake = server::handshake(stream, Some(options(&settings)));
    let Awaited::Here(Ok(mut connection)) =
        head::awaited(handshake, activity, waits, &mut phase).await
    else {
        return;
    };
    let mut streams = JoinSet::new();
    let mut count = Count::default();
    let mut idle = Idle {
        since: Instant::now(),
        patience: limit,
        leaves: false,
    };
    let mut abused = false;
    // However it keeps itself busy.
    let crowd_end = Instant::now() + CROWD_PATIENCE;
    loop {
        tokio::select! {
            biased;
            () = sleep_until(crowd_end), if standing == Standing::Crowd => break,
            () = phase::at_least(&mut phase, Phase::HandedOver), if !idle.leaves => {
                connection.graceful_shutdown();
                idle.leave();
            }
            // Drives the whole connection.
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => {
                match accepted {
                    Ok(Some(H2Accept::Session(session))) => {
                        streams.spawn(answer(Arc::clone(&listener), session, standing));
                        if standing == Standing::Crowd && !idle.leaves {
                            connection.graceful_shutdown();
                            idle.leave();
                        }
                    }
                    Ok(Some(H2Accept::Rejected)) => count.rejected += 1,
                    Ok(None) | Err(_) => break,
                }
            }
            Some(ended) = streams.join_next(), if !streams.is_empty() => {
                count.ended += 1;
                count.taken_back += usize::from(matches!(ended, Ok(End::TakenBack)));
                idle.since = Instant::now();
                if !idle.leaves {
                    idle.patience = listener.app.settings().keepalive_timeout;
                }
            }
            () = sleep_until(idle.since + idle.patience), if streams.is_empty() => {
                if idle.leaves {
                    break;
                }
                connection.graceful_shutdown();
                idle.leave();
            }
        }
        let most = usize::try_from(settings.max_streams).unwrap_or(usize::MAX);
        if !abused && count.is_abuse(streams.len(), most) {
            abused = true;
            tracing::debug!(?count, "an HTTP/2 connection is closed for abuse");
            connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
            idle.leave();
        }
    }
    drop(connection);
    // They find out by themselves, and have things to put away.
    while streams.join_next().await.is_some() {}
}

/// How long a connection without a stream stays.
struct Idle {
    since: Instant,
    patience: Duration,
    /// The client has been told to go.
    leaves: bool,
}

impl Idle {
    fn leave(&mut self) {
        (self.since, self.patience, self.leaves) = (Instant::now(), GOODBYE, true);
    }
}

/// How the requests of a connection came out.
#[derive(Debug, Default)]
struct Count {
    ended: usize,
    /// Reset by the client before they were answered.
    taken_back: usize,
    /// Malformed, and never begun.
    rejected: usize,
}

impl Count {
    /// True for a client that makes work and takes it back (rapid reset), faster than the work is
    /// put away or more often than not; or one that sends little but nonsense.
    fn is_abuse(&self, open: usize, max_streams: usize) -> bool {
        self.rejected >= MAX_REJECTED
            || open > max_streams.saturating_mul(2)
            || (self.taken_back > MAX_TAKEN_BACK && self.taken_back * 2 > self.ended)
    }
}

/// How a request ended.
enum End {
    /// With an answer, or without one for other reasons than the client's.
    Answered,
    /// The client reset it.
    TakenBack,
}

fn options(settings: &Settings) -> H2Options {
    let mut options = server::default_h2_options();
    options.max_send_buffer_size(SEND_BUFFER);
    options.max_concurrent_streams(settings.max_streams);
    // The sender answers 431 by itself above it (RFC 9113 §6.5.2).
    options.max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX));
    options
}

async fn answer<A: Application>(
    listener: Arc<Listener<A>>,
    session: HttpSession,
    standing: Standing,
) -> End {
    let mut session = ServerSession::new_http2(session);
    let app = &listener.app;
    if let Some(why) = head::over(&app.settings(), session.req_header()) {
        if let Some((status, body)) = app.refusal(why) {
            let told = session.respond_error_with_body(status.as_u16(), body);
            // The stream may be gone, or its window shut; there is nobody else to tell.
            let _ = timeout(GOODBYE, told).await;
        }
        return End::Answered;
    }
    match app.serve(&mut session, standing).await {
        After::Stays => {
            // The stream may be gone.
            let _ = timeout(GOODBYE, session.finish()).await;
            End::Answered
        }
        After::Cut => End::Answered,
        After::Left => End::TakenBack,
    }
}
