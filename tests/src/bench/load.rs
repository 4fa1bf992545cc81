//! Clients: a closed loop for throughput, and streams at fixed times for what a user waits.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use memchr::memmem;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::wire::Reader;

/// What a run of requests gave.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) requests: u64,
    /// Answers that were no 200, and connections that broke.
    pub(super) failed: u64,
    pub(super) took: Duration,
    /// In microseconds.
    pub(super) latency: Histogram<u64>,
}

/// What a run of streams gave.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) tokens: u64,
    pub(super) failed: u64,
    /// From the time at which the request was due to its first token, in microseconds.
    pub(super) first: Histogram<u64>,
    /// From one read with tokens to the next, in microseconds.
    pub(super) gaps: Histogram<u64>,
}

/// A histogram from a microsecond to a minute, with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}

fn note(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

/// A chat request as it goes over the wire.
pub(super) fn request(to: SocketAddr, body: &str) -> Bytes {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Bytes::from(head + body)
}

/// Asks again as soon as the answer is there, on each of so many connections, for so long.
pub(super) async fn closed_loop(
    to: SocketAddr,
    request: &Bytes,
    connections: usize,
    time: Duration,
) -> Plain {
    let begun = Instant::now();
    let until = begun + time;
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let request = request.clone();
        clients.spawn(async move {
            let mut latency = histogram();
            let asked = ask_until(to, &request, until, &mut latency).await;
            (latency, asked.is_err())
        });
    }
    let mut all = Plain {
        requests: 0,
        failed: 0,
        took: Duration::ZERO,
        latency: histogram(),
    };
    while let Some(client) = clients.join_next().await {
        let (latency, failed) = client.expect("a client does not panic");
        all.requests += latency.len();
        all.failed += u64::from(failed);
        all.latency.add(latency).expect("equal bounds");
    }
    all.took = begun.elapsed();
    all
}

async fn ask_until(
    to: SocketAddr,
    request: &[u8],
    until: Instant,
    latency: &mut Histogram<u64>,
) -> io::Result<()> {
    let mut socket = TcpStream::connect(to).await?;
    socket.set_nodelay(true)?;
    let mut reader = Reader::default();
    loop {
        let asked = Instant::now();
        if asked >= until {
            return Ok(());
        }
        socket.write_all(request).await?;
        let answer = reader.message(&mut socket, |_| {}).await?;
        let status = answer.and_then(|answer| answer.status());
        if status != Some(200) {
            return Err(io::Error::other(format!("status {status:?}")));
        }
        note(latency, asked.elapsed());
    }
}

/// Streams that begin at fixed times, whether or not the ones before are through: what is measured
/// counts from when a stream was due, so a proxy that stalls is charged for those that waited.
pub(super) async fn streams(
    to: SocketAddr,
    request: &Bytes,
    count: u64,
    every: Duration,
) -> Streams {
    let begun = Instant::now();
    let mut open = JoinSet::new();
    for number in 0..count {
        let request = request.clone();
        let due = begun + every * u32::try_from(number).unwrap_or(u32::MAX);
        sleep_until(due).await;
        open.spawn(async move {
            let mut one = none();
            if stream(to, &request, due, &mut one).await.is_err() {
                one.failed = 1;
            }
            one
        });
    }
    let mut all = none();
    while let Some(one) = open.join_next().await {
        let one = one.expect("a client does not panic");
        all.tokens += one.tokens;
        all.failed += one.failed;
        all.first.add(one.first).expect("equal bounds");
        all.gaps.add(one.gaps).expect("equal bounds");
    }
    all
}

fn none() -> Streams {
    Streams {
        tokens: 0,
        failed: 0,
        first: histogram(),
        gaps: histogram(),
    }
}

async fn stream(
    to: SocketAddr,
    request: &[u8],
    due: Instant,
    seen: &mut Streams,
) -> io::Result<()> {
    let mut socket = TcpStream::connect(to).await?;
    socket.set_nodelay(true)?;
    socket.write_all(request).await?;
    let mut last = None;
    let on_read = |bytes: &[u8]| {
        let tokens = memmem::find_iter(bytes, b"\"content\":").count() as u64;
        if tokens == 0 {
            return;
        }
        let now = Instant::now();
        match last.replace(now) {
            None => note(&mut seen.first, now - due),
            Some(last) => note(&mut seen.gaps, now - last),
        }
        seen.tokens += tokens;
    };
    let answer = Reader::default().message(&mut socket, on_read).await?;
    let whole = answer.is_some_and(|answer| {
        answer.status() == Some(200) && memmem::find(&answer.body, b"data: [DONE]").is_some()
    });
    match whole {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
