//! Clients that take their time with a request's head.

use std::time::{Duration, Instant};

use sluicegate_tests::{Backend, Config, Proxy, ask};

const LIMIT: Duration = Duration::from_secs(1);

async fn proxy(backend: &Backend) -> Proxy {
    let config = Config::one(backend).set("server.header_timeout", "1s");
    Proxy::start(&config).await
}

#[tokio::test]
async fn half_a_head_is_408_after_the_header_timeout() {
    let backend = Backend::model("b").await;
    let proxy = proxy(&backend).await;
    for begun in [
        "P",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: sluice",
        // As HTTP/2 begins, and then not.
        "PRI * HTTP/1.1\r\nhost: x\r\n",
    ] {
        let mut slow = proxy.client().await;
        let asked = Instant::now();
        slow.write_raw(begun.as_bytes()).await;
        if begun != "P" {
            let head = slow.head().await;
            assert_eq!(head.status(), 408, "{begun:?}");
            assert!(head.closes(), "{head:?}");
            slow.rest().await.unwrap();
        }
        slow.closed().await;
        assert!(asked.elapsed() >= LIMIT, "{begun:?}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn silent_connections_are_closed_without_an_answer() {
    let backend = Backend::model("b").await;
    let proxy = proxy(&backend).await;
    let mut silent = proxy.client().await;
    let mut preface = proxy.client().await;
    preface.write_raw(b"PRI * HTTP/2.0\r\n\r\nSM").await;
    silent.closed().await;
    preface.closed().await;
    let mut settings = proxy.client().await;
    settings
        .write_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await;
    settings.closed().await;
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "that nothing happens meanwhile has no event"
)]
async fn further_requests_may_be_late_but_not_slow() {
    let backend = Backend::model("b").await;
    let proxy = proxy(&backend).await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        client.send(&ask("hi")).await.expect_status(200);
        // The keep-alive time is longer than that of a head.
        tokio::time::sleep(LIMIT * 2).await;
    }
    client.write_raw(b"GET /livez HT").await;
    assert_eq!(client.head().await.status(), 408);
    // One that was sent along with a whole request is no less slow.
    let mut pipelining = proxy.client().await;
    pipelining
        .write_raw(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /livez HT")
        .await;
    assert_eq!(pipelining.head().await.status(), 200);
    pipelining.rest().await.unwrap();
    assert_eq!(pipelining.head().await.status(), 408);
}
