//! Many clients at once, most of which do nothing, and some of which leave when it suits them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sluicegate_tests::{Backend, Config, Proxy, Request, ask, chat_with, events, eventually};
use tokio::task::JoinSet;

const IDLE: usize = 2_000;
const STREAMING: usize = 500;
/// What one more crowd may add to the memory.
const GROWTH: u64 = 16 * 1024 * 1024;
/// Crowds, at most.
const ROUNDS: usize = 5;

/// Streams again and again until the time is over; leaves each somewhere, at random.
async fn stream_and_leave(proxy: Arc<Proxy>, until: Instant) -> usize {
    let mock = json!({"tokens": 200, "delay_ms": 20});
    let request = chat_with("hi", &json!({"stream": true, "mock": mock}));
    let mut streams = 0;
    while Instant::now() < until {
        let mut client = proxy.client().await;
        streams += 1;
        if fastrand::u8(..) < 16 {
            // In the middle of its head, or of its body.
            let bytes = whole();
            client
                .write_raw(&bytes[..fastrand::usize(1..bytes.len())])
                .await;
            continue;
        }
        client.begin(&request).await;
        if fastrand::u8(..) < 32 {
            continue; // before the first byte of the answer
        }
        assert_eq!(client.head().await.status(), 200);
        let pieces = fastrand::usize(0..40);
        for _ in 0..pieces {
            match client.piece().await.unwrap() {
                Some(piece) => assert!(!events(&piece).is_empty()),
                None => break,
            }
        }
    }
    streams
}

/// A request as it is on the wire.
fn whole() -> Vec<u8> {
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A crowd for so long; then everything is as before.
async fn crowd(time: Duration) {
    let backend = Backend::model("b").await;
    backend.forget_bodies();
    // Idle for as long as the crowd is there.
    let config = Config::one(&backend).set("server.keepalive_timeout", "600s");
    let proxy = Arc::new(Proxy::start(&config).await);
    // Allocators keep what the highest tide took, and no two crowds are alike. What leaks grows with
    // every one of them.
    let mut resident = Vec::new();
    let is_level = |resident: &[u64]| matches!(resident, [.., a, b] if *b < a + GROWTH);
    for _ in 0..ROUNDS {
        let streams = rush(&proxy, time).await;
        proxy.send(&ask("after")).await.expect_status(200);
        settled(&proxy).await;
        resident.push(proxy.resident_bytes().unwrap_or_default());
        let files = proxy.open_files();
        eprintln!("{streams} streams, then {files:?} files and {resident:?} bytes");
        if is_level(&resident) {
            break;
        }
    }
    assert!(is_level(&resident), "{resident:?} bytes after each crowd");
    assert_eq!(
        proxy.metrics().await.sum("sluicegate_panics_total", &[]),
        0.0
    );
}

/// 2,000 idle connections and 500 that stream, for so long. How many streams there were.
async fn rush(proxy: &Arc<Proxy>, time: Duration) -> usize {
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut client = proxy.client().await;
        client
            .send(&Request::get("/livez"))
            .await
            .expect_status(200);
        idle.push(client);
    }
    let until = Instant::now() + time;
    let mut busy = JoinSet::new();
    for _ in 0..STREAMING {
        busy.spawn(stream_and_leave(Arc::clone(proxy), until));
    }
    let mut streams = 0;
    while let Some(done) = busy.join_next().await {
        streams += done.unwrap();
    }
    // They were not forgotten.
    for client in idle.iter_mut().step_by(100) {
        client
            .send(&Request::get("/livez"))
            .await
            .expect_status(200);
    }
    streams
}

/// Awaits that nothing of the crowd is left: no request, no socket of a client, and of files only
/// what the pool keeps open to its backend.
async fn settled(proxy: &Proxy) {
    proxy.await_idle().await;
    eventually(
        "the sockets of clients are closed",
        async || match client_sockets(proxy) {
            0 => Ok(()),
            other => Err(other),
        },
    )
    .await;
    let files = proxy.open_files().unwrap_or_default();
    assert!(files < STREAMING + 100, "{files} files");
}

/// Sockets of the data listener that a process holds, the listening ones apart.
fn client_sockets(proxy: &Proxy) -> usize {
    const LISTEN: &str = "0A";
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = format!(":{:04X}", proxy.data().port());
    let is_of_client = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // What only waits for the end of a time has no inode.
        matches!(fields.as_slice(), [_, local, _, state, _, _, _, _, _, inode, ..]
            if local.ends_with(&port) && *state != LISTEN && *inode != "0")
    };
    sockets.lines().filter(is_of_client).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_and_goes_leaves_nothing_behind() {
    crowd(Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute of a whole machine"]
async fn a_crowd_of_half_a_minute_leaves_nothing_behind() {
    crowd(Duration::from_secs(30)).await;
}
