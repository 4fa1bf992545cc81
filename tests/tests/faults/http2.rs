//! HTTP/2 backends frame by frame (RFC 9113): refusals, resets, and windows that stay shut.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sluicegate_tests::{
    ANSWER, Config, Faulty, Peer, Pool, Proxy, Request, Route, ask, ask_streaming, error_event,
};

use crate::bench::pause;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `:status: 200` and `:status: 204` in HPACK's static table.
const STATUS_200: &[u8] = &[0x88];
const STATUS_204: &[u8] = &[0x89];
/// A literal of the static table's name 31.
const EVENT_STREAM: &[u8] = b"\x0f\x10\x11text/event-stream";

/// SETTINGS_INITIAL_WINDOW_SIZE = 0: no byte of a body may be sent.
const SHUT: &[u8] = &[0, 4, 0, 0, 0, 0];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// An HTTP/2 connection, the backend's end.
struct Connection {
    peer: Peer,
}

impl Connection {
    /// The next connection, settings exchanged.
    async fn accept(backend: &Faulty, settings: &[u8]) -> Self {
        let mut peer = backend.next().await;
        let preface = peer.read(24).await.unwrap();
        assert!(preface.starts_with(b"PRI * HTTP/2.0"), "{preface:?}");
        peer.write(frame(SETTINGS, 0, 0, settings)).await.unwrap();
        peer.write(frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        Self { peer }
    }

    /// Reads up to the end of the next request's head; its stream.
    async fn request(&mut self) -> u32 {
        self.try_request().await.expect("the connection is open")
    }

    async fn try_request(&mut self) -> std::io::Result<u32> {
        Ok(self.next(HEADERS).await?.0)
    }

    /// Reads up to the next frame of this kind: its stream and its payload.
    async fn next(&mut self, kind: u8) -> std::io::Result<(u32, Bytes)> {
        loop {
            let head = self.peer.read(9).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let payload = self.peer.read(usize::try_from(length).unwrap()).await?;
            if head[3] == kind {
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                return Ok((stream, payload));
            }
        }
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.peer
            .write(frame(kind, flags, stream, payload))
            .await
            .unwrap();
    }

    async fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    /// `last`: the last stream that counts as processed.
    async fn go_away(&mut self, last: u32, code: u32) {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    async fn answer(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS, stream, STATUS_200).await;
        self.send(DATA, END_STREAM, stream, ANSWER.as_bytes()).await;
    }
}

/// A proxy before one backend that speaks HTTP/2, and the connection that it opened ahead.
async fn proxy(backend: &Faulty, route: Route, frame: &[u8]) -> (Proxy, Connection) {
    proxy_with(backend, route, frame, |config| config).await
}

/// The same, with settings of the config beyond those of the route.
async fn proxy_with(
    backend: &Faulty,
    route: Route,
    frame: &[u8],
    settings: impl FnOnce(Config) -> Config,
) -> (Proxy, Connection) {
    let mut entry = toml::Table::new();
    entry.insert("url".into(), backend.url().into());
    entry.insert("protocol".into(), "h2".into());
    let pool = Pool::new("main").set("backends", vec![toml::Value::Table(entry)]);
    let config = Config::new()
        .pool(pool)
        .route(route)
        .set("server.workers", 1);
    let config = settings(config);
    tokio::join!(Proxy::start(&config), Connection::accept(backend, frame))
}

/// Status, `error.code` if there is one, and the line of the access log.
async fn sent(proxy: &Proxy, request: &Request, id: &str) -> (u16, Value, Value) {
    let answer = proxy
        .send(&request.clone().header("x-request-id", id))
        .await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (
        answer.status,
        body["error"]["code"].clone(),
        proxy.access_line(id).await,
    )
}

async fn results(proxy: &Proxy, result: &str) -> f64 {
    let metrics = proxy.metrics().await;
    metrics.sum("sluicegate_upstream_attempts_total", &[("result", result)])
}

#[tokio::test]
async fn refused_streams_and_unprocessed_goaways_are_tried_again() {
    let backend = Faulty::new();
    // Even where nothing may be sent twice: nobody worked on it.
    let route = Route::to("main").set("retry_ambiguous", false);
    let (proxy, mut first) = proxy(&backend, route, &[]).await;
    let script = async {
        let stream = first.request().await;
        first.reset(stream, REFUSED_STREAM).await;
        let stream = first.request().await;
        first.answer(stream).await;
        // A GOAWAY below the stream, as at a graceful restart.
        let stream = first.request().await;
        first.go_away(stream - 2, NO_ERROR).await;
        let mut second = Connection::accept(&backend, &[]).await;
        let stream = second.request().await;
        second.answer(stream).await;
        second
    };
    let client = async {
        for id in ["refused", "away"] {
            let (status, _, line) = sent(&proxy, &ask("hi"), id).await;
            assert_eq!(
                (status, &line["attempts"]),
                (200, &2.into()),
                "{id}: {line}"
            );
        }
    };
    let (_second, ()) = tokio::join!(script, client);
    assert_eq!(results(&proxy, "refused").await, 2.0);
    assert_eq!(results(&proxy, "2xx").await, 2.0);
    let healthy = proxy
        .metrics()
        .await
        .sum("sluicegate_upstream_healthy", &[]);
    assert_eq!(healthy, 1.0, "a refusal is no fault");
}

#[tokio::test]
async fn goaway_above_a_stream_lets_it_end_and_the_next_goes_elsewhere() {
    let backend = Faulty::new();
    let (proxy, mut first) = proxy(&backend, Route::to("main"), &[]).await;
    let script = async {
        let stream = first.request().await;
        first.go_away(stream, NO_ERROR).await;
        first.answer(stream).await;
        let mut second = Connection::accept(&backend, &[]).await;
        let stream = second.request().await;
        second.answer(stream).await;
        second
    };
    let client = async {
        for id in ["last", "next"] {
            let (status, _, line) = sent(&proxy, &ask("hi"), id).await;
            assert_eq!(
                (status, &line["attempts"]),
                (200, &1.into()),
                "{id}: {line}"
            );
        }
    };
    let (_second, ()) = tokio::join!(script, client);
}

#[tokio::test]
async fn stream_reset_before_the_head_is_ambiguous_and_in_the_body_a_failure() {
    let backend = Faulty::new();
    for (retry, attempts) in [(true, 2), (false, 1)] {
        let route = Route::to("main").set("retry_ambiguous", retry);
        let (proxy, mut connection) = proxy(&backend, route, &[]).await;
        let script = async {
            for _ in 0..attempts {
                let stream = connection.request().await;
                connection.reset(stream, INTERNAL_ERROR).await;
            }
            let stream = connection.request().await;
            connection
                .send(HEADERS, END_HEADERS, stream, STATUS_200)
                .await;
            connection.send(DATA, 0, stream, b"{\"half").await;
            connection.reset(stream, INTERNAL_ERROR).await;
            let stream = connection.request().await;
            connection.answer(stream).await;
        };
        let client = async {
            let (status, code, line) = sent(&proxy, &ask("before"), "before").await;
            assert_eq!((status, code), (502, "upstream_failed".into()), "{line}");
            assert_eq!(line["attempts"], attempts);
            let (status, code, line) = sent(&proxy, &ask("body"), "body").await;
            assert_eq!((status, code), (502, "upstream_broken".into()), "{line}");
            assert_eq!(line["attempts"], 1);
            // The connection has outlived its streams.
            assert_eq!(sent(&proxy, &ask("well"), "well").await.0, 200);
        };
        tokio::join!(script, client);
        assert_eq!(results(&proxy, "closed").await, f64::from(attempts));
    }
}

#[tokio::test]
async fn window_that_stays_shut_is_504_and_so_is_one_that_shuts() {
    let short = ask("short");
    // The window is 65,535 bytes wide where nothing else is said.
    let long = ask(&"x".repeat(200_000));
    for (settings, request) in [(SHUT, &short), (&[], &long)] {
        let backend = Faulty::new();
        let route = Route::to("main").set("timeouts.between_bytes", "300ms");
        let (proxy, mut connection) = proxy(&backend, route, settings).await;
        let script = async {
            connection.request().await;
            connection.request().await
        };
        let client = async {
            let (status, code, line) = sent(&proxy, request, "shut").await;
            assert_eq!((status, code), (504, "upstream_timeout".into()), "{line}");
            assert_eq!(line["attempts"], 1);
            // A request without a body needs no window: the connection is not blocked for others.
            let mut client = proxy.client().await;
            client.begin(&Request::get("/v1/files")).await;
            client
        };
        let (stream, mut client) = tokio::join!(script, client);
        connection
            .send(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_204)
            .await;
        assert_eq!(client.head().await.status(), 204);
        assert_eq!(results(&proxy, "first_byte_timeout").await, 1.0);
        proxy.await_idle().await;
    }
}

#[tokio::test]
async fn answer_that_stalls_is_an_error_event_and_its_stream_is_cancelled() {
    let backend = Faulty::new();
    let route = Route::to("main").set("timeouts.between_bytes", "300ms");
    let (proxy, mut connection) = proxy(&backend, route, &[]).await;
    let token = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let script = async {
        let stream = connection.request().await;
        let head = [STATUS_200, EVENT_STREAM].concat();
        connection.send(HEADERS, END_HEADERS, stream, &head).await;
        connection.send(DATA, 0, stream, token.as_bytes()).await;
        let (cancelled, code) = connection.next(RST_STREAM).await.unwrap();
        assert_eq!((cancelled, &code[..]), (stream, &CANCEL.to_be_bytes()[..]));
    };
    let request = ask_streaming("hi");
    let ((), answer) = tokio::join!(script, proxy.send(&request));
    let error = error_event(&answer.expect_status(200).body);
    assert_eq!(error["code"], "upstream_timeout");
    proxy.await_idle().await;
}

#[tokio::test]
async fn upload_that_waits_for_its_window_is_not_the_clients_fault() {
    let backend = Faulty::new();
    let settings = |config: Config| config.set("server.body_timeout", "500ms");
    let (proxy, mut connection) = proxy_with(&backend, Route::to("main"), SHUT, settings).await;
    let script = async {
        let stream = connection.request().await;
        pause(Duration::from_millis(1500)).await;
        let more = 5_u32.to_be_bytes();
        connection.send(WINDOW_UPDATE, 0, stream, &more).await;
        let (_, body) = connection.next(DATA).await.unwrap();
        connection.answer(stream).await;
        body
    };
    let upload = Request::new("POST", "/v1/files", Bytes::from("12345"));
    let (body, answer) = tokio::join!(script, proxy.send(&upload));
    assert_eq!(body, "12345");
    assert_eq!(answer.expect_status(200).text(), ANSWER);
}

#[tokio::test]
async fn client_that_leaves_while_its_upload_waits_for_a_window_cancels_it() {
    let backend = Faulty::new();
    let (proxy, mut connection) = proxy(&backend, Route::to("main"), SHUT).await;
    for whole in [false, true] {
        let mut client = proxy.client().await;
        let head = "POST /v1/files HTTP/1.1\r\nhost: x\r\nx-request-id: gone-";
        let length = if whole { 5 } else { 10 };
        let upload = format!("{head}{length}\r\ncontent-length: {length}\r\n\r\n12345");
        client.write_raw(upload.as_bytes()).await;
        let stream = connection.request().await;
        drop(client);
        let (cancelled, code) = connection.next(RST_STREAM).await.unwrap();
        assert_eq!((cancelled, &code[..]), (stream, &CANCEL.to_be_bytes()[..]));
        proxy.await_idle().await;
        let line = proxy.access_line(&format!("gone-{length}")).await;
        assert_eq!(line["outcome"], "aborted");
    }
}

#[tokio::test]
async fn connection_that_breaks_the_protocol_is_an_error_of_its_requests_alone() {
    let backend = Faulty::new();
    let route = Route::to("main").set("attempts", 1);
    let (proxy, mut connection) = proxy(&backend, route, &[]).await;
    for (number, (what, bytes)) in [
        ("data before the head", frame(DATA, END_STREAM, 1, b"x")),
        (
            "a head that is no HPACK",
            frame(HEADERS, END_HEADERS, 1, &[0xff; 40]),
        ),
        (
            "a stream that nobody opened",
            frame(HEADERS, END_HEADERS, 99, STATUS_200),
        ),
        (
            "a frame beyond the limit",
            frame(DATA, 0, 1, &vec![0; 1 << 20]),
        ),
        (
            "no HTTP/2",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let script = async {
            let stream = connection.request().await;
            let mut bytes = bytes.clone();
            if bytes.get(8) == Some(&1) {
                bytes[5..9].copy_from_slice(&stream.to_be_bytes());
            }
            // The proxy may have had enough of it before all is written.
            let _ = connection.peer.write(&bytes).await;
            // A fault of the stream leaves the connection, one of the connection ends it.
            match connection.try_request().await {
                Ok(stream) => {
                    connection.answer(stream).await;
                    connection
                }
                Err(_) => {
                    let mut fresh = Connection::accept(&backend, &[]).await;
                    let stream = fresh.request().await;
                    fresh.answer(stream).await;
                    fresh
                }
            }
        };
        let client = async {
            let id = format!("bad-{number}");
            let (status, code, line) = sent(&proxy, &ask("bad"), &id).await;
            assert_eq!(
                (status, code),
                (502, "upstream_failed".into()),
                "{what}: {line}"
            );
            let id = format!("good-{number}");
            assert_eq!(sent(&proxy, &ask("good"), &id).await.0, 200, "{what}");
        };
        let (next, ()) = tokio::join!(script, client);
        connection = next;
    }
}

#[tokio::test]
async fn goaway_for_our_own_fault_is_502() {
    let backend = Faulty::new();
    let route = Route::to("main").set("retry_ambiguous", false);
    let (proxy, mut connection) = proxy(&backend, route, &[]).await;
    let script = async {
        let stream = connection.request().await;
        connection.go_away(stream, ENHANCE_YOUR_CALM).await;
        connection.peer.half_close().await.unwrap();
        connection
    };
    let request = ask("hi");
    let (_held, (status, code, line)) = tokio::join!(script, sent(&proxy, &request, "calm"));
    assert_eq!((status, code), (502, "upstream_failed".into()), "{line}");
}
