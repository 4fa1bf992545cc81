//! Bodies: where they end, and how they are packed.

use sluicegate_tests::{ANSWER, Backend, Config, Proxy, Reply, Request};

use crate::raw::tell;

const HIDDEN: &str = "GET /v1/models HTTP/1.1\r\nhost: hidden\r\n\r\n";

#[tokio::test]
async fn chunks_that_can_be_read_twice_are_refused() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for body in [
        "\r\n\r\n",
        ";a\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "2;a\nb\r\n{}\r\n0\r\n\r\n",
        "2;a\rb\r\n{}\r\n0\r\n\r\n",
        "2 \r\n{}\r\n0\r\n\r\n",
        "2 0\r\n{}\r\n0\r\n\r\n",
        " 2\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "two\r\n{}\r\n0\r\n\r\n",
        "10000000000000002\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}}\r\n0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}\r\n0\r\n\n",
        "2\r\n{}\r\n0\r\nx: y\n\r\n",
        "2\r\n{}\r\n0\r\n x: y\r\n\r\n",
    ] {
        for path in ["/v1/chat/completions", "/v1/files"] {
            let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n");
            // At once, and split behind the head, as the stream's own reading finds it.
            let told = tell(proxy.data(), format!("{head}\r\n{body}{HIDDEN}")).await;
            assert_eq!(told.only_status(), 400, "{body:?}: {}", told.text);
            let mut client = proxy.client().await;
            client.write_raw(format!("{head}\r\n").as_bytes()).await;
            client.write_raw(format!("{body}{HIDDEN}").as_bytes()).await;
            assert_eq!(client.head().await.status(), 400, "{body:?}");
            client.rest().await.unwrap();
            client.closed().await;
        }
    }
    let whole = backend.requests().len();
    assert_eq!(whole, 0, "no request was whole");
    proxy.await_idle().await;
}

#[tokio::test]
async fn packed_bodies_are_unpacked_within_the_limit_or_refused() {
    use std::io::Write as _;
    let backend = Backend::scripted("b").await;
    let config = Config::one(&backend).set("server.max_body_bytes", 100_000);
    let proxy = Proxy::start(&config).await;
    let gzip = |body: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(body).unwrap();
        packer.finish().unwrap()
    };
    let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let packed = |bytes: Vec<u8>| Request::chat(bytes).header("content-encoding", "gzip");

    let mut client = proxy.client().await;
    client.begin(&packed(gzip(body))).await;
    let exchange = backend.next_request().await;
    assert_eq!(exchange.request.body, body.as_slice());
    assert_eq!(exchange.request.head.header("content-encoding"), None);
    exchange.respond(Reply::json(200, ANSWER)).await.unwrap();
    assert_eq!(client.head().await.status(), 200);

    let bomb = gzip(&vec![b' '; 50_000_000]);
    assert!(bomb.len() < 100_000);
    let refused = proxy.send(&packed(bomb)).await.expect_status(413);
    assert_eq!(refused.error_code(), "request_too_large");
    // A bomb in a bomb stays packed: it is unpacked once, and is no JSON then.
    let twice = packed(gzip(&gzip(body))).header("content-encoding", "gzip");
    assert_eq!(proxy.send(&twice).await.status, 415);
    for broken in [b"no gzip".to_vec(), gzip(body)[..20].to_vec()] {
        let refused = proxy.send(&packed(broken)).await.expect_status(400);
        assert_eq!(refused.error_code(), "unreadable_request");
    }
    for coding in ["br", "zstd", "deflate", "gzip, gzip", "compress", "x"] {
        let request = Request::chat(&body[..]).header("content-encoding", coding);
        let refused = proxy.send(&request).await.expect_status(415);
        assert_eq!(
            refused.error_code(),
            "unsupported_content_encoding",
            "{coding}"
        );
    }
    assert_eq!(backend.request_count(), 1);
}
