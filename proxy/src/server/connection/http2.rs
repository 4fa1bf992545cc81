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
use tokio::time::{Instant, sleep_until};

use super::super::phase::{self, Phase};
use super::head::{self, Awaited, Waits};
use super::transport::Activity;
use super::{Application, Listener, Settings};
use crate::admission::Standing;

/// Malformed requests that a connection may send before it is closed.
const MAX_REJECTED: usize = 32;
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
    let mut rejected = 0;
    let mut idle_since = Instant::now();
    let (mut patience, mut leaves) = (limit, false);
    loop {
        tokio::select! {
            biased;
            () = phase::at_least(&mut phase, Phase::HandedOver), if !leaves => {
                connection.graceful_shutdown();
                (patience, leaves, idle_since) = (GOODBYE, true, Instant::now());
            }
            // Drives the whole connection.
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => {
                match accepted {
                    Ok(Some(H2Accept::Session(session))) => {
                        streams.spawn(answer(Arc::clone(&listener), session, standing));
                        if standing == Standing::Crowd && !leaves {
                            connection.graceful_shutdown();
                            (patience, leaves) = (GOODBYE, true);
                        }
                    }
                    Ok(Some(H2Accept::Rejected)) => {
                        rejected += 1;
                        if rejected >= MAX_REJECTED {
                            break;
                        }
                    }
                    Ok(None) | Err(_) => break,
                }
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {
                idle_since = Instant::now();
                if !leaves {
                    patience = listener.app.settings().keepalive_timeout;
                }
            }
            () = sleep_until(idle_since + patience), if streams.is_empty() => {
                if leaves {
                    break;
                }
                connection.graceful_shutdown();
                (patience, leaves, idle_since) = (GOODBYE, true, Instant::now());
            }
        }
    }
    drop(connection);
    // They find out by themselves, and have things to put away.
    while streams.join_next().await.is_some() {}
}

fn options(settings: &Settings) -> H2Options {
    let mut options = server::default_h2_options();
    options.max_concurrent_streams(settings.max_streams);
    // The sender answers 431 by itself above it (RFC 9113 §6.5.2).
    options.max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX));
    options
}

async fn answer<A: Application>(
    listener: Arc<Listener<A>>,
    session: HttpSession,
    standing: Standing,
) {
    let mut session = ServerSession::new_http2(session);
    let app = &listener.app;
    if let Some(why) = head::over(&app.settings(), session.req_header()) {
        return app.refuse(&mut session, why).await;
    }
    if app.serve(&mut session, standing).await.is_some() {
        // The stream may be gone; there is nobody to tell.
        let _ = session.finish().await;
    }
}
