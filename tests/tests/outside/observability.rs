//! Metrics, headers and the access log tell one story.

use serde_json::json;
use sluicegate_tests::{Backend, Config, Pool, Proxy, Route, ask, chat_with, eventually};

#[tokio::test]
async fn every_request_leaves_one_line_with_its_facts() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main")
        .backend(&backend)
        .named("first")
        .models(&["m"]);
    let proxy = Proxy::start(&Config::new().pool(pool.set("model_map.m", "big-m"))).await;
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = proxy
        .send(&chat_with("hi", &usage).header("x-request-id", "r1"))
        .await;
    let line = proxy.access_line("r1").await;
    for (field, value) in [
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("status", json!(200)),
        ("outcome", json!("complete")),
        ("model", json!("m")),
        ("upstream_model", json!("big-m")),
        ("pool", json!("main")),
        ("backend", json!("first")),
        ("attempts", json!(1)),
        ("stream", json!(true)),
        ("completion_tokens", json!(4)),
        ("prompt_tokens", json!(7)),
        ("body_bytes_out", json!(answer.body.len())),
        ("tenant", json!("anonymous")),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(
        line["ttft_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{line}"
    );
    assert_eq!(answer.header("x-sluicegate-pool"), Some("main"));
    assert_eq!(answer.header("x-sluicegate-backend"), Some("first"));
    assert!(
        !proxy.output().join("").contains("\"content\""),
        "a prompt is in the log"
    );
}

#[tokio::test]
async fn refused_requests_have_their_line_too() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).key("a", "a", "KEY_A");
    let proxy = Proxy::start_with(&config, &[("KEY_A", "k")]).await;
    proxy
        .send(&ask("hi").header("x-request-id", "nobody"))
        .await
        .expect_status(401);
    let line = proxy.access_line("nobody").await;
    assert_eq!(
        (&line["status"], &line["error"]),
        (&json!(401), &json!("invalid_api_key"))
    );
    let metrics = proxy.metrics().await;
    assert_eq!(
        metrics.sum("sluicegate_errors_total", &[("code", "invalid_api_key")]),
        1.0
    );
}

#[tokio::test]
async fn metrics_count_requests_stages_tokens_and_plugin_calls() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main").backend(&backend).health();
    let config = Config::new()
        .cached()
        .pool(pool)
        .route(Route::to("main").labels(&["code"]));
    let proxy = Proxy::start(&config).await;
    let code = "Write a Rust function that returns a compile error.";
    let stream = json!({"stream": true});
    proxy
        .send(&chat_with(code, &stream))
        .await
        .expect_status(200);
    proxy
        .send(&chat_with("hi", &json!({"mock": {"status": 404}})))
        .await
        .expect_status(404);
    let metrics = eventually("both requests are counted", async || {
        let metrics = proxy.metrics().await;
        match metrics.sum("sluicegate_requests_total", &[]) {
            2.0 => Ok(metrics),
            _ => Err(metrics.lines("sluicegate_requests_total")),
        }
    })
    .await;
    let sum = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels);
    let pool = ("pool", "main");
    assert_eq!(
        sum(
            "sluicegate_requests_total",
            &[("status", "2xx"), ("label", "code"), pool]
        ),
        1.0
    );
    assert_eq!(sum("sluicegate_requests_total", &[("status", "4xx")]), 1.0);
    assert_eq!(sum("sluicegate_request_seconds_count", &[pool]), 2.0);
    assert!(sum("sluicegate_ttft_seconds_count", &[pool]) >= 1.0);
    for stage in [
        "parse",
        "classify",
        "route",
        "cache-policy",
        "cache-lookup",
        "forward",
    ] {
        let stage = [("stage", stage)];
        assert_eq!(
            sum("sluicegate_stage_seconds_count", &stage),
            2.0,
            "{stage:?}"
        );
    }
    assert_eq!(
        sum("sluicegate_cache_results_total", &[("result", "miss")]),
        2.0
    );
    assert!(sum("sluicegate_plugin_calls_total", &[("result", "ok")]) >= 4.0);
    assert!(sum("sluicegate_plugin_call_seconds_count", &[]) >= 4.0);
    assert!(sum("sluicegate_tokens_total", &[("direction", "in")]) > 0.0);
    assert!(sum("sluicegate_tokens_total", &[("direction", "out")]) > 0.0);
    assert_eq!(sum("sluicegate_upstream_healthy", &[pool]), 1.0);
    assert_eq!(sum("sluicegate_config_generation", &[]), 1.0);
    assert!(metrics.has("sluicegate_upstream_in_flight", &[pool]));
    assert_eq!(sum("sluicegate_access_log_dropped_total", &[]), 0.0);
}

#[tokio::test]
async fn server_timing_names_the_stages() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    let timing = answer.header("server-timing").expect("shown on loopback");
    for stage in ["parse", "classify", "route", "forward"] {
        assert!(timing.contains(&format!("{stage};dur=")), "{timing}");
    }
    let quiet = Config::one(&backend).set("telemetry.expose", "basic");
    proxy.reload_and_wait(&quiet).await;
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    for hidden in ["server-timing", "x-sluicegate-pool", "x-sluicegate-backend"] {
        assert_eq!(answer.header(hidden), None);
    }
}

#[tokio::test]
async fn client_strings_never_become_metric_labels() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let request = chat_with(
        "hi",
        &json!({"model": "strange-model-name", "user": "strange-user"}),
    )
    .header("x-request-id", "strange-id")
    .header("x-session-id", "strange-session");
    proxy.send(&request).await.expect_status(200);
    let text = proxy.admin_get("/metrics").await;
    assert!(!text.text().contains("strange"), "{}", text.text());
}
