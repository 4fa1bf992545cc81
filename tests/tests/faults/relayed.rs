//! What is only passed on: no body is judged, and only methods that may be repeated are.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sluicegate_tests::{Config, Faulty, Pool, Proxy, Request, Route};

use crate::bench::{Bench, answer, pause};

#[tokio::test]
async fn gateway_errors_of_relayed_reads_are_tried_again() {
    let bench = Bench::new(Route::to("main")).await;
    for (method, attempts) in [("GET", 2), ("DELETE", 2), ("POST", 1)] {
        for status in [
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway Timeout",
        ] {
            let bytes = answer(status, "retry-after: 2\r\nconnection: close\r\n", "busy");
            let what = format!("{method} {status}");
            let request = Request::new(method, "/v1/files/a", Bytes::new());
            let outcome = bench
                .ask(&request, async |backend| {
                    let mut held = Vec::new();
                    for _ in 0..attempts {
                        let mut peer = backend.next().await;
                        peer.request().await;
                        peer.write(&bytes).await.unwrap();
                        held.push(peer);
                    }
                    held
                })
                .await;
            outcome.has_status(&what, status);
            assert_eq!(outcome.text(), "busy", "{what}");
            assert_eq!(outcome.head.header("retry-after"), Some("2"), "{what}");
            outcome.attempts_were(&what, &format!("5xx {attempts}"));
            let spent = (attempts > 1).then_some("false");
            assert_eq!(outcome.head.header("x-should-retry"), spent, "{what}");
        }
    }
    let outcome = bench
        .ask(&Request::get("/v1/files/a"), async |backend| {
            let mut first = backend.next().await;
            first.request().await;
            first
                .write(answer("503 Busy", "connection: close\r\n", ""))
                .await
                .unwrap();
            let mut second = backend.next().await;
            second.request().await;
            second
                .write(answer("200 OK", "", "the file"))
                .await
                .unwrap();
            (first, second)
        })
        .await;
    assert_eq!((outcome.head.status(), outcome.text()), (200, "the file"));
    outcome.attempts_were("then well", "2xx 1, 5xx 1");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn gateway_error_that_nobody_bettered_bears_the_name_of_its_backend() {
    let (busy, dying) = (Faulty::new(), Faulty::new());
    let pool = Pool::new("main").url(busy.url()).url(dying.url());
    let proxy = Proxy::start(&Config::new().pool(pool).set("server.workers", 1)).await;
    let mut client = proxy.client().await;
    client.begin(&Request::get("/v1/files/a")).await;
    // The first of two equal backends is the first to be asked.
    let mut peer = busy.next().await;
    peer.request().await;
    peer.write(answer("503 Busy", "", "busy")).await.unwrap();
    let die = async {
        loop {
            dying.next().await.reset();
        }
    };
    let head = tokio::select! {
        head = client.head() => head,
        () = die => unreachable!("it dies for ever"),
    };
    assert_eq!(head.status(), 503);
    assert_eq!(head.header("x-sluicegate-backend"), Some("main-1"));
    assert_eq!(client.rest().await.unwrap(), "busy");
}

#[tokio::test]
async fn relayed_request_whose_connection_breaks_is_repeated_only_where_its_method_may_be() {
    let bench = Bench::new(Route::to("main")).await;
    let good = answer("200 OK", "", "ok");
    for (method, body, is_repeated) in [
        ("GET", "", true),
        ("POST", "", false),
        ("POST", "{}", false),
    ] {
        // A kept connection that dies under the request, and a fresh one that does.
        for is_kept in [true, false] {
            let what = format!("{method} {body:?}, kept: {is_kept}");
            let mut kept = None;
            if is_kept {
                let outcome = bench
                    .ask(&Request::get("/v1/warm"), async |backend| {
                        let mut peer = backend.next().await;
                        peer.request().await;
                        peer.write(&good).await.unwrap();
                        kept = Some(peer);
                    })
                    .await;
                assert_eq!(outcome.head.status(), 200);
            }
            let request = Request::new(method, "/v1/batches/b/cancel", Bytes::from(body));
            let outcome = bench
                .ask(&request, async |backend| {
                    let mut dying = match kept.take() {
                        Some(kept) => kept,
                        None => backend.next().await,
                    };
                    dying.request().await;
                    dying.reset();
                    if !is_repeated {
                        return None;
                    }
                    let mut peer = backend.next().await;
                    peer.request().await;
                    let good = good.replacen("\r\n", "\r\nconnection: close\r\n", 1);
                    peer.write(good).await.unwrap();
                    Some(peer)
                })
                .await;
            match is_repeated {
                true => assert_eq!(
                    (outcome.head.status(), outcome.text()),
                    (200, "ok"),
                    "{what}"
                ),
                false => outcome.is_error(&what, 502, "upstream_failed"),
            }
        }
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn relayed_answer_that_breaks_off_is_cut_at_the_client_too() {
    let bench = Bench::new(Route::to("main")).await;
    for resets in [true, false] {
        let outcome = bench
            .ask(&Request::get("/v1/files/a/content"), async |backend| {
                let mut peer = backend.next().await;
                peer.request().await;
                peer.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
                    .await
                    .unwrap();
                if resets {
                    peer.reset();
                }
            })
            .await;
        assert!(!outcome.is_whole, "it passes for whole");
        assert_eq!(outcome.line["outcome"], "upstream_failed");
        assert_eq!(outcome.line["error"], "upstream_broken");
        outcome.attempts_were("cut", "2xx 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn relayed_answer_that_never_ends_is_cut_when_the_total_has_passed() {
    let bench = Bench::new(Route::to("main").set("timeouts.total", "600ms")).await;
    let outcome = bench
        .ask(&Request::get("/v1/files/a/content"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                .await
                .unwrap();
            while peer.write("x").await.is_ok() {
                pause(Duration::from_millis(20)).await;
            }
        })
        .await;
    assert!(!outcome.is_whole, "it passes for whole");
    assert_eq!(outcome.line["outcome"], "upstream_failed");
    assert_eq!(outcome.line["error"], "deadline_exceeded");
    bench.nothing_broken_is_cached().await;
}

/// The head of an upload of a thousand bytes, and the first of them.
const UPLOAD: &[u8] = b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nx";

#[tokio::test]
async fn upload_that_its_client_does_not_end_is_408_and_lets_the_backend_go() {
    let bench = Bench::with(Route::to("main"), |config| {
        config.set("server.body_timeout", "400ms")
    })
    .await;
    // Silent, and as slow as can be.
    for pause_ms in [None, Some(20)] {
        let mut client = bench.proxy.client().await;
        client.write_raw(UPLOAD).await;
        let mut peer = bench.backend.next().await;
        peer.request_head().await;
        let dripping = async {
            while let Some(ms) = pause_ms {
                client.write_raw(b"x").await;
                pause(Duration::from_millis(ms)).await;
            }
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = dripping => {}
            () = peer.closed() => {}
        }
        assert_eq!(client.head().await.status(), 408);
        let body = client.rest().await.unwrap();
        let error: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(error["error"]["code"], "request_timeout");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn upload_that_takes_longer_than_the_total_is_504() {
    let bench = Bench::new(Route::to("main").set("timeouts.total", "600ms")).await;
    let mut client = bench.proxy.client().await;
    client.write_raw(UPLOAD).await;
    let mut peer = bench.backend.next().await;
    peer.request_head().await;
    peer.closed().await;
    assert_eq!(client.head().await.status(), 504);
    let body = client.rest().await.unwrap();
    let error: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(error["error"]["code"], "deadline_exceeded");
    bench.nothing_broken_is_cached().await;
}
