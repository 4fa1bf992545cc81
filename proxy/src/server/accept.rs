//! The accept loop of one worker on one socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::connection::{self, Application, Listener};
use super::phase::{self, Phase};

/// Rest after an accept that failed for want of something, most often of file descriptors.
const REST: Duration = Duration::from_millis(100);
/// Connections that a stop takes over from the socket's queue, at most.
const QUEUED: usize = 4096;

/// Accepts until the phase says otherwise, and ends with the last connection.
pub(super) async fn run<A: Application>(
    socket: TcpListener,
    listener: Arc<Listener<A>>,
    mut phase: phase::Watch,
) {
    let mut connections = JoinSet::new();
    phase::at_least(&mut phase, Phase::Serving).await;
    let has_served = *phase.borrow() < Phase::HandedOver;
    let mut ending = phase.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = phase::at_least(&mut ending, Phase::HandedOver) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                serve(&mut connections, &listener, stream, peer, &phase);
            }
            // A connection that its client gave up is no reason to wait; anything else will come
            // again at once.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted now");
                rest().await;
            }
        }
    }
    // Where it never served, another process does, and takes what is in the queue.
    if has_served && *phase.borrow() == Phase::Stopping {
        // Closing the socket would reset them, though their requests may be here.
        tokio::task::yield_now().await;
        for _ in 0..QUEUED {
            let Some(Ok((stream, peer))) = accepted_now(&socket) else {
                break;
            };
            serve(&mut connections, &listener, stream, peer, &phase);
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// What is in the queue. Unconstrained: a task's turn ends after some hundred of them else, which
/// would look like the end of the queue.
fn accepted_now(socket: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    tokio::task::unconstrained(socket.accept()).now_or_never()
}

/// Serves a connection beside the others; one that has no place is closed.
fn serve<A: Application>(
    connections: &mut JoinSet<()>,
    listener: &Arc<Listener<A>>,
    stream: TcpStream,
    peer: SocketAddr,
    phase: &phase::Watch,
) {
    let Some((place, standing)) = listener.connections.admit() else {
        return;
    };
    let (listener, phase) = (Arc::clone(listener), phase.clone());
    connections.spawn(async move {
        let _place = place;
        connection::run(listener, stream, peer, standing, phase).await;
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is wanting comes back without an event"
)]
async fn rest() {
    tokio::time::sleep(REST).await;
}
