//! What is above a limit is refused at once, with its reason, and hurts nobody who is below it.

use bytes::Bytes;
use sluicegate_tests::{
    Answer, Backend, Client, Config, Pool, Proxy, Request, Route, ask, eventually,
};

/// Held by the backend until it is told to go on.
async fn held(proxy: &Proxy, backend: &Backend, count: usize) -> Vec<Client> {
    backend.hold();
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = proxy.client().await;
        client.begin(&ask(&format!("held {number}"))).await;
        clients.push(client);
    }
    eventually("the backend has them all", async || {
        match backend.request_count() {
            there if there >= count => Ok(()),
            there => Err(there),
        }
    })
    .await;
    clients
}

async fn finish(backend: &Backend, clients: Vec<Client>) {
    backend.release();
    for mut client in clients {
        assert_eq!(client.head().await.status(), 200);
        client.rest().await.unwrap();
    }
}

fn assert_refused(answer: &Answer, code: &str) {
    assert_eq!(answer.error_code(), code, "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    assert_eq!(answer.header("x-should-retry"), None, "{answer:?}");
}

async fn await_buffered(proxy: &Proxy, wanted: std::ops::RangeInclusive<f64>) {
    eventually("so many bytes are held", async || {
        let metrics = proxy.metrics().await;
        let bytes = metrics.sum("sluicegate_buffered_bytes", &[]);
        match wanted.contains(&bytes) {
            true => Ok(()),
            false => Err(bytes),
        }
    })
    .await;
}

/// A request whose last bytes are still to come.
async fn unfinished(proxy: &Proxy, request: &Request) -> (Client, Bytes) {
    let mut client = proxy.client().await;
    client.write_raw(&request.head_bytes()).await;
    let (sent, rest) = request.body().split_at(request.body().len() - 10);
    client.write_raw(sent).await;
    (client, Bytes::copy_from_slice(rest))
}

async fn assert_alive(proxy: &Proxy) {
    for path in ["/livez", "/readyz", "/health"] {
        proxy.send(&Request::get(path)).await.expect_status(200);
    }
}

#[tokio::test]
async fn requests_above_the_limit_are_503_at_once_and_probes_are_answered() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.max_requests_in_flight", 2);
    let proxy = Proxy::start(&config).await;
    let clients = held(&proxy, &backend, 2).await;
    let mut kept = proxy.client().await;
    for request in [
        ask("one more"),
        Request::get("/v1/models"),
        Request::chat("{"),
    ] {
        let answer = kept.send(&request).await.expect_status(503);
        assert_refused(&answer, "overloaded");
        assert_alive(&proxy).await;
    }
    let mut http2 = proxy.h2_client().await;
    let answer = http2.send(&ask("one more")).await.expect_status(503);
    assert_refused(&answer, "overloaded");
    assert_eq!(backend.request_count(), 2);
    // The limit is live, both ways.
    let wider = config.clone().set("server.max_requests_in_flight", 3);
    proxy.reload_and_wait(&wider).await;
    kept.send(&Request::get("/v1/models"))
        .await
        .expect_status(200);
    proxy.reload_and_wait(&config).await;
    kept.send(&ask("one more")).await.expect_status(503);
    finish(&backend, clients).await;
    kept.send(&ask("room again")).await.expect_status(200);
    let metrics = proxy.metrics().await;
    let refused = metrics.sum("sluicegate_errors_total", &[("code", "overloaded")]);
    assert_eq!(refused, 5.0);
}

#[tokio::test]
async fn full_pool_hands_over_to_the_next_or_refuses() {
    let (small, large) = (Backend::model("small").await, Backend::model("large").await);
    let config = Config::new()
        .pool(
            Pool::new("small")
                .backend(&small)
                .models(&["only"])
                .set("max_requests_in_flight", 1),
        )
        .pool(Pool::new("large").backend(&large).models(&["any"]))
        .route(
            Route::to("small")
                .set("match.model", "any")
                .set("override_model", true)
                .fallback(&["large"]),
        )
        .route(Route::to("small"));
    let proxy = Proxy::start(&config).await;
    let clients = held(&proxy, &small, 1).await;
    let refused = proxy.send(&ask("hi")).await.expect_status(503);
    assert_refused(&refused, "pool_overloaded");
    assert!(refused.text().contains("pool `small`"), "{refused:?}");
    let relayed = proxy.send(&Request::get("/v1/files")).await;
    assert_refused(&relayed.expect_status(503), "pool_overloaded");
    let fallback = Request::chat(r#"{"model":"any","messages":[{"role":"user","content":"hi"}]}"#);
    let answer = proxy.send(&fallback).await.expect_status(200);
    assert_eq!(answer.header("x-sluicegate-pool"), Some("large"));
    finish(&small, clients).await;
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(answer.header("x-sluicegate-pool"), Some("small"));
}

#[tokio::test]
async fn connections_above_the_limit_are_told_and_closed_and_probes_are_answered() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.max_connections", 3);
    let proxy = Proxy::start(&config).await;
    let mut served = Vec::new();
    for _ in 0..3 {
        let mut client = proxy.client().await;
        client.send(&ask("hi")).await.expect_status(200);
        served.push(client);
    }
    let mut crowd = proxy.client().await;
    let answer = crowd.send(&ask("hi")).await.expect_status(503);
    assert_refused(&answer, "too_many_connections");
    crowd.closed().await;
    let mut http2 = proxy.h2_client().await;
    let answer = http2.send(&ask("hi")).await.expect_status(503);
    assert_refused(&answer, "too_many_connections");
    http2.closed().await;
    assert_alive(&proxy).await;
    // Those that were there first notice nothing.
    for client in &mut served {
        client.send(&ask("hi")).await.expect_status(200);
    }
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("sluicegate_client_connections", &[]), 3.0);
    let told = [("how", "told")];
    assert_eq!(
        metrics.sum("sluicegate_client_connections_refused_total", &told),
        5.0
    );
    served.pop();
    eventually("there is a place again", async || {
        let answer = proxy.send(&ask("hi")).await;
        match answer.status {
            200 => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// More connections than are ever heard: the rest are closed, and all goes on.
#[tokio::test]
async fn flood_of_connections_leaves_the_served_ones_alone() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.max_connections", 2);
    let proxy = Proxy::start(&config).await;
    let mut served = proxy.client().await;
    served.send(&ask("hi")).await.expect_status(200);
    let mut flood = Vec::new();
    for _ in 0..400 {
        flood.push(proxy.client().await);
    }
    served.send(&ask("hi")).await.expect_status(200);
    let closed = [("how", "closed")];
    eventually("the last of them are closed", async || {
        let metrics = proxy.metrics().await;
        match metrics.sum("sluicegate_client_connections_refused_total", &closed) {
            closed if closed >= 200.0 => Ok(()),
            closed => Err(closed),
        }
    })
    .await;
    drop(flood);
    eventually("probes are answered again", async || {
        let mut client = proxy.client().await;
        match client.try_send(&Request::get("/livez")).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(other.map(|answer| answer.status)),
        }
    })
    .await;
}

fn with_headers(count: usize, bytes: usize) -> Request {
    let value = "v".repeat(bytes);
    (0..count).fold(ask("hi"), |request, number| {
        request.header(&format!("x-filler-{number}"), &value)
    })
}

#[tokio::test]
async fn heads_above_the_limits_are_431() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .set("server.max_header_bytes", "16KiB")
        .set("server.max_headers", 40);
    let proxy = Proxy::start(&config).await;
    for (request, code) in [
        (with_headers(1, 17 * 1024), "header_too_large"),
        (with_headers(20, 1000), "header_too_large"),
        (with_headers(50, 1), "too_many_headers"),
        (with_headers(300, 1), "too_many_headers"),
        (with_headers(1, 700 * 1024), "header_too_large"),
    ] {
        let mut client = proxy.client().await;
        client.begin(&request).await;
        let head = client.head().await;
        assert_eq!(head.status(), 431);
        let body = client.rest().await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains(code), "{body:?}");
    }
    let mut http2 = proxy.h2_client().await;
    http2.send(&with_headers(50, 1)).await.expect_status(431);
    http2
        .send(&with_headers(1, 17 * 1024))
        .await
        .expect_status(431);
    http2.send(&with_headers(20, 100)).await.expect_status(200);
    proxy.send(&with_headers(20, 700)).await.expect_status(200);
    assert_eq!(backend.request_count(), 2);
}

/// Uploads that stop half-way are held; what goes beyond the limit is refused, small requests and
/// what was there first are served.
#[tokio::test]
async fn requests_that_find_no_room_in_memory_are_503() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.max_buffered_bytes", "5MiB");
    let proxy = Proxy::start(&config).await;
    let large = ask(&"x".repeat(1_500_000));
    let (mut first, rest) = unfinished(&proxy, &large).await;
    let second = unfinished(&proxy, &large).await;
    // Buffers double, and count as they are.
    await_buffered(&proxy, 4_000_000.0..=4_300_000.0).await;
    let answer = proxy.send(&large).await.expect_status(503);
    assert_refused(&answer, "buffers_full");
    proxy.send(&ask("small")).await.expect_status(200);
    assert_alive(&proxy).await;
    // One of them leaves; the other has room to be parsed then.
    drop(second);
    await_buffered(&proxy, 2_000_000.0..=2_200_000.0).await;
    first.write_raw(&rest).await;
    assert_eq!(first.head().await.status(), 200);
    first.rest().await.unwrap();
    await_buffered(&proxy, 0.0..=0.0).await;
}

/// A length is a promise: memory goes by what has come.
#[tokio::test]
async fn announced_bodies_cost_nothing_before_they_come() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    proxy.send(&ask("warm up")).await.expect_status(200);
    let before = proxy.resident_bytes().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..200 {
        let mut client = proxy.client().await;
        client
            .write_raw(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 30000000\r\n\r\n{",
            )
            .await;
        waiting.push(client);
    }
    eventually("all of them are here", async || {
        let metrics = proxy.metrics().await;
        match metrics.sum("sluicegate_requests_in_flight", &[]) {
            200.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let after = proxy.resident_bytes().unwrap();
    // Each with its buffers, and not with a page of 2 MiB.
    assert!(
        after < before + 200 * 200_000,
        "{before} bytes, then {after}"
    );
}

/// Where there is no room to hold an answer back or to store it, it passes all the same.
#[tokio::test]
async fn answers_that_find_no_room_pass_unheld_and_unstored() {
    let backend = Backend::model("b").await;
    backend.behave(|behaviour| behaviour.tokens = 80_000);
    let config = Config::one(&backend)
        .cached()
        .set("server.max_buffered_bytes", "1MiB");
    let proxy = Proxy::start(&config).await;
    let upload = ask(&"x".repeat(900_000));
    let holder = unfinished(&proxy, &upload).await;
    await_buffered(&proxy, 1_000_000.0..=1_100_000.0).await;
    for _ in 0..2 {
        let answer = proxy.send(&ask("same")).await.expect_status(200);
        assert!(answer.text().contains(" t79999"));
        assert_eq!(answer.header("x-sluicegate-cache"), Some("miss"));
    }
    let stream = Request::chat(
        r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"same"}]}"#,
    );
    let answer = proxy.send(&stream).await.expect_status(200);
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    drop(holder);
}
