//! Carries the body of a relayed request from the client to the backend.
//!
//! The next part is read while the one before is being written, so that a client that leaves is
//! noticed although its backend is slow; no more than two parts are held. What the client may take
//! counts only while it is waited for, lest a backend that reads slowly be the client's fault.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::client::Client;
use super::error::Error;
use super::relay::Stop;
use crate::upstream::{AttemptError, Exchange, Upload, Wrote};

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Most bytes.
    pub(super) bytes: usize,
    /// Longest that the client may take to send them.
    pub(super) within: Duration,
}

/// Sends the whole body and awaits the head of the answer.
///
/// # Errors
/// [`Stop::Request`] for a body that is too large, too slow or broken off, and for a client that
/// left; [`Stop::Upstream`] for all else.
///
/// # Cancel safety
/// Dropping the future closes the exchange.
pub(super) async fn run(
    client: &mut Client<'_>,
    mut sending: Upload,
    bounds: Bounds,
) -> Result<Exchange, Stop> {
    if let Wrote::Stop = send(client, &mut sending, bounds).await? {
        // The backend has answered (413) or gone: its head is read below.
        client.leave_body();
    }
    // Boxed: it is large.
    let work = Box::pin(async { Ok(sending.finish().await) });
    client.unless_gone(work).await?.map_err(begun)
}

/// Sends parts until the body ends, or until the backend wants no more.
async fn send(
    client: &mut Client<'_>,
    sending: &mut Upload,
    bounds: Bounds,
) -> Result<Wrote, Stop> {
    let mut left = Left {
        bounds,
        bytes: bounds.bytes,
        time: bounds.within,
    };
    let mut next = left.wait(client).await?;
    while let Some(part) = next {
        let (wrote, ahead) = write(client, sending, part, &mut left).await?;
        if let Wrote::Stop = wrote {
            return Ok(Wrote::Stop);
        }
        next = match ahead {
            Some(ahead) => ahead,
            None => left.wait(client).await?,
        };
    }
    Ok(Wrote::More)
}

/// Writes a part. Gives what the client sent behind it too, if that came before the write was done:
/// another part, or the end of the body.
async fn write(
    client: &mut Client<'_>,
    sending: &mut Upload,
    part: Bytes,
    left: &mut Left,
) -> Result<(Wrote, Option<Option<Bytes>>), Stop> {
    let mut writing = pin!(sending.write(part));
    let ahead = tokio::select! {
        biased;
        wrote = &mut writing => return Ok((wrote.map_err(begun)?, None)),
        ahead = client.chunk() => left.take(ahead?)?,
    };
    let wrote = match &ahead {
        Some(_) => writing.await,
        None => client.unless_gone(async { Ok(writing.await) }).await?,
    };
    Ok((wrote.map_err(begun)?, Some(ahead)))
}

/// What is left of the bounds.
struct Left {
    bounds: Bounds,
    bytes: usize,
    time: Duration,
}

impl Left {
    /// Awaits the next part; none at the end of the body.
    async fn wait(&mut self, client: &mut Client<'_>) -> Result<Option<Bytes>, Error> {
        let asked = Instant::now();
        let within = self.bounds.within;
        let part = timeout(self.time, client.chunk())
            .await
            .map_err(|_| Error::BodyTimeout { within })??;
        self.time = self.time.saturating_sub(asked.elapsed());
        self.take(part)
    }

    /// Counts a part.
    fn take(&mut self, part: Option<Bytes>) -> Result<Option<Bytes>, Error> {
        let bytes = part.as_ref().map_or(0, Bytes::len);
        let limit = self.bounds.bytes;
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or(Error::BodyTooLarge { limit })?;
        Ok(part)
    }
}

/// A failure of the backend when bytes of the body have been taken from the client.
fn begun(source: AttemptError) -> Stop {
    Stop::Upstream {
        source,
        untouched: false,
    }
}
