//! Backends that die and come back under load: nobody notices but those whose answer had begun.
//!
//! `SLUICEGATE_FLAPPING_SECONDS=60` makes the runs as long as that; else they take seconds. A request
//! has two attempts, so a run holds the next death back until those that met the last one are over:
//! where the machine has no room for the load, backends flap more slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sluicegate_tests::{
    Backend, Behaviour, Client, Config, Pool, Proxy, Start, chat_with, ends_with_done, eventually,
    within,
};
use tokio::task::JoinSet;

use crate::bench::pause;

const CLIENTS: usize = 64;
/// How long a flapping backend is up, and how long it is down.
const HALF: Duration = Duration::from_millis(500);
/// What the pools' health checks are set to.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long each run takes.
fn length() -> Duration {
    let seconds = std::env::var("SLUICEGATE_FLAPPING_SECONDS");
    let seconds = seconds.map_or(4, |seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// What the clients saw.
#[derive(Debug, Default)]
struct Seen {
    plain: AtomicUsize,
    streamed: AtomicUsize,
    /// Streams that broke off after their content had begun.
    broken: AtomicUsize,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    fn fail(&self, what: String) {
        self.failed.lock().unwrap().push(what);
    }
}

/// Clients that ask until they are told to stop.
struct Load {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    /// Beginnings and ends of each client's requests: odd while one is under way.
    turns: Arc<[AtomicUsize]>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(proxy: &Arc<Proxy>) -> Self {
        let mut load = Self {
            seen: Arc::default(),
            stop: Arc::default(),
            turns: (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect(),
            clients: JoinSet::new(),
        };
        for number in 0..CLIENTS {
            let (proxy, seen) = (Arc::clone(proxy), Arc::clone(&load.seen));
            let (stop, turns) = (Arc::clone(&load.stop), Arc::clone(&load.turns));
            load.clients.spawn(async move {
                let mut client = proxy.client().await;
                for turn in number.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    turns[number].fetch_add(1, Ordering::SeqCst);
                    client = ask(&proxy, client, turn % 2 == 0, &seen).await;
                    turns[number].fetch_add(1, Ordering::SeqCst);
                    // About a hundred a second: far below what the proxy and its backends can do.
                    pause(Duration::from_millis(400 + 25 * (number % 16) as u64)).await;
                }
            });
        }
        load
    }

    /// Awaits the ends of all requests that are under way now.
    async fn under_way_end(&self) {
        let turn = |number: usize| self.turns[number].load(Ordering::SeqCst);
        let mut met: Vec<_> = (0..CLIENTS).map(|number| (number, turn(number))).collect();
        met.retain(|(_, turn)| turn % 2 == 1);
        let left = || met.iter().filter(|(number, then)| turn(*number) == *then);
        eventually("requests under way end", async || match left().count() {
            0 => Ok(()),
            count => Err(count),
        })
        .await;
    }

    async fn end(mut self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.seen
    }
}

/// One request; the client to go on with.
async fn ask(proxy: &Proxy, mut client: Client, stream: bool, seen: &Seen) -> Client {
    let request = chat_with("hi", &json!({"stream": stream}));
    match client.try_send(&request).await {
        Err(error) => {
            seen.fail(format!("stream: {stream}: {error}"));
            return proxy.client().await;
        }
        Ok(answer) if answer.status != 200 => {
            seen.fail(format!(
                "stream: {stream}: {} {:?}",
                answer.status, answer.body
            ));
        }
        Ok(answer) if !stream => {
            let whole = answer.json()["choices"][0]["finish_reason"] == "stop";
            assert!(whole, "{:?}", answer.body);
            seen.plain.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer) if ends_with_done(&answer.body) => {
            seen.streamed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer) => {
            // Its head left with its first content: there was no way back.
            sluicegate_tests::error_event(&answer.body);
            seen.broken.fetch_add(1, Ordering::Relaxed);
        }
    }
    client
}

/// A model that takes 40 ms for an answer.
async fn model(name: &str) -> Backend {
    let behaviour = Behaviour {
        tokens: 4,
        delay: Duration::from_millis(10),
        ..Behaviour::default()
    };
    let backend = Start::new(name).behaviour(behaviour).start().await;
    backend.forget_bodies();
    backend
}

async fn proxy(backends: &[Backend]) -> Arc<Proxy> {
    let pool = backends
        .iter()
        .fold(Pool::new("main"), |pool, backend| pool.backend(backend))
        .health();
    Arc::new(Proxy::start(&Config::new().pool(pool)).await)
}

/// Files and memory of a proxy that has warmed up, with as many clients as there will be.
async fn warmed_up(proxy: &Arc<Proxy>) -> (usize, u64) {
    let load = Load::start(proxy);
    pause(Duration::from_secs(1)).await;
    let seen = load.end().await;
    assert!(seen.failed.lock().unwrap().is_empty(), "{seen:?}");
    proxy.await_idle().await;
    held(proxy)
}

/// Open files, and memory in KiB; nothing of either where the system does not tell.
fn held(proxy: &Proxy) -> (usize, u64) {
    let memory = proxy.resident_bytes().unwrap_or_default() / 1024;
    (proxy.open_files().unwrap_or_default(), memory)
}

/// Asserts that a run failed nobody and left nothing behind.
async fn left_no_trace(what: &str, proxy: &Proxy, before: (usize, u64), seen: &Seen) {
    proxy.await_idle().await;
    let failed = seen.failed.lock().unwrap().clone();
    let metrics = proxy.metrics().await;
    let attempts = metrics.lines("sluicegate_upstream_attempts_total");
    assert!(
        failed.is_empty(),
        "{what}: {} failed: {failed:#?} {attempts:#?}",
        failed.len()
    );
    // Connections of the clients are gone, those to the backends may be up to one a client.
    let most = before.0 + CLIENTS;
    let (files, memory) = eventually("sockets are closed again", async || match held(proxy) {
        held if held.0 <= most => Ok(held),
        held => Err((held, before)),
    })
    .await;
    eprintln!(
        "{what}: {} plain, {} streamed, {} streams broken after their beginning, 0 failed; \
         files {} -> {files}, memory {} -> {memory} KiB; {attempts:#?}",
        seen.plain.load(Ordering::Relaxed),
        seen.streamed.load(Ordering::Relaxed),
        seen.broken.load(Ordering::Relaxed),
        before.0,
        before.1,
    );
    assert!(
        memory < before.1 + 32 * 1024,
        "{} KiB -> {memory} KiB",
        before.1
    );
    assert!(seen.plain.load(Ordering::Relaxed) > CLIENTS);
    assert!(seen.streamed.load(Ordering::Relaxed) > CLIENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_killed_and_revived_one_at_a_time_fail_nobody() {
    let backends = [model("a").await, model("b").await, model("c").await];
    let proxy = proxy(&backends).await;
    let before = warmed_up(&proxy).await;
    let load = Load::start(&proxy);
    let end = Instant::now() + length();
    let mut kills = 0;
    while Instant::now() < end {
        let backend = &backends[kills % backends.len()];
        backend.kill().await;
        tokio::join!(pause(Duration::from_millis(300)), load.under_way_end());
        backend.revive();
        pause(Duration::from_millis(300)).await;
        kills += 1;
    }
    let seen = load.end().await;
    left_no_trace(&format!("{kills} kills"), &proxy, before, &seen).await;
    for (backend, count) in backends.iter().zip(answers(&proxy).await) {
        assert!(count > 0.0, "{} had no traffic", backend.url());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_backends_that_flap_in_turns_fail_nobody() {
    let backends = [model("a").await, model("b").await];
    let proxy = proxy(&backends).await;
    let before = warmed_up(&proxy).await;
    let load = Load::start(&proxy);
    let end = Instant::now() + length();
    let mut turns = 0;
    backends[0].kill().await;
    while Instant::now() < end {
        tokio::join!(pause(HALF), load.under_way_end());
        // One is always up: the one comes before the other goes.
        backends[turns % 2].revive();
        backends[(turns + 1) % 2].kill().await;
        turns += 1;
    }
    let seen = load.end().await;
    left_no_trace(&format!("{turns} turns"), &proxy, before, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_pool_says_so_in_under_a_second_and_serves_again_within_a_health_interval() {
    let backends = [model("a").await, model("b").await];
    let proxy = proxy(&backends).await;
    let mut client = proxy.client().await;
    for round in 0..5 {
        let request = chat_with("hi", &json!({"stream": round % 2 == 0}));
        client.send(&request).await.expect_status(200);
        for backend in &backends {
            backend.kill().await;
        }
        for _ in 0..5 {
            let begun = Instant::now();
            let answer = client.send(&request).await;
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?} for an error");
            assert!([502, 503].contains(&answer.status), "{answer:?}");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
        }
        // Long enough for the checks to have seen it.
        pause(3 * INTERVAL).await;
        let begun = Instant::now();
        backends[round % 2].revive();
        client.send(&request).await.expect_status(200);
        eprintln!("round {round}: back after {:?}", begun.elapsed());
        let begun = Instant::now();
        backends[(round + 1) % 2].revive();
        within("both have traffic again", async {
            let before = answers(&proxy).await;
            while answers(&proxy)
                .await
                .iter()
                .zip(&before)
                .any(|(after, before)| after <= before)
            {
                client.send(&request).await.expect_status(200);
            }
        })
        .await;
        eprintln!("round {round}: both after {:?}", begun.elapsed());
    }
}

/// Good answers of each backend so far, in the config's order.
async fn answers(proxy: &Proxy) -> Vec<f64> {
    let metrics = proxy.metrics().await;
    let of = |backend: &str| {
        let labels = [("backend", backend), ("result", "2xx")];
        metrics.sum("sluicegate_upstream_attempts_total", &labels)
    };
    let all = ["main-1", "main-2", "main-3"];
    let known = all
        .into_iter()
        .filter(|backend| metrics.has("sluicegate_upstream_healthy", &[("backend", backend)]));
    known.map(of).collect()
}
