//! Clients that do not read what they asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use sluicegate_tests::{
    Backend, Client, Config, Exchange, H2Client, H2Exchange, Proxy, Request, ask, chat_with,
    eventually_within,
};
use tokio::task::JoinSet;

const READERS: usize = 64;
const ANSWER_BYTES: usize = 10 * 1024 * 1024;
/// What all of them together may cost.
const COST: u64 = 16 * 1024 * 1024;

/// Writes a JSON answer for as long as somebody takes it.
async fn plain(mut exchange: Exchange, written: Arc<AtomicUsize>) {
    let begin = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let head = [("content-type", "application/json")];
    let mut open = exchange.begin(200, &head).await.is_ok();
    open = open && exchange.write(begin).await.is_ok();
    let piece = bytes::Bytes::from("x".repeat(64 * 1024));
    for _ in 0..ANSWER_BYTES / piece.len() {
        open = open && exchange.write(piece.clone()).await.is_ok();
        written.fetch_add(1, Ordering::Relaxed);
    }
    std::future::pending().await
}

/// As [`plain`], as events of some kilobytes.
async fn streamed(mut exchange: Exchange, written: Arc<AtomicUsize>) {
    let token = "x".repeat(8 * 1024);
    let mut open = exchange.begin_events().await.is_ok();
    for _ in 0..ANSWER_BYTES / token.len() {
        open = open && exchange.token(&token).await.is_ok();
        written.fetch_add(1, Ordering::Relaxed);
    }
    std::future::pending().await
}

/// Held, and never read.
enum Reader {
    Http1 {
        _client: Client,
    },
    Http2 {
        _client: H2Client,
        _exchange: H2Exchange,
    },
}

/// What 64 readers cost that read nothing, at its peak.
async fn cost(streaming: bool, http2: bool) -> u64 {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend).cached()).await;
    // Warm: threads, connections and plugins are there.
    let mut warm = JoinSet::new();
    for _ in 0..READERS {
        let mut client = proxy.client().await;
        warm.spawn(async move {
            let request = ask("warm").header("x-sluicegate-cache", "bypass");
            client.send(&request).await.expect_status(200);
            client
        });
    }
    for _ in 0..READERS {
        let exchange = backend.next_request().await;
        let reply = sluicegate_tests::Reply::json(200, sluicegate_tests::ANSWER);
        exchange.respond(reply).await.unwrap();
    }
    let mut warmed = Vec::new();
    while let Some(client) = warm.join_next().await {
        warmed.push(client.unwrap());
    }
    drop(warmed);
    let base = proxy.forget_peak().unwrap();

    let request = chat_with("hi", &json!({"stream": streaming}));
    let request = request.header("x-sluicegate-cache", "bypass");
    let mut readers = Vec::new();
    let written = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..READERS {
        readers.push(begin(&proxy, &request, http2).await);
        let exchange = backend.next_request().await;
        match streaming {
            true => writers.spawn(streamed(exchange, Arc::clone(&written))),
            false => writers.spawn(plain(exchange, Arc::clone(&written))),
        };
    }
    // Until nothing moves any more: all buffers on the way are full.
    let limit = Duration::from_secs(90);
    eventually_within(limit, "all readers are stuck", async || {
        let before = written.load(Ordering::Relaxed);
        #[expect(clippy::disallowed_methods, reason = "that nothing moves has no event")]
        tokio::time::sleep(Duration::from_secs(1)).await;
        match written.load(Ordering::Relaxed) {
            now if now == before => Ok(()),
            now => Err((before, now)),
        }
    })
    .await;
    let peak = proxy.peak_bytes().unwrap();
    eprintln!(
        "streaming {streaming}, HTTP/2 {http2}: {} KiB over {} KiB",
        peak.saturating_sub(base) / 1024,
        base / 1024
    );
    drop(readers);
    proxy.await_idle().await;
    peak.saturating_sub(base)
}

async fn begin(proxy: &Proxy, request: &Request, http2: bool) -> Reader {
    if http2 {
        let mut client = H2Client::connect_with_window(proxy.data(), 65_535).await;
        let exchange = client.begin(request).await;
        return Reader::Http2 {
            _client: client,
            _exchange: exchange,
        };
    }
    let mut client = Client::connect_narrow(proxy.data()).await;
    client.begin(request).await;
    Reader::Http1 { _client: client }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_that_never_read_cost_little() {
    for (streaming, http2) in [(false, false), (true, false), (false, true), (true, true)] {
        let cost = cost(streaming, http2).await;
        assert!(
            cost < COST,
            "{cost} bytes, streaming {streaming}, HTTP/2 {http2}"
        );
    }
}
