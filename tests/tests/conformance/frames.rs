//! HTTP/2, frame by frame (RFC 9113): heads that are none, and floods.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate_tests::{ANSWER, Backend, Config, Proxy, Reply, ask, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const ENHANCE_YOUR_CALM: u32 = 11;

/// Requests that a client may take back on a connection, where it does so with most.
const TAKEN_BACK: u32 = 100;

/// What a flood may cost while it lasts.
const FLOOD_BYTES: u64 = 16 * 1024 * 1024;

/// A frame that came.
#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or a GOAWAY.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block without compression: literals with new names, never indexed (RFC 7541 §6.2.3).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0x10);
        for text in [name, value] {
            assert!(text.len() < 127);
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

fn get(path: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", path),
    ]
}

/// One HTTP/2 connection without any rules.
struct Wire {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
}

impl Wire {
    async fn open(to: SocketAddr, settings: &[u8]) -> Self {
        let socket = TcpStream::connect(to).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (read, mut write) = socket.into_split();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, settings));
        write.write_all(&bytes).await.unwrap();
        Self { read, write }
    }

    /// Whether the proxy still takes bytes.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.write.write_all(bytes).await.is_ok()
    }

    async fn head(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        let flags = END_HEADERS | END_STREAM;
        self.send(&frame(HEADERS, flags, stream, &block(fields)))
            .await
    }

    /// The next frame; none at the end of the connection.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = within("a frame", self.read.read_exact(&mut head)).await;
        read.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.read.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            stream: u32::from_be_bytes(head[5..9].try_into().unwrap()),
            payload,
        })
    }

    /// The first frame of this kind, if one comes before the end.
    async fn await_kind(&mut self, kind: u8) -> Option<Frame> {
        while let Some(frame) = self.next().await {
            if frame.kind == kind {
                return Some(frame);
            }
        }
        None
    }

    /// What ended the connection: the code of its GOAWAY, none where there was none.
    async fn goaway(&mut self) -> Option<u32> {
        let code = self.await_kind(GOAWAY).await?.code();
        while self.next().await.is_some() {}
        Some(code)
    }
}

/// The proxy is well: it answers, holds nothing, and has not grown.
async fn assert_well(proxy: &Proxy, resident_before: Option<u64>) {
    proxy.send(&ask("hi")).await.expect_status(200);
    proxy.await_idle().await;
    if let (Some(before), Some(after)) = (resident_before, proxy.resident_bytes()) {
        assert!(
            after < before + FLOOD_BYTES,
            "{before} bytes before, {after} after"
        );
    }
    let panics = proxy.metrics().await.sum("sluicegate_panics_total", &[]);
    assert_eq!(panics, 0.0);
}

#[tokio::test]
async fn h2_heads_that_are_none_reach_nobody() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let with = |more: &[(&'static str, &'static str)]| [get("/v1/files").as_slice(), more].concat();
    let without = |name: &str| {
        let mut fields = get("/v1/files");
        fields.retain(|(known, _)| *known != name);
        fields
    };
    let path = |path: &'static str| {
        let mut fields = without(":path");
        fields.push((":path", path));
        fields
    };
    let heads = [
        ("upper case", with(&[("X-Upper", "1")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("te", with(&[("te", "gzip")])),
        (
            "pseudo behind",
            with(&[("x", "1"), (":path", "/v1/models")]),
        ),
        ("unknown pseudo", with(&[(":secret", "1")])),
        ("status", with(&[(":status", "200")])),
        ("twice", with(&[(":method", "POST")])),
        ("two hosts", with(&[("host", "a"), ("host", "b")])),
        ("another host", with(&[("host", "b")])),
        (
            "length of a body that is none",
            with(&[("content-length", "5")]),
        ),
        (
            "two lengths",
            with(&[("content-length", "0"), ("content-length", "1")]),
        ),
        ("line feed", with(&[("x", "a\nb")])),
        ("line feed in a name", with(&[("x\n", "a")])),
        ("nul", with(&[("x", "a\0b")])),
        ("space", with(&[("x y", "1")])),
        ("colon", with(&[("x:", "1")])),
        ("empty name", with(&[("", "1")])),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("no authority", without(":authority")),
        ("empty path", path("")),
        ("line feed in the path", path("/v1/files HTTP/1.1\r\nx: y")),
        ("space in the path", path("/v1/files x")),
        ("absolute path", path("http://b/v1/files")),
        ("no slash", path("v1/files")),
    ];
    for (name, fields) in heads {
        let mut wire = Wire::open(proxy.data(), &[]).await;
        wire.head(1, &fields).await;
        // Whether it is refused by an answer, a reset or the end of the connection: at once.
        loop {
            match wire.next().await {
                None => break,
                Some(frame) if [RST_STREAM, GOAWAY].contains(&frame.kind) => break,
                Some(frame) if frame.kind == HEADERS => {
                    assert_eq!(frame.stream, 1, "{name}");
                    // Indexed `:status 400`, `404`, or a literal one that begins with a 4.
                    let status = frame.payload[0];
                    let is_client_error = [0x8c, 0x8d].contains(&status)
                        || frame
                            .payload
                            .windows(2)
                            .any(|pair| pair[0] == 3 && pair[1] == b'4')
                        || frame
                            .payload
                            .windows(2)
                            .any(|pair| pair[0] & 0x80 != 0 && pair[1] & 0xf0 == 0x60);
                    assert!(is_client_error, "{name}: {:?}", frame.payload);
                    break;
                }
                Some(_) => {}
            }
        }
    }
    assert_eq!(backend.request_count(), 0);
    assert_well(&proxy, None).await;
}

#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    // Faster than anybody accepts.
    let mut wire = Wire::open(proxy.data(), &[]).await;
    let mut flood = Vec::new();
    for at in 0..10_000_u32 {
        let stream = at * 2 + 1;
        let head = block(&get("/v1/files"));
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let Wire {
        mut read,
        mut write,
    } = wire;
    let sending = async { write.write_all(&flood).await };
    let mut all = Vec::new();
    let reading = read.read_to_end(&mut all);
    let (_, end) = within("the end of the flood", async {
        tokio::join!(sending, reading)
    })
    .await;
    let _ = end; // with a GOAWAY, or a reset while it was still sending
    assert!(
        backend.request_count() < 1000,
        "{}",
        backend.request_count()
    );
    proxy.await_idle().await;

    // One at a time, each when its upstream has it.
    wire = Wire::open(proxy.data(), &[]).await;
    for at in 0..=TAKEN_BACK {
        let stream = at * 2 + 1;
        assert!(wire.head(stream, &get("/v1/files")).await);
        let mut exchange = backend.next_request().await;
        let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        assert!(wire.send(&reset).await);
        exchange.closed().await;
    }
    assert_eq!(wire.goaway().await, Some(ENHANCE_YOUR_CALM));
    proxy.await_idle().await;
    let mut client = proxy.client().await;
    client.begin(&ask("hi")).await;
    let exchange = backend.next_request().await;
    exchange.respond(Reply::json(200, ANSWER)).await.unwrap();
    assert_eq!(client.head().await.status(), 200);
}

/// Sends the same bytes again and again until the proxy closes or `most` are out, or for two
/// seconds; reads nothing. True when the proxy closed.
async fn flood(wire: &mut Wire, bytes: &[u8], most: usize) -> bool {
    let many = bytes.repeat(64 * 1024 / bytes.len() + 1);
    let sending = async {
        let mut sent = 0;
        while sent < most {
            if !wire.send(&many).await {
                return true;
            }
            sent += many.len();
        }
        false
    };
    let limit = Duration::from_secs(2);
    tokio::time::timeout(limit, sending).await.unwrap_or(false)
}

#[tokio::test]
async fn h2_floods_are_ended_or_held_back() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    proxy.send(&ask("warm")).await.expect_status(200);
    let before = proxy.resident_bytes();
    let most = 64 * 1024 * 1024;

    let head = frame(HEADERS, END_STREAM, 1, &block(&get("/v1/files")));
    let header = block(&[("x", "y")]);
    for payload in [Vec::new(), header] {
        let mut wire = Wire::open(proxy.data(), &[]).await;
        wire.send(&head).await;
        let more = frame(CONTINUATION, 0, 1, &payload);
        let ended = flood(&mut wire, &more, most).await;
        assert!(ended, "an endless head of {}-byte frames", payload.len());
        assert_well(&proxy, before).await;
    }

    // A reader that never reads is held back by its own socket; nothing piles up meanwhile.
    for (name, bytes) in [
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("ping", frame(PING, 0, 0, &[7; 8])),
        ("window", frame(8, 0, 0, &1_u32.to_be_bytes())),
        ("priority", frame(2, 0, 3, &[0, 0, 0, 0, 1])),
        ("unknown", frame(0xee, 0, 0, &[0; 16])),
        ("empty data", frame(0, 0, 1, &[])),
    ] {
        let mut wire = Wire::open(proxy.data(), &[]).await;
        flood(&mut wire, &bytes, most).await;
        assert_well(&proxy, before).await;
        drop(wire);
        eprintln!("{name}: {:?} bytes", proxy.resident_bytes());
    }
    assert_eq!(backend.request_count(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_a_window_hold_little_and_end_with_their_client() {
    let backend = Backend::model("b").await;
    backend.behave(|behaviour| behaviour.tokens = 5_000);
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let before = proxy.resident_bytes();
    let mut starved = Vec::new();
    for _ in 0..4 {
        // Initial window: 0.
        let mut wire = Wire::open(proxy.data(), &[0, 4, 0, 0, 0, 0]).await;
        for at in 0..20_u32 {
            let mut fields = get("/v1/chat/completions");
            fields[0] = (":method", "POST");
            let stream = at * 2 + 1;
            wire.send(&frame(HEADERS, END_HEADERS, stream, &block(&fields)))
                .await;
            let body =
                br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
            wire.send(&frame(0, END_STREAM, stream, body)).await;
        }
        starved.push(wire);
    }
    sluicegate_tests::eventually("all are with the upstream", async || {
        match backend.request_count() {
            80 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    backend.behave(|behaviour| behaviour.tokens = 4);
    proxy.send(&ask("hi")).await.expect_status(200);
    if let (Some(before), Some(now)) = (before, proxy.resident_bytes()) {
        eprintln!(
            "80 starved streams: {} KiB",
            now.saturating_sub(before) / 1024
        );
        assert!(
            now < before + 24 * 1024 * 1024,
            "{before} before, {now} now"
        );
    }
    drop(starved);
    proxy.await_idle().await;
}
