//! Answers whose framing is wrong, odd or old.

use std::time::Duration;

use sluicegate_tests::{ANSWER, Faulty, Peer, Route, ask, ask_streaming};

use crate::bench::{Bench, json, pause};

/// Reads a request and writes an answer.
async fn answers(backend: &Faulty, bytes: impl AsRef<[u8]>) -> Peer {
    let mut peer = backend.next().await;
    peer.request().await;
    peer.write(bytes).await.unwrap();
    peer
}

/// A chunked JSON answer with this body as it is on the wire.
fn chunked(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{body}"
    )
}

/// The size of a chunk that holds [`ANSWER`].
fn size() -> String {
    format!("{:x}", ANSWER.len())
}

#[tokio::test]
async fn framing_that_two_parties_could_read_differently_is_502() {
    let bench = Bench::new(Route::to("main")).await;
    let with =
        |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    for (what, bytes) in [
        (
            "both framings",
            with("content-length: 2\r\ntransfer-encoding: chunked"),
        ),
        (
            "two lengths",
            with("content-length: 2\r\ncontent-length: 3"),
        ),
        ("a list of lengths", with("content-length: 2, 3")),
        ("a length with a sign", with("content-length: +2")),
        ("a negative length", with("content-length: -2")),
        ("a length in hex", with("content-length: 0x2")),
        (
            "a length beyond 64 bits",
            with("content-length: 99999999999999999999999"),
        ),
        ("another coding", with("transfer-encoding: gzip, chunked")),
        (
            "two codings",
            with("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        ),
        ("identity", with("transfer-encoding: identity")),
        ("no HTTP", "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned()),
        ("HTTP/2 unasked", "\0\0\0\x04\0\0\0\0\0\r\n\r\n".to_owned()),
        (
            "a status of two digits",
            "HTTP/1.1 20 OK\r\n\r\n".to_owned(),
        ),
        (
            "a header without a colon",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n".to_owned(),
        ),
        (
            "an unrequested 101",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
                .to_owned(),
        ),
    ] {
        let request = ask(what);
        let outcome = bench
            .ask_broken(&request, async |backend| answers(backend, &bytes).await)
            .await;
        outcome.is_error(what, 502, "upstream_failed");
        outcome.attempts_were(what, "protocol_error 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn body_shorter_than_its_length_is_502() {
    let bench = Bench::new(Route::to("main").set("timeouts.total", "400ms")).await;
    let short = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len() + 1
    );
    let outcome = bench
        .ask_broken(&ask("closed"), async |backend| {
            answers(backend, &short).await.close();
        })
        .await;
    outcome.is_error("closed", 502, "upstream_broken");
    outcome.attempts_were("closed", "2xx 1");
    let outcome = bench
        .ask_broken(&ask("held open"), async |backend| {
            answers(backend, &short).await
        })
        .await;
    outcome.is_error("held open", 504, "deadline_exceeded");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn body_longer_than_its_length_ends_there_and_its_connection_too() {
    let bench = Bench::once().await;
    for (what, tail) in [
        ("a line", "\r\n".to_owned()),
        ("text", "and more of it".to_owned()),
        ("an answer", json("200 OK", "{}")),
    ] {
        let long = format!("{}{tail}", json("200 OK", ANSWER));
        let mut held = None;
        let outcome = bench
            .ask(&ask(what), async |backend| {
                held = Some(answers(backend, &long).await);
            })
            .await;
        assert_eq!(
            (outcome.head.status(), outcome.text()),
            (200, ANSWER),
            "{what}"
        );
        held.unwrap().closed().await;
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn bad_chunks_are_502() {
    let bench = Bench::new(Route::to("main")).await;
    let size = size();
    for (what, body) in [
        ("no number", format!("zz\r\n{ANSWER}\r\n0\r\n\r\n")),
        ("a sign", format!("+{size}\r\n{ANSWER}\r\n0\r\n\r\n")),
        (
            "a negative size",
            format!("-{size}\r\n{ANSWER}\r\n0\r\n\r\n"),
        ),
        (
            "a prefix of hex",
            format!("0x{size}\r\n{ANSWER}\r\n0\r\n\r\n"),
        ),
        (
            "an overflow",
            format!("1{}\r\n{ANSWER}\r\n0\r\n\r\n", "0".repeat(16)),
        ),
        ("an empty size", format!("\r\n{ANSWER}\r\n0\r\n\r\n")),
        (
            "a chunk too long for its size",
            format!("2\r\n{ANSWER}\r\n0\r\n\r\n"),
        ),
        (
            "an endless extension",
            format!("{size};{}", "x".repeat(1 << 20)),
        ),
    ] {
        let bytes = chunked(&body);
        let request = ask(what);
        let outcome = bench
            .ask_broken(&request, async |backend| {
                let mut peer = backend.next().await;
                peer.request().await;
                // The proxy may have had enough of it before all is written.
                let _ = peer.write(&bytes).await;
                peer
            })
            .await;
        // An empty size reads as the last chunk's: what is left then is no JSON.
        let code = match what {
            "an empty size" => "upstream_incomplete",
            _ => "upstream_broken",
        };
        outcome.is_error(what, 502, code);
        outcome.attempts_were(what, "2xx 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn chunk_extensions_and_trailers_are_read_over() {
    let bench = Bench::once().await;
    let size = size();
    for (what, body) in [
        (
            "an extension",
            format!("{size};a=b;c=\"d\"\r\n{ANSWER}\r\n0;last\r\n\r\n"),
        ),
        (
            "trailers",
            format!("{size}\r\n{ANSWER}\r\n0\r\nx-sum: 1\r\nx-other: 2\r\n\r\n"),
        ),
        (
            "leading zeros",
            format!("000{size}\r\n{ANSWER}\r\n000\r\n\r\n"),
        ),
        (
            "upper case",
            format!("{}\r\n{ANSWER}\r\n0\r\n\r\n", size.to_uppercase()),
        ),
    ] {
        let outcome = bench
            .ask(&ask(what), async |backend| {
                answers(backend, chunked(&body)).await
            })
            .await;
        assert_eq!(
            (outcome.head.status(), outcome.text()),
            (200, ANSWER),
            "{what}"
        );
        assert_eq!(outcome.head.header("x-sum"), None);
        assert!(outcome.is_whole, "{what}");
        outcome.attempts_were(what, "2xx 1");
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn interim_answers_are_skipped_up_to_sixteen() {
    let bench = Bench::new(Route::to("main")).await;
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    for (what, interim) in [
        ("one 100", "HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
        (
            "100, 102 and 103",
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n{hints}"),
        ),
        ("sixteen", hints.repeat(16)),
    ] {
        let bytes = format!("{interim}{}", json("200 OK", ANSWER));
        let outcome = bench
            .ask(&ask(what), async |backend| answers(backend, &bytes).await)
            .await;
        assert_eq!(
            (outcome.head.status(), outcome.text()),
            (200, ANSWER),
            "{what}"
        );
        assert_eq!(outcome.head.header("link"), None, "{what}");
    }
    let endless = format!("{}{}", hints.repeat(17), json("200 OK", ANSWER));
    let outcome = bench
        .ask_broken(&ask("seventeen"), async |backend| {
            answers(backend, &endless).await
        })
        .await;
    outcome.is_error("seventeen", 502, "upstream_failed");
    outcome.attempts_were("seventeen", "protocol_error 1");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn body_of_an_answer_that_has_none_reaches_nobody() {
    let bench = Bench::once().await;
    for status in ["204 No Content", "304 Not Modified"] {
        for body in [
            "content-length: 5\r\n\r\nhello",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            for at_once in [true, false] {
                let bytes = format!("HTTP/1.1 {status}\r\n{body}");
                let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
                let what = format!("{status} {head} at once: {at_once}");
                let mut held = None;
                let outcome = bench
                    .ask(&ask(&what), async |backend| {
                        let mut peer = backend.next().await;
                        peer.request().await;
                        let head = format!("{head}\r\n\r\n");
                        if at_once {
                            peer.write(format!("{head}{body}")).await.unwrap();
                        } else {
                            peer.write(head).await.unwrap();
                        }
                        held = Some(peer);
                    })
                    .await;
                outcome.has_status(&what, status);
                assert!(outcome.body.is_empty(), "{what}: {:?}", outcome.body);
                let mut peer = held.unwrap();
                if !at_once {
                    let _ = peer.write(body).await;
                }
                let next = bench
                    .ask(&ask(&format!("next {what}")), async |backend| {
                        answers(backend, json("200 OK", ANSWER)).await
                    })
                    .await;
                assert_eq!(next.text(), ANSWER, "{what}");
            }
        }
    }
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn http_1_0_is_understood() {
    let bench = Bench::once().await;
    let length = ANSWER.len();
    let head = "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n";
    for (what, bytes, is_kept) in [
        (
            "a length",
            format!("{head}content-length: {length}\r\n\r\n{ANSWER}"),
            false,
        ),
        (
            "kept alive",
            format!("{head}connection: keep-alive\r\ncontent-length: {length}\r\n\r\n{ANSWER}"),
            true,
        ),
        ("the end", format!("{head}\r\n{ANSWER}"), false),
    ] {
        let mut held = None;
        let outcome = bench
            .ask(&ask(what), async |backend| {
                let mut peer = answers(backend, &bytes).await;
                if what == "the end" {
                    peer.half_close().await.unwrap();
                }
                held = Some(peer);
            })
            .await;
        assert_eq!(
            (outcome.head.status(), outcome.text()),
            (200, ANSWER),
            "{what}"
        );
        outcome.attempts_were(what, "2xx 1");
        let mut peer = held.unwrap();
        if !is_kept {
            peer.closed().await;
        }
    }
    // A body that only the end of the connection ends: cut off, it does not parse.
    let half = ANSWER.split_at(ANSWER.len() / 2).0;
    let outcome = bench
        .ask_broken(&ask("half"), async |backend| {
            answers(backend, format!("{head}\r\n{half}")).await.close();
        })
        .await;
    outcome.is_error("half", 502, "upstream_incomplete");
    let token = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let outcome = bench
        .ask_broken(&ask_streaming("stream"), async |backend| {
            let head = "HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            answers(backend, format!("{head}{token}")).await.close();
        })
        .await;
    let error = sluicegate_tests::error_event(&outcome.body);
    assert_eq!(error["code"], "upstream_incomplete");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn header_block_of_64_kib_passes_and_too_many_headers_are_502() {
    let bench = Bench::once().await;
    let many: String = (0..64)
        .map(|n| format!("x-filler-{n}: {}\r\n", "y".repeat(1000)))
        .collect();
    let with = |headers: &str| {
        json("200 OK", ANSWER).replacen("content-type", &format!("{headers}content-type"), 1)
    };
    for (what, headers) in [
        ("many", many),
        ("one", format!("x-filler-0: {}\r\n", "y".repeat(64 << 10))),
    ] {
        assert!(headers.len() >= 64_000);
        let bytes = with(&headers);
        let outcome = bench
            .ask(&ask(what), async |backend| answers(backend, &bytes).await)
            .await;
        assert_eq!(
            (outcome.head.status(), outcome.text()),
            (200, ANSWER),
            "{what}"
        );
        assert!(
            outcome
                .head
                .header("x-filler-0")
                .is_some_and(|value| value.len() >= 1000)
        );
    }
    let bytes = with(&"a: b\r\n".repeat(10_000));
    let outcome = bench
        .ask_broken(&ask("ten thousand"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            let _ = peer.write(&bytes).await;
            peer
        })
        .await;
    outcome.is_error("ten thousand", 502, "upstream_failed");
    outcome.attempts_were("ten thousand", "protocol_error 1");
    bench.nothing_broken_is_cached().await;
}

#[tokio::test]
async fn slow_head_is_awaited_until_the_first_tokens_time_out() {
    let bench = Bench::once().await;
    let bytes = json("200 OK", ANSWER);
    let outcome = bench
        .ask(&ask("slow"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.trickle(&bytes, Duration::from_millis(2))
                .await
                .unwrap();
            peer
        })
        .await;
    assert_eq!((outcome.head.status(), outcome.text()), (200, ANSWER));
    bench.nothing_broken_is_cached().await;

    let bench = Bench::new(Route::to("main").set("timeouts.first_token", "300ms")).await;
    let outcome = bench
        .ask_broken(&ask_streaming("endless"), async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\nx: ").await.unwrap();
            // Each byte comes in time; the head as a whole does not.
            while peer.write("y").await.is_ok() {
                pause(Duration::from_millis(20)).await;
            }
        })
        .await;
    outcome.is_error("endless", 504, "upstream_timeout");
    outcome.attempts_were("endless", "first_byte_timeout 1");
    bench.nothing_broken_is_cached().await;
}
