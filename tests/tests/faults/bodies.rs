//! Answers of every status and coding: passed on as they are, tried again where that may help, and
//! kept only where they are whole.

use serde_json::{Value, json as value};
use sluicegate_tests::{ANSWER, Faulty, Peer, Route, ask, chat_with};

use crate::bench::{Bench, answer, json};

async fn answers(backend: &Faulty, bytes: impl AsRef<[u8]>) -> Peer {
    let mut peer = backend.next().await;
    peer.request().await;
    peer.write(bytes).await.unwrap();
    peer
}

/// The same bytes in the codings that backends use; the proxy never looks into them.
const GZIP: &[u8] = &[
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1, 2, 0, 0xfd, 0xff, b'{', b'}', 0x43, 0xbf, 0xa6, 0xa3,
    2, 0, 0, 0,
];
const BROTLI: &[u8] = &[0x8b, 0, 0x80, b'{', b'}', 3];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 2, 0x11, 0, 0, b'{', b'}'];

#[tokio::test]
async fn coding_and_body_stay_together_and_are_not_stored() {
    let bench = Bench::once().await;
    for (coding, body) in [("gzip", GZIP), ("br", BROTLI), ("zstd", ZSTD)] {
        for kind in ["application/json", "text/event-stream"] {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: {coding}\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            let what = format!("{coding} {kind}");
            let request = chat_with(&what, &value!({"stream": kind.starts_with("text")}));
            let outcome = bench
                .ask_broken(&request, async |backend| {
                    let mut peer = backend.next().await;
                    let received = peer.request().await;
                    assert_eq!(received.head.header("accept-encoding"), Some("identity"));
                    peer.write([head.as_bytes(), body].concat()).await.unwrap();
                    peer
                })
                .await;
            assert_eq!(outcome.head.status(), 200, "{what}");
            assert_eq!(
                outcome.head.header("content-encoding"),
                Some(coding),
                "{what}"
            );
            assert_eq!(outcome.body, body, "{what}");
            outcome.attempts_were(&what, "2xx 1");
        }
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn redirects_are_passed_on_and_never_followed() {
    let bench = Bench::new(Route::to("main")).await;
    let elsewhere = Faulty::new();
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let location = format!("location: {}/v1/chat/completions\r\n", elsewhere.url());
        let bytes = answer(status, &location, "moved");
        let outcome = bench
            .ask_broken(&ask(status), async |backend| answers(backend, &bytes).await)
            .await;
        outcome.has_status(status, status);
        let passed = outcome.head.header("location").unwrap_or_default();
        assert!(location.contains(passed) && !passed.is_empty(), "{passed}");
        assert_eq!(outcome.text(), "moved");
        outcome.attempts_were(status, "3xx 1");
    }
    assert_eq!(elsewhere.connections(), 0, "the prompt went elsewhere");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn error_answers_pass_untouched_whatever_their_body() {
    let bench = Bench::new(Route::to("main")).await;
    let huge = format!("{{\"error\":\"{}\"}}", "x".repeat(3 << 20));
    let bodies = [
        (
            "application/json",
            "{ \"error\" : {\"message\":\"m\",\"n\":1.0} }\n",
        ),
        ("text/html", "<html><body>Not here</body></html>"),
        ("text/plain; charset=latin1", "no JSON {"),
        ("application/json", huge.as_str()),
        ("application/json", ""),
    ];
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "404 Not Found",
        "418 Teapot",
        "500 Internal Server Error",
        "501 Not Implemented",
        "505 Version",
        "529 Overloaded",
    ] {
        for (number, (kind, body)) in bodies.iter().enumerate() {
            let what = format!("{status} {number}");
            let bytes = answer(status, &format!("content-type: {kind}\r\n"), body);
            let outcome = bench
                .ask_broken(&ask(&what), async |backend| answers(backend, &bytes).await)
                .await;
            outcome.has_status(&what, status);
            assert_eq!(outcome.head.header("content-type"), Some(*kind), "{what}");
            assert!(outcome.text() == *body, "{what}: another body");
            assert_eq!(outcome.head.header("x-should-retry"), None, "{what}");
            assert_eq!(
                outcome.line["error"],
                Value::Null,
                "{what}: it is an answer"
            );
            let class = if status.starts_with('4') {
                "4xx 1"
            } else {
                "5xx 1"
            };
            outcome.attempts_were(&what, class);
        }
    }
    let healthy = bench
        .proxy
        .metrics()
        .await
        .sum("sluicegate_upstream_healthy", &[]);
    assert_eq!(healthy, 1.0, "an answer of any status is an answer");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn gateway_error_of_the_last_attempt_passes_with_its_own_words() {
    let bench = Bench::new(Route::to("main")).await;
    for (status, kind, body) in [
        ("502 Bad Gateway", "text/html", "<html>nginx</html>"),
        (
            "503 Service Unavailable",
            "application/json",
            "{\"error\":{\"message\":\"full\"}}",
        ),
        ("504 Gateway Timeout", "text/plain", ""),
    ] {
        let headers = format!("content-type: {kind}\r\nretry-after: 9\r\nconnection: close\r\n");
        let bytes = answer(status, &headers, body);
        let outcome = bench
            .ask_broken(&ask(status), async |backend| {
                (
                    answers(backend, &bytes).await,
                    answers(backend, &bytes).await,
                )
            })
            .await;
        outcome.has_status(status, status);
        assert_eq!(outcome.text(), body, "{status}");
        assert_eq!(outcome.head.header("retry-after"), Some("9"), "{status}");
        assert_eq!(
            outcome.head.header("x-should-retry"),
            Some("false"),
            "{status}"
        );
        assert_eq!(outcome.line["error"], "upstream_error_status", "{status}");
        outcome.attempts_were(status, "5xx 2");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn too_many_requests_is_one_attempt_with_its_retry_after() {
    let bench = Bench::new(Route::to("main")).await;
    let headers = "retry-after: 20\r\nx-ratelimit-reset-tokens: 6s\r\n";
    let bytes = answer("429 Too Many Requests", headers, "{\"error\":{}}");
    let outcome = bench
        .ask_broken(&ask("hi"), async |backend| answers(backend, &bytes).await)
        .await;
    assert_eq!(outcome.head.status(), 429);
    assert_eq!(outcome.head.header("retry-after"), Some("20"));
    assert_eq!(outcome.head.header("x-ratelimit-reset-tokens"), Some("6s"));
    outcome.attempts_were("429", "4xx 1");
    assert_eq!(outcome.line["attempts"], 1);
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn unavailable_then_well_is_an_answer() {
    let bench = Bench::new(Route::to("main")).await;
    let busy = answer("503 Service Unavailable", "connection: close\r\n", "");
    let outcome = bench
        .ask(&ask("hi"), async |backend| {
            let first = answers(backend, &busy).await;
            (first, answers(backend, json("200 OK", ANSWER)).await)
        })
        .await;
    assert_eq!((outcome.head.status(), outcome.text()), (200, ANSWER));
    outcome.attempts_were("503 then 200", "2xx 1, 5xx 1");
    assert_eq!(outcome.line["attempts"], 2);
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn plain_answer_that_does_not_parse_is_502() {
    let bench = Bench::new(Route::to("main")).await;
    let half = ANSWER.split_at(ANSWER.len() / 2).0;
    let doubled = ANSWER.repeat(2);
    for body in ["", "{", half, "<html>", &doubled] {
        let bytes = json("200 OK", body);
        let outcome = bench
            .ask_broken(&ask(body), async |backend| answers(backend, &bytes).await)
            .await;
        outcome.is_error(body, 502, "upstream_incomplete");
        // It was answered, and paid for.
        outcome.attempts_were(body, "2xx 1");
    }
    // JSON of another shape is for the client to judge.
    for body in ["[1,2]", "null", "{\"choices\":\"x\"}"] {
        let bytes = json("200 OK", body);
        let outcome = bench
            .ask_broken(&ask(body), async |backend| answers(backend, &bytes).await)
            .await;
        assert_eq!((outcome.head.status(), outcome.text()), (200, body));
    }
    // What does not claim to be JSON is not judged, and not stored either.
    let bytes = answer("200 OK", "content-type: text/html\r\n", "<html>");
    let outcome = bench
        .ask_broken(&ask("html"), async |backend| answers(backend, &bytes).await)
        .await;
    assert_eq!((outcome.head.status(), outcome.text()), (200, "<html>"));
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn answer_before_the_request_was_read_passes() {
    let bench = Bench::once().await;
    let long = "x".repeat(14 << 20);
    for (status, is_kept) in [
        ("413 Payload Too Large", false),
        ("401 Unauthorized", false),
        ("200 OK", true),
    ] {
        let request = ask(&format!("{status} {long}"));
        let mut held = None;
        let outcome = bench
            .ask(&request, async |backend| {
                let mut peer = backend.next().await;
                peer.request_head().await;
                peer.write(json(status, ANSWER)).await.unwrap();
                if is_kept {
                    // Success does not stop a request: the rest is read as it comes.
                    peer.read(long.len()).await.unwrap();
                }
                held = Some(peer);
            })
            .await;
        outcome.has_status(status, status);
        assert_eq!(outcome.text(), ANSWER, "{status}");
        if !is_kept {
            // The rest of the request would pass for a new one.
            held.unwrap().closed().await;
        }
    }
    bench.nothing_broken_is_cached().await;
}
