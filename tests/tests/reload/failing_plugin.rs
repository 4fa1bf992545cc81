//! Nothing that a component does stops or stalls the proxy.

use std::time::{Duration, Instant};

use sluicegate_tests::{Backend, Config, Guest, Proxy, Slot, ask, eventually};
use tokio::task::JoinSet;

const FILE: &str = "marked.wasm";

/// With a plugin that may fault as often as it likes.
async fn start(backend: &Backend, on_failure: &str) -> Proxy {
    start_with(backend, on_failure, 1_000_000).await
}

async fn start_with(backend: &Backend, on_failure: &str, quarantine_after: i64) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), &Guest::marked().0).unwrap();
    let slot = Slot::classify("marked", FILE)
        .set("on_failure", on_failure)
        // On a virtual machine, what the host takes of a core is charged to the call that runs on it.
        .set("cpu_time", "25ms")
        .set("quarantine_after", quarantine_after);
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
    let words = [
        "do-fail", "do-lie", "do-forge", "do-trap", "do-dive", "do-hog", "do-shout", "do-spin",
    ];
    for (turn, word) in words.iter().enumerate() {
        let answer = proxy.send(&ask(word)).await.expect_status(200);
        assert_eq!(answer.header("x-sluicegate-label"), None, "{word}");
        assert_eq!(answer.header("x-forged"), None);
        assert_eq!(failures(&proxy).await, (turn + 1) as f64, "{word}");
        // Its successor is made off the path; both workers have theirs still, or again.
        eventually("the plugin serves again", async || {
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
    let counted = [
        ("internal", 1),
        ("invalid_output", 2),
        ("trap", 2),
        ("out_of_memory", 1),
        ("output_too_large", 1),
        ("deadline", 1),
    ];
    for (kind, times) in counted {
        assert_eq!(plugin.0["failures"][kind], times, "{plugin:?}");
    }
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
    let mut loops = JoinSet::new();
    loops.spawn(async move {
        let mut client = looping.client().await;
        for _ in 0..10 {
            client.send(&ask("do-spin")).await.expect_status(200);
        }
    });
    let mut client = proxy.client().await;
    let mut slowest = Duration::ZERO;
    let looped = loop {
        if let Some(looped) = loops.try_join_next() {
            break looped;
        }
        let begun = Instant::now();
        client.send(&ask("hi")).await.expect_status(200);
        slowest = slowest.max(begun.elapsed());
    };
    looped.unwrap();
    eprintln!("slowest neighbour of an endless loop: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[tokio::test]
async fn plugin_that_keeps_faulting_is_quarantined_shown_and_probed() {
    let backend = Backend::model("b").await;
    let proxy = start_with(&backend, "skip", 3).await;
    let quarantined = async || {
        let metrics = proxy.metrics().await;
        metrics.sum("sluicegate_plugin_quarantined", &[("slot", "marked")])
    };
    assert_eq!(quarantined().await, 0.0);
    let plugin = eventually("three faults in a row", async || {
        proxy.send(&ask("do-lie")).await.expect_status(200);
        let plugin = proxy.plugin("marked").await;
        match plugin.text("state") {
            "quarantined" => Ok(plugin),
            _ => Err(plugin),
        }
    })
    .await;
    assert_eq!(plugin.0["failures"]["invalid_output"], 3, "{plugin:?}");
    assert!(plugin.0["next_probe_ms"].is_u64(), "{plugin:?}");
    assert_eq!(quarantined().await, 1.0);
    proxy.await_line("plugin quarantined").await;

    // Off the path, it is not called, not even by a request that it would serve.
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(answer.header("x-sluicegate-label"), None);

    eventually("a probe that goes well ends it", async || {
        proxy.send(&ask("hi")).await.expect_status(200);
        match quarantined().await {
            0.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    proxy.await_line("plugin is called again").await;
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(answer.header("x-sluicegate-label"), Some("marked-000"));
}

#[tokio::test]
async fn flood_of_log_lines_is_bounded_and_counted() {
    let backend = Backend::model("b").await;
    let proxy = start(&backend, "skip").await;
    let answer = proxy.send(&ask("do-flood")).await.expect_status(200);
    assert_eq!(answer.header("x-sluicegate-label"), Some("marked-000"));
    let dropped = [("slot", "marked"), ("reason", "log")];
    let metrics = proxy.metrics().await;
    assert_eq!(
        metrics.sum("sluicegate_plugin_dropped_total", &dropped),
        984.0
    );
    proxy.await_line("flood 15").await;
    let lines = proxy.output();
    assert!(!lines.iter().any(|line| line.contains("flood 16")));
}
