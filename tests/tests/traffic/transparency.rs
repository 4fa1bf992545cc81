//! What no decision changes arrives byte for byte, in both directions.

use std::time::{Duration, Instant};

use serde_json::json;
use sluicegate_tests::{
    ANSWER, Backend, Config, Pool, Proxy, Reply, Request, Route, Start, ask, chat_with, within,
};

/// Everything that a parse and a new print would change.
const ODD_CHAT: &str = concat!(
    r#"{ "stream_options":null,"seed":18446744073709551615,"#,
    r#""big":123456789012345678901234567890,   "t":1.0,"exponent":1E5,"minus_zero":-0.0,"#,
    r#""model":"m","messages":[{"content":"caf\u00e9 \/ \ud83d\ude00 é \u0041","role":"user","x":[1.0,0.10]}],"#,
    "\n\t",
    r#""dup":1,"dup":{"b":2,"a":1},"unknown":{"z":null,"a":"\u003c"},"temperature":1.0}"#,
    "\n"
);

/// An answer with the same oddities.
const ODD_ANSWER: &str = concat!(
    r#"{ "choices":[{"finish_reason":"stop","index":0,"#,
    r#""message":{"content":"\u00e9 \/","role":"assistant","extra":1.0}}],"#,
    r#""id":"c","object":"chat.completion","created":1,"model":"m","#,
    r#""n":123456789012345678901234567890,"dup":1,"dup":2}"#,
    "\n"
);

/// Frames of a stream as vLLM, llama.cpp and others write them.
const ODD_STREAM: &str = concat!(
    ": a comment\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}],\"n\":1.0}\n\n",
    "data:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"caf\\u00e9 é\"}}],  \"dup\":1,\"dup\":2}\n\n",
    "id: 7\nevent: message\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"😀\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"big\":123456789012345678901234567890}\r\n\r\n",
    "data: [DONE]\n\n"
);

/// A chat body of exactly this many bytes.
fn body_of(size: usize) -> String {
    let frame = r#"{"model":"m","messages":[{"role":"user","content":""}]}"#;
    let filler = "lorem ipsum ".repeat(size / 12 + 1);
    let content = filler.get(..size - frame.len()).unwrap();
    let body = frame.replace(r#""content":"""#, &format!(r#""content":"{content}""#));
    assert_eq!(body.len(), size);
    body
}

#[tokio::test]
async fn untouched_request_and_answer_pass_byte_for_byte() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for (path, body) in [
        ("/v1/chat/completions", ODD_CHAT.to_owned()),
        (
            "/v1/chat/completions?api-version=2&x=%20y",
            ODD_CHAT.to_owned(),
        ),
        (
            "/v1/completions",
            ODD_CHAT.replace("\"messages\":[", "\"prompt\":\"caf\\u00e9\",\"other\":["),
        ),
        (
            "/v1/embeddings",
            ODD_CHAT.replace("\"messages\":[", "\"input\":[\"a\\/b\"],\"other\":["),
        ),
    ] {
        let mut client = proxy.client().await;
        client.begin(&Request::post(path, body.clone())).await;
        let exchange = backend.next_request().await;
        assert_eq!(exchange.request.head.target(), path);
        assert_eq!(exchange.request.text(), body);
        exchange
            .respond(Reply::json(200, ODD_ANSWER))
            .await
            .unwrap();
        assert_eq!(client.head().await.status(), 200);
        assert_eq!(client.rest().await.unwrap(), ODD_ANSWER, "{path}");
    }
}

#[tokio::test]
async fn untouched_stream_passes_byte_for_byte_however_it_is_cut() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let body = ODD_CHAT.replace("\"t\":1.0", "\"stream\":true");
    for size in [1, 7, 64, 4096] {
        let mut client = proxy.client().await;
        client.begin(&Request::chat(body.clone())).await;
        let mut exchange = backend.next_request().await;
        assert_eq!(exchange.request.text(), body);
        exchange.begin_events().await.unwrap();
        for piece in ODD_STREAM.as_bytes().chunks(size) {
            exchange.write(piece.to_vec()).await.unwrap();
        }
        exchange.finish().await.unwrap();
        let head = client.head().await;
        assert_eq!(
            (head.status(), head.header("content-type")),
            (200, Some("text/event-stream"))
        );
        let received = client.rest().await.unwrap();
        assert_eq!(
            std::str::from_utf8(&received).unwrap(),
            ODD_STREAM,
            "in pieces of {size}"
        );
    }
}

#[tokio::test]
async fn mapped_model_name_is_the_only_change() {
    let backend = Backend::scripted("b").await;
    let pool = Pool::new("main")
        .backend(&backend)
        .models(&["m"])
        .set("model_map.m", "org/m-8b");
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    let mut client = proxy.client().await;
    client.begin(&Request::chat(ODD_CHAT)).await;
    let exchange = backend.next_request().await;
    assert_eq!(
        exchange.request.text(),
        ODD_CHAT.replace(r#""model":"m""#, r#""model":"org/m-8b""#)
    );
    exchange
        .respond(Reply::json(200, ODD_ANSWER))
        .await
        .unwrap();
    client.head().await;
    assert_eq!(client.rest().await.unwrap(), ODD_ANSWER);
}

#[tokio::test]
async fn bodies_of_all_sizes_arrive_byte_exact() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    for size in [1024, 65_536, 65_537, 1 << 20, 16 << 20] {
        let body = body_of(size);
        client.begin(&Request::chat(body.clone())).await;
        let exchange = backend.next_request().await;
        assert!(
            exchange.request.body == body.as_bytes(),
            "{size} bytes differ"
        );
        exchange.respond(Reply::json(200, ANSWER)).await.unwrap();
        assert_eq!(client.head().await.status(), 200);
        assert_eq!(client.rest().await.unwrap(), ANSWER);
    }
}

#[tokio::test]
async fn bodies_of_all_sizes_arrive_byte_exact_when_the_first_backend_refuses() {
    let backend = Start::new("b").scripted().start().await;
    let (dead, _taken) = Backend::refusing();
    let config = Config::new()
        .pool(Pool::new("dead").url(format!("http://{dead}")))
        .pool(Pool::new("alive").backend(&backend))
        .route(Route::to("dead").fallback(&["alive"]));
    let proxy = Proxy::start(&config).await;
    let mut client = proxy.client().await;
    for size in [1024, 65_536, 65_537, 1 << 20, 16 << 20] {
        let body = body_of(size);
        client.begin(&Request::chat(body.clone())).await;
        let exchange = backend.next_request().await;
        assert!(
            exchange.request.body == body.as_bytes(),
            "{size} bytes differ"
        );
        exchange.respond(Reply::json(200, ANSWER)).await.unwrap();
        assert_eq!(client.head().await.status(), 200);
        client.rest().await.unwrap();
    }
}

#[tokio::test]
async fn chunked_request_body_arrives_whole() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    let request = Request::chat("").header("transfer-encoding", "chunked");
    client.begin(&request).await;
    for piece in ODD_CHAT.as_bytes().chunks(11) {
        client
            .write_raw(format!("{:x}\r\n", piece.len()).as_bytes())
            .await;
        client.write_raw(piece).await;
        client.write_raw(b"\r\n").await;
    }
    client.write_raw(b"0\r\n\r\n").await;
    let exchange = backend.next_request().await;
    assert_eq!(exchange.request.text(), ODD_CHAT);
    exchange.respond(Reply::json(200, ANSWER)).await.unwrap();
    assert_eq!(client.head().await.status(), 200);
}

#[tokio::test]
async fn http2_client_gets_the_same_bytes() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.h2_client().await;
    for size in [1024, 65_537, 1 << 20] {
        let body = body_of(size);
        let mut sent = client.begin(&Request::chat(body.clone())).await;
        let exchange = backend.next_request().await;
        assert!(
            exchange.request.body == body.as_bytes(),
            "{size} bytes differ"
        );
        exchange
            .respond(Reply::json(200, ODD_ANSWER))
            .await
            .unwrap();
        assert_eq!(sent.head().await.status(), 200);
        assert_eq!(sent.piece().await.unwrap().unwrap(), ODD_ANSWER);
    }
}

#[tokio::test]
async fn http2_upstream_gets_and_gives_the_same_bytes() {
    let backend = Start::new("b").http2().scripted().start().await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    for body in [ODD_CHAT.to_owned(), body_of(65_537), body_of(1 << 20)] {
        client.begin(&Request::chat(body.clone())).await;
        let exchange = backend.next_request().await;
        assert!(exchange.request.body == body.as_bytes());
        exchange
            .respond(Reply::json(200, ODD_ANSWER))
            .await
            .unwrap();
        assert_eq!(client.head().await.status(), 200);
        assert_eq!(client.rest().await.unwrap(), ODD_ANSWER);
    }
}

#[tokio::test]
async fn expect_100_continue_costs_no_second() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let body = body_of(1 << 20);
    let request = Request::chat(body.clone()).header("expect", "100-continue");
    let mut client = proxy.client().await;
    let begun = Instant::now();
    client.write_raw(&request.head_bytes()).await;
    assert_eq!(client.any_head().await.status(), 100);
    assert!(
        begun.elapsed() < Duration::from_millis(900),
        "100 took {:?}",
        begun.elapsed()
    );
    client.write_raw(body.as_bytes()).await;
    assert_eq!(client.head().await.status(), 200);
    client.rest().await.unwrap();
    assert!(backend.last_request().body == body.as_bytes());
    assert!(
        backend.last_request().head.header("expect").is_none(),
        "the proxy has the body"
    );
}

#[tokio::test]
async fn second_request_of_a_connection_is_as_fast_as_the_first() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    proxy.send(&ask("warm up")).await.expect_status(200);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for round in 0..15 {
        let mut client = proxy.client().await;
        let stream = json!({"stream": round % 2 == 0});
        for times in [&mut first, &mut second] {
            let begun = Instant::now();
            client
                .send(&chat_with("quick", &stream))
                .await
                .expect_status(200);
            times.push(begun.elapsed());
        }
    }
    let (first, second) = (
        sluicegate_tests::median(first),
        sluicegate_tests::median(second),
    );
    eprintln!("first request {first:?}, second {second:?} (medians of 15)");
    // Nagle's algorithm against delayed acknowledgements costs 40 ms.
    assert!(
        second < first + Duration::from_millis(20),
        "first {first:?}, second {second:?}"
    );
    assert!(first < Duration::from_millis(35), "first {first:?}");
}

#[tokio::test]
async fn callers_secrets_stay_with_the_proxy() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main")
        .backend(&backend)
        .set("api_key", "${POOL_KEY}");
    let proxy =
        Proxy::start_with(&Config::new().pool(pool), &[("POOL_KEY", "the-pools-own")]).await;
    let request = ask("hi")
        .bearer("the-callers")
        .header("cookie", "session=1")
        .header("x-api-key", "the-callers")
        .header("x-sluicegate-cache", "no-store")
        .header("x-private", "1");
    proxy.send(&request).await.expect_status(200);
    let head = backend.last_request().head;
    assert_eq!(head.header("authorization"), Some("Bearer the-pools-own"));
    assert_eq!(head.header("content-type"), Some("application/json"));
    let raw = String::from_utf8_lossy(&head.raw).to_lowercase();
    for secret in ["the-callers", "cookie", "x-sluicegate", "x-private"] {
        assert!(!raw.contains(secret), "{secret} in {raw}");
    }
}

#[tokio::test]
async fn upstream_errors_and_redirects_pass_untouched() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for status in [307, 400, 401, 403, 404, 409, 422, 429, 500] {
        let mut client = proxy.client().await;
        client.begin(&ask("hi")).await;
        let reply = Reply::json(status, "{ \"error\" : 1.0 }\n")
            .header("retry-after", "7")
            .header("location", "http://127.0.0.1:1/elsewhere")
            .header("x-ratelimit-remaining-tokens", "0");
        backend.next_request().await.respond(reply).await.unwrap();
        let head = client.head().await;
        assert_eq!(head.status(), status);
        assert_eq!(head.header("retry-after"), Some("7"), "{status}");
        assert_eq!(
            head.header("x-ratelimit-remaining-tokens"),
            Some("0"),
            "{status}"
        );
        assert_eq!(client.rest().await.unwrap(), "{ \"error\" : 1.0 }\n");
    }
    assert!(!backend.has_request().await, "one of these was tried again");
}

#[tokio::test]
async fn gzip_request_body_is_decoded_within_the_limit() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.max_body_bytes", 4096);
    let proxy = Proxy::start(&config).await;
    let send = async |plain: &str| {
        let request =
            Request::chat(gzip_stored(plain.as_bytes())).header("content-encoding", "gzip");
        within("an answer", proxy.send(&request)).await
    };
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"n":1.0}"#;
    send(body).await.expect_status(200);
    assert_eq!(backend.last_request().text(), body);
    assert_eq!(backend.last_request().head.header("content-encoding"), None);
    assert_eq!(send(&body_of(8192)).await.status, 413);
}

/// A gzip member of one stored block (RFC 1952, RFC 1951 §3.2.4).
fn gzip_stored(plain: &[u8]) -> Vec<u8> {
    let length = u16::try_from(plain.len()).unwrap();
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    member.extend_from_slice(&length.to_le_bytes());
    member.extend_from_slice(&(!length).to_le_bytes());
    member.extend_from_slice(plain);
    let crc = plain.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    });
    member.extend_from_slice(&(!crc).to_le_bytes());
    member.extend_from_slice(&u32::from(length).to_le_bytes());
    member
}
