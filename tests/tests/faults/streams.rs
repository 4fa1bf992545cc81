//! Event streams: cut anywhere, in every spelling, with errors, and beyond their end.

use std::time::Duration;

use sluicegate_tests::{Peer, Request, Route, ask_streaming, error_event, events, within};

use crate::bench::{Bench, Outcome, json, pause};

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const TOKEN: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"caf\u{e9} \u{1f600}\"}}]}\n\n";
const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const LAST: &str = "0\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let size = format!("{:x}\r\n", bytes.len());
    [size.as_bytes(), bytes, b"\r\n"].concat()
}

/// Streams these chunks and ends the body in good order.
async fn streamed(bench: &Bench, request: &Request, chunks: &[&[u8]]) -> Outcome {
    bench
        .ask(request, async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write(HEAD).await.unwrap();
            send(&mut peer, chunks).await;
            peer
        })
        .await
}

async fn send(peer: &mut Peer, chunks: &[&[u8]]) {
    for bytes in chunks {
        // The proxy stops reading at the end of the answer.
        let _ = peer.write(chunk(bytes)).await;
    }
    let _ = peer.write(LAST).await;
}

/// Asserts that a stream passed whole, byte for byte.
fn passed(outcome: &Outcome, what: &str, stream: &str) {
    assert_eq!(outcome.head.status(), 200, "{what}: {outcome:?}");
    assert!(outcome.text() == stream, "{what}: {:?}", outcome.text());
    assert!(outcome.is_whole, "{what}");
    assert_eq!(outcome.line["outcome"], "complete", "{what}");
    outcome.attempts_were(what, "2xx 1");
}

#[tokio::test]
async fn stream_split_at_every_byte_passes_byte_for_byte() {
    let bench = Bench::once().await;
    let stream = format!("{ROLE}{TOKEN}{STOP}{DONE}");
    let bytes = stream.as_bytes();
    let request = |what: &str| ask_streaming(what).header("x-sluicegate-cache", "no-store");
    // Every cut in two, on one connection of the client's: multi-byte characters among them.
    let mut client = bench.proxy.client().await;
    let mut kept: Option<Peer> = None;
    for cut in 1..bytes.len() {
        client.begin(&request("two")).await;
        let mut peer = match kept.take() {
            Some(peer) => peer,
            None => bench.backend.next().await,
        };
        peer.request().await;
        let (first, second) = bytes.split_at(cut);
        peer.write([HEAD.as_bytes(), &chunk(first)].concat())
            .await
            .unwrap();
        peer.write([&chunk(second)[..], LAST.as_bytes()].concat())
            .await
            .unwrap();
        assert_eq!(client.head().await.status(), 200);
        assert!(client.rest().await.unwrap() == bytes, "cut at {cut}");
        kept = Some(peer);
    }
    drop(kept);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let outcome = streamed(&bench, &request("single bytes"), &single).await;
    passed(&outcome, "single bytes", &stream);
    let outcome = streamed(&bench, &request("one chunk"), &[bytes]).await;
    passed(&outcome, "one chunk", &stream);
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn every_spelling_of_an_event_passes_byte_for_byte() {
    let bench = Bench::once().await;
    let long = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(1 << 20)
    );
    let multi = "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"x\"}}]}\n\n";
    let plain = format!("{ROLE}{TOKEN}{STOP}{DONE}");
    for (what, stream) in [
        ("CRLF", plain.replace('\n', "\r\n")),
        ("CR", plain.replace('\n', "\r")),
        (
            "comments and retry lines",
            format!(
                ": ping\n\nretry: 1000\n\n{ROLE}: ping\n\n{TOKEN}id: 7\nretry: 5\n{STOP}{DONE}"
            ),
        ),
        (
            "data in several lines",
            format!("{ROLE}{multi}{STOP}{DONE}"),
        ),
        ("an event of 1 MiB", format!("{ROLE}{long}{STOP}{DONE}")),
        (
            "10,000 events in a chunk",
            format!("{ROLE}{}{STOP}{DONE}", TOKEN.repeat(10_000)),
        ),
        (
            "events that are no JSON",
            format!("{ROLE}data: not JSON\n\n{STOP}{DONE}"),
        ),
        ("a byte order mark", format!("\u{feff}{plain}")),
        ("no content at all", format!("{ROLE}{STOP}{DONE}")),
    ] {
        let outcome = streamed(&bench, &ask_streaming(what), &[stream.as_bytes()]).await;
        passed(&outcome, what, &stream);
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn stream_of_a_byte_at_a_time_lives_by_its_pauses_and_dies_by_the_total() {
    let bench = Bench::new(Route::to("main").set("timeouts.between_bytes", "2s")).await;
    let stream = format!("{TOKEN}{STOP}{DONE}");
    let outcome = bench
        .ask(&ask_streaming("slow"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            // Its body ends with its connection.
            peer.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                .await
                .unwrap();
            peer.trickle(&stream, Duration::from_millis(15))
                .await
                .unwrap();
        })
        .await;
    passed(&outcome, "slow", &stream);
    bench.nothing_broken_is_cached().await;

    let bench = Bench::new(Route::to("main").set("timeouts.total", "800ms")).await;
    let outcome = bench
        .ask_broken(&ask_streaming("too slow"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                .await
                .unwrap();
            peer.write(TOKEN).await.unwrap();
            while peer.write(" ").await.is_ok() {
                pause(Duration::from_millis(20)).await;
            }
        })
        .await;
    assert_eq!(outcome.head.status(), 200);
    let error = error_event(&outcome.body);
    assert_eq!(error["code"], "deadline_exceeded");
    assert_eq!(outcome.line["outcome"], "upstream_failed");
    bench.nothing_broken_is_cached().await;
}

/// Streams these bytes, which are no whole answer, and ends the body in good order.
async fn ends_early(bench: &Bench, what: &str, stream: &str) -> Outcome {
    bench
        .ask_broken(&ask_streaming(what), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write(HEAD).await.unwrap();
            send(&mut peer, &[stream.as_bytes()]).await;
            peer
        })
        .await
}

#[tokio::test]
async fn stream_without_its_terminal_is_an_error_event_and_half_an_event_never_leaves() {
    let bench = Bench::once().await;
    let half = TOKEN.split_at(TOKEN.len() - 12).0;
    let half_stop = STOP.split_at(STOP.len() - 6).0;
    for (what, stream, passed) in [
        ("no terminal", TOKEN.to_owned(), TOKEN.to_owned()),
        ("half an event", format!("{TOKEN}{half}"), TOKEN.to_owned()),
        (
            "half a terminal",
            format!("{TOKEN}{half_stop}"),
            TOKEN.to_owned(),
        ),
        (
            "half a [DONE]",
            format!("{TOKEN}data: [DO"),
            TOKEN.to_owned(),
        ),
        // All choices have ended, and something was still to come.
        (
            "half an event after the last reason",
            format!("{TOKEN}{STOP}{half}"),
            format!("{TOKEN}{STOP}"),
        ),
    ] {
        let outcome = ends_early(&bench, what, &stream).await;
        assert_eq!(outcome.head.status(), 200, "{what}");
        let error = error_event(&outcome.body);
        assert_eq!(error["code"], "upstream_incomplete", "{what}");
        let last = format!("data: {}\n\n", events(&outcome.body).last().unwrap());
        assert_eq!(outcome.text(), format!("{passed}{last}"), "{what}");
        assert_eq!(outcome.line["outcome"], "upstream_failed", "{what}");
        assert_eq!(outcome.line["error"], "upstream_incomplete", "{what}");
        outcome.attempts_were(what, "2xx 1");
    }
    for (what, stream) in [
        ("nothing", String::new()),
        ("half the first", half.to_owned()),
    ] {
        let outcome = ends_early(&bench, what, &stream).await;
        outcome.is_error(what, 502, "upstream_incomplete");
        outcome.attempts_were(what, "2xx 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn last_event_without_its_blank_line_is_passed_on_when_it_is_whole() {
    let bench = Bench::once().await;
    let body = format!("{TOKEN}{STOP}");
    for (last, lacks) in [
        ("data: [DONE]", "\n\n"),
        ("data: [DONE]\n", "\n"),
        ("data:[DONE]\r\n", "\n"),
    ] {
        let stream = format!("{body}{last}");
        let outcome = streamed(&bench, &ask_streaming(last), &[stream.as_bytes()]).await;
        passed(&outcome, last, &format!("{stream}{lacks}"));
    }
    let outcome = streamed(
        &bench,
        &ask_streaming("stop"),
        &[body.trim_end().as_bytes()],
    )
    .await;
    assert_eq!(outcome.text(), format!("{body}{DONE}"));
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn error_event_after_content_is_the_last_event() {
    let bench = Bench::new(Route::to("main")).await;
    let error = "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"code\":500}}\n\n";
    for tail in ["", DONE, TOKEN] {
        let stream = format!("{ROLE}{TOKEN}{error}{tail}");
        let outcome = ends_early(&bench, &format!("with {tail:?}"), &stream).await;
        assert_eq!(outcome.head.status(), 200);
        assert_eq!(outcome.text(), format!("{ROLE}{TOKEN}{error}"), "{tail:?}");
        assert_eq!(outcome.line["error"], "upstream_error");
        assert_eq!(outcome.line["outcome"], "upstream_failed");
        outcome.attempts_were(tail, "2xx 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn error_in_place_of_the_first_content_keeps_its_words_and_its_status() {
    let bench = Bench::new(Route::to("main")).await;
    for (error, status, code) in [
        (
            r#"{"error":{"message":"too long","type":"BadRequestError","code":400}}"#,
            400,
            1,
        ),
        (
            r#"{"error":{"message":"no such model","code":"404"}}"#,
            404,
            1,
        ),
        (
            r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#,
            429,
            1,
        ),
        (
            r#"{"error":{"message":"no","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            400,
            1,
        ),
        (
            r#"{"object":"error","message":"bad","type":"BadRequestError","code":400}"#,
            400,
            1,
        ),
        (
            r#"{"error":{"message":"engine died","type":"InternalServerError","code":500}}"#,
            500,
            1,
        ),
        // As with a plain 503, and where nothing is said of a status: perhaps another attempt helps.
        (
            r#"{"error":{"message":"overloaded","type":"overloaded_error"}}"#,
            503,
            2,
        ),
        (r#"{"error":{"message":"full","code":503}}"#, 503, 2),
        (r#"{"error":{"message":"hm","code":200}}"#, 502, 2),
        (r#"{"error":"just text"}"#, 502, 2),
    ] {
        for (begin, end) in [("", ""), (ROLE, DONE)] {
            let stream = format!("{begin}data: {error}\n\n{end}");
            let request = ask_streaming(&format!("{error} {begin}"));
            let outcome = bench
                .ask_broken(&request, async |backend| {
                    let mut held = Vec::new();
                    for _ in 0..code {
                        let mut peer = backend.next().await;
                        peer.request().await;
                        peer.write(HEAD.replace(
                            "\r\n\r\n",
                            "\r\nretry-after: 4\r\nconnection: close\r\n\r\n",
                        ))
                        .await
                        .unwrap();
                        send(&mut peer, &[stream.as_bytes()]).await;
                        held.push(peer);
                    }
                    held
                })
                .await;
            assert_eq!(outcome.head.status(), status, "{error}");
            assert_eq!(outcome.text(), error);
            assert_eq!(
                outcome.head.header("content-type"),
                Some("application/json"),
                "{error}"
            );
            assert_eq!(outcome.head.header("retry-after"), Some("4"), "{error}");
            let is_logged = status >= 500;
            assert_eq!(
                outcome.line["error"] == "upstream_error",
                is_logged,
                "{}",
                outcome.line
            );
            outcome.attempts_were(error, &format!("2xx {code}"));
        }
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn events_after_done_reach_nobody() {
    let bench = Bench::once().await;
    let whole = format!("{ROLE}{TOKEN}{STOP}{DONE}");
    for (what, tail) in [
        ("a token", TOKEN.to_owned()),
        ("another [DONE]", DONE.to_owned()),
        (
            "an error",
            "data: {\"error\":{\"message\":\"late\"}}\n\n".to_owned(),
        ),
        ("a whole stream", whole.clone()),
        ("half an event", "data: {\"choi".to_owned()),
    ] {
        for chunks in [
            vec![format!("{whole}{tail}")],
            vec![whole.clone(), tail.clone()],
        ] {
            let chunks: Vec<&[u8]> = chunks.iter().map(String::as_bytes).collect();
            let request = ask_streaming(&format!("{what} {}", chunks.len()));
            let outcome = streamed(&bench, &request, &chunks).await;
            passed(&outcome, what, &whole);
        }
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn done_ends_the_answer_though_the_body_goes_on() {
    let bench = Bench::once().await;
    let whole = format!("{ROLE}{TOKEN}{STOP}{DONE}");
    let outcome = bench
        .ask(&ask_streaming("open"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write(HEAD).await.unwrap();
            peer.write(chunk(whole.as_bytes())).await.unwrap();
            // It never ends its body: the connection is given up.
            within("the connection is given up", peer.closed()).await;
        })
        .await;
    passed(&outcome, "open", &whole);
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn plain_answer_to_a_streaming_request_passes() {
    let bench = Bench::once().await;
    let outcome = bench
        .ask(&ask_streaming("plain"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write(json("200 OK", sluicegate_tests::ANSWER))
                .await
                .unwrap();
            peer
        })
        .await;
    assert_eq!(
        (outcome.head.status(), outcome.text()),
        (200, sluicegate_tests::ANSWER)
    );
    bench.nothing_broken_is_cached().await;
}
