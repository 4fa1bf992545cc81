//! Waiting with a limit. Tests await events; these are for what can only be polled.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// Longest wait for an event that must come: generous, because test machines are busy.
const LIMIT: Duration = Duration::from_secs(30);

/// Polls `look` until it gives `Ok`, for at most 30 s.
///
/// # Panics
/// When the limit passes: with `claim` and the last value seen.
pub async fn eventually<T, S, F>(claim: &str, look: impl FnMut() -> F) -> T
where
    S: Debug,
    F: Future<Output = Result<T, S>>,
{
    eventually_within(LIMIT, claim, look).await
}

/// [`eventually`] with a limit of its own.
///
/// # Panics
/// When the limit passes: with `claim` and the last value seen.
pub async fn eventually_within<T, S, F>(
    limit: Duration,
    claim: &str,
    mut look: impl FnMut() -> F,
) -> T
where
    S: Debug,
    F: Future<Output = Result<T, S>>,
{
    let until = tokio::time::Instant::now() + limit;
    loop {
        let seen = match look().await {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(
            tokio::time::Instant::now() < until,
            "not within {limit:?}: {claim}; last seen: {seen:?}"
        );
        #[expect(clippy::disallowed_methods, reason = "this is the polling")]
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Awaits an event for at most 30 s.
///
/// # Panics
/// When the limit passes: with `claim`.
pub async fn within<T>(claim: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, event).await {
        Ok(value) => value,
        Err(_) => panic!("not within {LIMIT:?}: {claim}"),
    }
}
