//! What is refused, and how.

use std::time::{Duration, Instant};

use sluicegate_tests::{Backend, Config, Proxy, Request, ask};

#[tokio::test]
async fn body_over_the_limit_is_413() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.max_body_bytes", 1024);
    let proxy = Proxy::start(&config).await;
    let long = "x".repeat(2000);
    let declared = proxy.send(&ask(&long)).await.expect_status(413);
    assert!(!declared.error_code().is_empty());

    let mut client = proxy.client().await;
    client
        .begin(&Request::chat("").header("transfer-encoding", "chunked"))
        .await;
    for _ in 0..3 {
        client
            .write_raw(format!("1f4\r\n{}\r\n", "y".repeat(500)).as_bytes())
            .await;
    }
    assert_eq!(client.head().await.status(), 413);

    let mut client = proxy.h2_client().await;
    assert_eq!(client.send(&ask(&long)).await.status, 413);
    proxy.send(&ask("short")).await.expect_status(200);
    assert_eq!(backend.request_count(), 1);
}

#[tokio::test]
async fn body_that_is_no_request_is_400_in_openai_form() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for body in [
        "",
        "{",
        "[]",
        r#"{"model":"m"}"#,
        r#"{"messages":[]}"#,
        r#"{"model":1,"messages":[]}"#,
        r#"{"model":"m","messages":"hi"}"#,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\u{1}\"}]}",
        r#"{"model":"m","messages":[]} trailing"#,
    ] {
        let answer = proxy.send(&Request::chat(body)).await;
        assert_eq!(answer.status, 400, "{body:?}: {:?}", answer.body);
        let error = answer.json();
        assert_eq!(
            error["error"]["type"], "invalid_request_error",
            "{body:?}: {error}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{body:?}"
        );
    }
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn unknown_paths_are_404_and_upgrades_501() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for path in [
        "/",
        "/v2/chat",
        "/v1",
        "/admin/config",
        "/metrics",
        "/cache/clear",
    ] {
        let answer = proxy.send(&Request::get(path)).await;
        assert_eq!(answer.status, 404, "{path}");
        answer.error_code();
    }
    let upgrade = Request::get("/v1/realtime")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    proxy.send(&upgrade).await.expect_status(501).error_code();
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn health_paths_answer_on_both_ports() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for path in ["/livez", "/readyz", "/health"] {
        proxy.send(&Request::get(path)).await.expect_status(200);
        proxy.admin_get(path).await.expect_status(200);
    }
    let health = proxy.send(&Request::get("/health")).await;
    assert_eq!(
        health.text().split_whitespace().count(),
        1,
        "{:?}",
        health.text()
    );
}

#[tokio::test]
async fn refused_request_leaves_its_connection_usable() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    client.send(&Request::chat("{")).await.expect_status(400);
    client
        .send(&Request::get("/nothing"))
        .await
        .expect_status(404);
    client.send(&ask("hi")).await.expect_status(200);
}

#[tokio::test]
async fn body_that_trickles_past_its_deadline_is_given_up() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.body_timeout", "1s");
    let proxy = Proxy::start(&config).await;
    let mut client = proxy.client().await;
    let begun = Instant::now();
    let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{";
    client.write_raw(head).await;
    for _ in 0..9 {
        #[expect(clippy::disallowed_methods, reason = "a slow client is played")]
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.write_raw(b" ").await;
    }
    assert_eq!(client.head().await.status(), 408);
    // A deadline for each read, and not for the whole, would end after 1.9 s.
    assert!(
        begun.elapsed() < Duration::from_millis(1700),
        "{:?}",
        begun.elapsed()
    );
    client.closed().await;
    assert_eq!(backend.request_count(), 0);
    proxy.await_idle().await;
}
