//! How far the end of a listener has come. It only goes forward.

use tokio::sync::watch;

/// What a listener does, and what its connections may still begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Bound, and not accepting yet.
    Waiting,
    Serving,
    /// Another process accepts on the socket: what has begun ends here, and an idle connection may
    /// bring one more request, so that few clients write into a closing one.
    HandedOver,
    /// What no request has come on closes at once.
    Stopping,
}

/// Tells all listeners and connections at once.
pub(super) type Watch = watch::Receiver<Phase>;

/// Waits until the phase is at least this one; for ever when the server is gone without it.
pub(super) async fn at_least(phase: &mut Watch, wanted: Phase) {
    if phase.wait_for(|phase| *phase >= wanted).await.is_err() {
        std::future::pending().await
    }
}
