//! Waits for what a client has to send first, a handshake, a preface, a request's head, and says what
//! a head has too much of.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use pingora::http::RequestHeader;
use tokio::time::{Instant, sleep_until};

use super::super::phase::{self, Phase};
use super::transport::Activity;
use super::{Settings, Unreadable};

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// Until its first byte.
    pub(super) silence: Duration,
    /// From then on.
    pub(super) head: Duration,
}

/// What came of a wait.
pub(super) enum Awaited<T> {
    Here(T),
    /// Nothing came.
    Silent,
    /// It began, and did not end in time.
    Slow,
    /// The server stops, and nothing whole was here.
    Stopping,
}

/// Says what a head has too much of. Names and values count, and what HTTP/2 adds to each of them
/// (RFC 9113 §6.5.2), so that both protocols have one limit.
pub(super) fn over(settings: &Settings, head: &RequestHeader) -> Option<Unreadable> {
    const FIELD: usize = 32;
    let fields = head.headers.iter();
    let bytes = fields.map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    let bytes = head.raw_path().len() + bytes.sum::<usize>();
    if head.headers.len() > settings.max_headers {
        return Some(Unreadable::TooManyHeaders);
    }
    (bytes > settings.max_header_bytes).then_some(Unreadable::TooLarge)
}

/// Awaits `read`, which reads from the connection that `activity` watches.
pub(super) async fn awaited<T>(
    read: impl Future<Output = T>,
    activity: &Activity,
    waits: Waits,
    phase: &mut phase::Watch,
) -> Awaited<T> {
    let mut read = pin!(read);
    let mut begun = activity.has_begun();
    let limit = if begun { waits.head } else { waits.silence };
    let mut limit = pin!(sleep_until(Instant::now() + limit));
    loop {
        let now = *phase.borrow_and_update();
        if now == Phase::Stopping {
            // Lets the runtime see what the system has received: that is still served.
            tokio::task::yield_now().await;
            let last = std::future::poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
            return match last {
                Poll::Ready(done) => Awaited::Here(done),
                Poll::Pending => Awaited::Stopping,
            };
        }
        tokio::select! {
            biased;
            done = &mut read => return Awaited::Here(done),
            () = activity.first_byte(), if !begun => {
                begun = true;
                limit.as_mut().reset(Instant::now() + waits.head);
            }
            () = &mut limit => {
                return if begun { Awaited::Slow } else { Awaited::Silent };
            }
            changed = phase.changed() => if changed.is_err() {
                return Awaited::Stopping;
            },
        }
    }
}
