//! Nothing that a component does stops or stalls the proxy.

use std::time::{Duration, Instant};

use sluicegate_tests::{Backend, Config, Guest, Proxy, Slot, ask};

const FILE: &str = "marked.wasm";

async fn start(backend: &Backend, on_failure: &str) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), &Guest::marked().0).unwrap();
    let slot = Slot::classify("marked", FILE).set("on_failure", on_failure);
    Proxy::start_in(folder, &Config::one(backend).slot(slot), &[]).await
}

async fn failures(proxy: &Proxy) -> f64 {
    let metrics = proxy.metrics().await;
    let slot = ("slot", "marked");
    metrics.sum("sluicegate_plugin_calls_total", &[slot])
        - metrics.sum("sluicegate_plugin_calls_total", &[slot, ("result", "ok")])
}

#[tokio::test]
async fn failing_plugin_is_skipped_counted_and_replaced() {
    let backend = Backend::model("b").await;
    let proxy = start(&backend, "skip").await;
    for (turn, word) in ["do-fail", "do-lie", "do-trap", "do-hog", "do-spin"]
        .iter()
        .enumerate()
    {
        let answer = proxy.send(&ask(word)).await.expect_status(200);
        assert_ne!(
            answer.header("x-sluicegate-label"),
            Some("marked-000"),
            "{word}"
        );
        assert_eq!(failures(&proxy).await, (turn + 1) as f64, "{word}");
        // Its successor is made off the path; both workers have theirs still, or again.
        sluicegate_tests::eventually("the plugin serves again", async || {
            let answer = proxy.send(&ask("hi")).await.expect_status(200);
            match answer.header("x-sluicegate-label") {
                Some("marked-000") => Ok(()),
                other => Err(other.map(str::to_owned)),
            }
        })
        .await;
    }
    let plugin = proxy.plugin("marked").await;
    assert_eq!(plugin.0["last_error"]["kind"], "deadline", "{plugin:?}");
    assert_eq!(plugin.0["failures"]["trap"], 1, "{plugin:?}");
    assert_eq!(
        proxy.metrics().await.sum("sluicegate_panics_total", &[]),
        0.0
    );
}

#[tokio::test]
async fn abstaining_plugin_has_not_failed() {
    let backend = Backend::model("b").await;
    let proxy = start(&backend, "deny").await;
    proxy.send(&ask("do-abstain")).await.expect_status(200);
    assert_eq!(failures(&proxy).await, 0.0);
}

#[tokio::test]
async fn failing_plugin_denies_where_the_slot_says_so() {
    let backend = Backend::model("b").await;
    let proxy = start(&backend, "deny").await;
    for word in ["do-fail", "do-trap"] {
        let answer = proxy.send(&ask(word)).await.expect_status(503);
        assert!(!answer.error_code().is_empty());
        assert!(
            !answer.text().contains("told to"),
            "plugin text reaches a client: {answer:?}"
        );
    }
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_loops_do_not_stall_their_neighbours() {
    let backend = Backend::model("b").await;
    let proxy = std::sync::Arc::new(start(&backend, "skip").await);
    proxy.send(&ask("warm up")).await.expect_status(200);
    let looping = std::sync::Arc::clone(&proxy);
    let loops = tokio::spawn(async move {
        let mut client = looping.client().await;
        for _ in 0..10 {
            client.send(&ask("do-spin")).await.expect_status(200);
        }
    });
    let mut client = proxy.client().await;
    let mut slowest = Duration::ZERO;
    while !loops.is_finished() {
        let begun = Instant::now();
        client.send(&ask("hi")).await.expect_status(200);
        slowest = slowest.max(begun.elapsed());
    }
    loops.await.unwrap();
    eprintln!("slowest neighbour of an endless loop: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}
