//! Connections that are refused, silent, cut, half closed, or not what they were.

use std::time::Duration;

use serde_json::json;
use sluicegate_tests::{
    ANSWER, Backend, Config, Faulty, Pool, Proxy, Route, ask, ask_streaming, chat_with,
};

use crate::bench::{Bench, answer, json, pause};

/// The beginning of an event stream, in a chunk that is longer than all that comes of it.
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\n\r\n1000\r\n";
const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";

#[tokio::test]
async fn refused_connection_is_503_after_every_attempt() {
    let bench = Bench::new(Route::to("main")).await;
    bench.backend.refuse().await;
    let outcome = bench.ask_broken(&ask("refused"), async |_| ()).await;
    outcome.is_error("refused", 503, "upstream_unreachable");
    // One is free of charge: a refused connection cost nobody anything.
    outcome.attempts_were("refused", "connect_failed 3");
    assert_eq!(outcome.head.header("x-should-retry"), Some("false"));
    assert_eq!(outcome.line["attempts"], 3);
    bench.backend.listen();
    let outcome = bench
        .ask(&ask("back"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write(json("200 OK", ANSWER)).await.unwrap();
            peer
        })
        .await;
    assert_eq!(outcome.head.status(), 200, "tried although it was ejected");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn backend_that_accepts_and_never_answers_is_504_and_not_tried_again() {
    let bench = Bench::new(
        Route::to("main")
            .set("timeouts.total", "600ms")
            .set("timeouts.first_token", "300ms"),
    )
    .await;
    let outcome = bench
        .ask_broken(&ask_streaming("silent"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.closed().await;
        })
        .await;
    outcome.is_error("streamed", 504, "upstream_timeout");
    outcome.attempts_were("streamed", "first_byte_timeout 1");
    // A plain answer comes after its last token: only the whole time bounds it.
    let outcome = bench
        .ask_broken(&ask("silent"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.closed().await;
        })
        .await;
    // Both limits are the same here.
    let code = outcome.line["error"].as_str().unwrap_or_default();
    assert!(["upstream_timeout", "deadline_exceeded"].contains(&code));
    outcome.is_error("plain", 504, code);
    assert_eq!(outcome.line["attempts"], 1);
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn backend_that_stops_reading_the_request_is_504() {
    let bench = Bench::new(Route::to("main").set("timeouts.between_bytes", "300ms")).await;
    // More than the buffers of both sockets hold.
    let long = ask(&"x".repeat(14 << 20));
    let outcome = bench
        .ask_broken(&long, async |backend| {
            let mut peer = backend.next().await;
            peer.request_head().await;
            pause(Duration::from_secs(2)).await;
            peer
        })
        .await;
    outcome.is_error("unread", 504, "upstream_timeout");
    outcome.attempts_were("unread", "first_byte_timeout 1");
    bench.nothing_broken_is_cached().await;
}

/// How the backend ends its side.
#[derive(Debug, Clone, Copy)]
enum End {
    Reset,
    Close,
    HalfClose,
}

const ENDS: [End; 3] = [End::Reset, End::Close, End::HalfClose];

/// Reads a request, writes `bytes`, and ends.
async fn cut(backend: &Faulty, bytes: &str, end: End) -> Option<sluicegate_tests::Peer> {
    let mut peer = backend.next().await;
    peer.request().await;
    peer.write(bytes).await.unwrap();
    match end {
        End::Reset => {
            // What was written is on its way: a reset that overtook it would hide it.
            pause(Duration::from_millis(50)).await;
            peer.reset();
            None
        }
        End::Close => {
            peer.close();
            None
        }
        End::HalfClose => {
            peer.half_close().await.unwrap();
            Some(peer)
        }
    }
}

#[tokio::test]
async fn connection_cut_before_the_head_is_tried_again_and_then_502() {
    for end in ENDS {
        let bench = Bench::new(Route::to("main")).await;
        let outcome = bench
            .ask_broken(&ask("cut"), async |backend| {
                (cut(backend, "", end).await, cut(backend, "", end).await)
            })
            .await;
        outcome.is_error(&format!("{end:?}"), 502, "upstream_failed");
        outcome.attempts_were(&format!("{end:?}"), "closed 2");
        let outcome = bench
            .ask(&ask("cut once"), async |backend| {
                let first = cut(backend, "", end).await;
                let mut peer = backend.next().await;
                peer.request().await;
                peer.write(json("200 OK", ANSWER)).await.unwrap();
                (first, peer)
            })
            .await;
        assert_eq!(outcome.head.status(), 200, "{end:?}");
        outcome.attempts_were(&format!("{end:?}"), "2xx 1, closed 1");
        bench.nothing_broken_is_cached().await;
    }
}

#[tokio::test]
async fn connection_cut_in_or_after_the_head_is_502_and_not_tried_again() {
    let bench = Bench::new(Route::to("main")).await;
    let whole = json("200 OK", ANSWER);
    let (head, _) = whole.split_once(ANSWER).unwrap();
    let half = whole.split_at(whole.len() - 40).0;
    let unfinished = head.trim_end();
    for end in ENDS {
        for (what, bytes, code, attempts) in [
            (
                "in the status line",
                "HTTP/1.1 20",
                "upstream_failed",
                "protocol_error 1",
            ),
            (
                "in the head",
                unfinished,
                "upstream_failed",
                "protocol_error 1",
            ),
            ("after the head", head, "upstream_broken", "2xx 1"),
            ("in the body", half, "upstream_broken", "2xx 1"),
            (
                "in a chunk",
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\"",
                "upstream_broken",
                "2xx 1",
            ),
            (
                "before the last chunk",
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
                "upstream_broken",
                "2xx 1",
            ),
        ] {
            let what = format!("{what}, {end:?}");
            let request = ask(&what);
            let outcome = bench
                .ask_broken(&request, async |backend| cut(backend, bytes, end).await)
                .await;
            outcome.is_error(&what, 502, code);
            outcome.attempts_were(&what, attempts);
        }
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn large_plain_answer_cut_in_its_middle_is_cut_at_the_client_too() {
    let bench = Bench::new(Route::to("main")).await;
    let begun = format!("{{\"a\":\"{}", "x".repeat(2 << 20));
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n";
    for end in ENDS {
        let request = ask(&format!("large, {end:?}"));
        let answer = format!("{head}{begun}");
        let outcome = bench
            .ask_broken(&request, async |backend| cut(backend, &answer, end).await)
            .await;
        assert_eq!(outcome.head.status(), 200, "{end:?}");
        assert!(!outcome.is_whole, "{end:?}: it passes for whole");
        assert!(begun.as_bytes().starts_with(&outcome.body), "{end:?}");
        assert_eq!(outcome.line["outcome"], "upstream_failed", "{end:?}");
        outcome.attempts_were("large", "2xx 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn stream_cut_before_its_content_is_tried_again_and_after_it_an_error_event() {
    let bench = Bench::new(Route::to("main")).await;
    for end in ENDS {
        let begun = format!("{STREAM}{ROLE}");
        let outcome = bench
            .ask_broken(
                &ask_streaming(&format!("before, {end:?}")),
                async |backend| {
                    (
                        cut(backend, &begun, end).await,
                        cut(backend, &begun, end).await,
                    )
                },
            )
            .await;
        outcome.is_error("before", 502, "upstream_broken");
        outcome.attempts_were("before", "2xx 2");
        let begun = format!("{STREAM}{ROLE}{TOKEN}");
        let outcome = bench
            .ask_broken(
                &ask_streaming(&format!("after, {end:?}")),
                async |backend| cut(backend, &begun, end).await,
            )
            .await;
        assert_eq!(outcome.head.status(), 200);
        assert!(outcome.is_whole);
        let error = sluicegate_tests::error_event(&outcome.body);
        assert_eq!(error["code"], "upstream_broken");
        assert!(outcome.text().starts_with(&format!("{ROLE}{TOKEN}")));
        assert_eq!(outcome.line["outcome"], "upstream_failed");
        outcome.attempts_were("after", "2xx 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn half_closed_after_a_whole_answer_is_an_answer() {
    let bench = Bench::once().await;
    let whole = json("200 OK", ANSWER);
    for round in 0..3 {
        let request = ask(&format!("half closed {round}"));
        let outcome = bench
            .ask(&request, async |backend| {
                cut(backend, &whole, End::HalfClose).await
            })
            .await;
        assert_eq!((outcome.head.status(), outcome.text()), (200, ANSWER));
        outcome.attempts_were("half closed", "2xx 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn second_answer_on_a_connection_reaches_nobody() {
    let bench = Bench::once().await;
    let good = json("200 OK", ANSWER);
    let stray = json("200 OK", &ANSWER.replace("\"ok\"", "\"STRAY\""));
    for round in 0..40 {
        // With the first answer, in a write of its own, or when the client has long had it.
        let first = ask(&format!("first {round}"));
        let mut held = None;
        let outcome = bench
            .ask(&first, async |backend| {
                let mut peer = backend.next().await;
                peer.request().await;
                match round % 3 {
                    0 => peer.write(format!("{good}{stray}")).await.unwrap(),
                    1 => {
                        peer.write(&good).await.unwrap();
                        peer.write(&stray).await.unwrap();
                    }
                    _ => peer.write(&good).await.unwrap(),
                }
                held = Some(peer);
            })
            .await;
        assert_eq!(outcome.text(), ANSWER, "round {round}");
        let mut peer = held.unwrap();
        if round % 3 == 2 {
            // The proxy may have closed it, which is as well.
            let _ = peer.write(&stray).await;
        }
        let second = ask(&format!("second {round}"));
        let outcome = bench
            .ask(&second, async |backend| {
                let mut peer = backend.next().await;
                peer.request().await;
                peer.write(&good).await.unwrap();
                peer
            })
            .await;
        assert_eq!(outcome.text(), ANSWER, "round {round}: the stray answer");
        peer.closed().await;
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn connection_closed_at_the_moment_of_reuse_fails_nobody_500_times() {
    let bench = Bench::once().await;
    let good = json("200 OK", ANSWER);
    let mut client = bench.proxy.client().await;
    let mut kept: Option<sluicegate_tests::Peer> = None;
    for round in 0..500 {
        let request = chat_with(&format!("{round}"), &json!({"stream": false}));
        // Before the request, while it is on its way, or when it has been read.
        let closing = kept.take();
        let backend = async {
            if let Some(mut peer) = closing {
                if round % 3 == 2 {
                    peer.request().await;
                }
                if round % 2 == 0 {
                    peer.reset()
                } else {
                    peer.close()
                }
            }
            let mut peer = bench.backend.next().await;
            peer.request().await;
            peer.write(&good).await.unwrap();
            peer
        };
        let (answer, peer) = tokio::join!(client.send(&request), backend);
        assert_eq!(answer.expect_status(200).text(), ANSWER, "round {round}");
        kept = Some(peer);
    }
    drop(kept);
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn kept_connection_that_dies_under_a_request_that_may_not_be_sent_twice_is_502() {
    let bench = Bench::new(Route::to("main").set("retry_ambiguous", false)).await;
    let good = json("200 OK", ANSWER);
    let mut held = None;
    let outcome = bench
        .ask(&ask("first"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write(&good).await.unwrap();
            held = Some(peer);
        })
        .await;
    assert_eq!(outcome.head.status(), 200);
    let mut kept = held.unwrap();
    let outcome = bench
        .ask_broken(&ask("second"), async |_| {
            kept.request().await;
            kept.reset();
        })
        .await;
    outcome.is_error("killed", 502, "upstream_failed");
    outcome.attempts_were("killed", "closed 1");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn unavailable_backend_hands_over_to_the_next() {
    let (bad, good) = (Faulty::new(), Backend::model("good").await);
    let pool = Pool::new("main").url(bad.url()).backend(&good);
    let proxy = Proxy::start(&Config::new().pool(pool).set("server.workers", 1)).await;
    for (status, body) in [
        ("502 Bad Gateway", "<html>nginx</html>"),
        ("503 Service Unavailable", "{\"error\":{}}"),
        ("504 Gateway Timeout", ""),
    ] {
        let mut client = proxy.client().await;
        client.begin(&ask("hi")).await;
        // The first of two equal backends is the first to be asked.
        let mut peer = bad.next().await;
        peer.request().await;
        let headers = "retry-after: 3\r\nconnection: close\r\n";
        peer.write(answer(status, headers, body)).await.unwrap();
        let head = client.head().await;
        assert_eq!(head.status(), 200, "{status}");
        assert_eq!(
            head.header("x-sluicegate-backend"),
            Some("main-2"),
            "{status}"
        );
    }
    let metrics = proxy.metrics().await;
    let of = |backend, result| {
        let labels = [("backend", backend), ("result", result)];
        metrics.sum("sluicegate_upstream_attempts_total", &labels)
    };
    assert_eq!((of("main-1", "5xx"), of("main-2", "2xx")), (3.0, 3.0));
    let healthy = [("backend", "main-1")];
    assert_eq!(metrics.sum("sluicegate_upstream_healthy", &healthy), 1.0);
}
