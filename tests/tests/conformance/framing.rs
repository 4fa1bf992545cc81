//! Heads: one reading, or none (RFC 9112 §§2.2-6.3).

use sluicegate_tests::{Backend, Config, Proxy};

use crate::raw::tell;

/// What an attacker wants to be read as a request of its own.
const HIDDEN: &str = "GET /v1/models HTTP/1.1\r\nhost: hidden\r\n\r\n";

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn heads_that_can_be_read_twice_are_refused() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for fields in [
        "content-length: 57\r\ncontent-length: 57\r\n",
        "content-length: 57\r\ncontent-length: 0\r\n",
        "content-length: 57, 57\r\n",
        "content-length: +57\r\n",
        "content-length: -57\r\n",
        "content-length: 0x39\r\n",
        "content-length: 5 7\r\n",
        "content-length: 57.0\r\n",
        "content-length: 18446744073709551673\r\n",
        "content-length:\r\n",
        "content-length : 57\r\n",
        "content-length\r\n: 57\r\n",
        "content-length: 57\n",
        "content-length: 57\ntransfer-encoding: chunked\r\n",
        "content-length: 57\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 57\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: chunked\r \r\n",
        "transfer-encoding\t: chunked\r\n",
        "transfer-encoding:\u{b}chunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
        "x: y\r\n\ttransfer-encoding: chunked\r\n",
        " x: y\r\ncontent-length: 57\r\n",
        "x: y\rcontent-length: 57\r\n",
        "x\0: y\r\ncontent-length: 57\r\n",
        "x: y\0\r\ncontent-length: 57\r\n",
        "no colon\r\ncontent-length: 57\r\n",
        ": y\r\ncontent-length: 57\r\n",
        "host: other\r\ncontent-length: 57\r\n",
    ] {
        let bytes =
            format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n{fields}\r\n{CHAT}{HIDDEN}");
        let code = tell(proxy.data(), bytes).await.refused(400);
        assert_eq!(code, "malformed_request", "{fields:?}");
    }
    assert_eq!(backend.request_count(), 0);
    let refused = [("reason", "malformed")];
    let metrics = proxy.metrics().await;
    let counted = metrics.sum("sluicegate_unreadable_heads_total", &refused);
    assert!((counted - 33.0).abs() < 0.5, "{counted}");
}

#[tokio::test]
async fn request_lines_that_can_be_read_twice_are_refused() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for line in [
        "GET  /v1/models HTTP/1.1",
        "GET /v1/models  HTTP/1.1",
        "GET /v1/models HTTP/1.1 ",
        "GET /v1/mo dels HTTP/1.1",
        "GET\t/v1/models HTTP/1.1",
        "GET /v1/models",
        "GET /v1/models HTTP/0.9",
        "GET /v1/models HTTP/2.0",
        "GET /v1/models HTTP/1.12",
        "GET /v1/models http/1.1",
        "G(T /v1/models HTTP/1.1",
        "GET /v1/models#x HTTP/1.1",
        "GET /v1/mod\u{e9}ls HTTP/1.1",
        "GET /v1/mod\0els HTTP/1.1",
        "GET ftp://a/v1/models HTTP/1.1",
        // Whom is it for?
        "GET http://other/v1/models HTTP/1.1",
        "GET http://user@a/v1/models HTTP/1.1",
        "GET v1/models HTTP/1.1",
    ] {
        let bytes = format!("{line}\r\nhost: a\r\n\r\n{HIDDEN}");
        let code = tell(proxy.data(), bytes).await.refused(400);
        assert_eq!(code, "malformed_request", "{line:?}");
    }
    for head in [
        "GET /v1/models HTTP/1.1\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "POST /v1/files HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /v1/models HTTP/1.1\nhost: a\n\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
    ] {
        let told = tell(proxy.data(), format!("{head}{HIDDEN}")).await;
        assert_eq!(told.refused(400), "malformed_request", "{head:?}");
    }
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn what_is_unusual_and_clear_is_served() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for head in [
        "GET /v1/models HTTP/1.1\r\nHOST:a\r\nConnection:\tclose \r\n\r\n",
        "\r\nGET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET http://a/v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET /v1/models?a=%20&b[]={c|d} HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n",
        "GET /v1/models HTTP/1.0\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nhost: a\r\nx: caf\u{e9}\r\nx:\r\nconnection: close\r\n\r\n",
    ] {
        let told = tell(proxy.data(), head).await;
        assert_eq!(told.only_status(), 200, "{head:?}: {}", told.text);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let chat = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{CHAT}",
        CHAT.len()
    );
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x};a=b\r\n{CHAT}\r\n0\r\nx: y\r\n\r\n",
        CHAT.len()
    );
    let bytes = format!(
        "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n{chat}{chunked}\r\n\
         GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n{HIDDEN}GET /v1/models\nHTTP/1.1\r\n\r\n{HIDDEN}"
    );
    let told = tell(proxy.data(), bytes).await;
    let expected = ["200", "200", "200", "404", "200", "400"];
    assert_eq!(told.statuses(), expected, "{}", told.text);
    assert_eq!(backend.request_count(), 2);
}

#[tokio::test]
async fn heads_that_are_too_large_are_431() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let many: String = (0..10_000).map(|at| format!("x-{at}: y\r\n")).collect();
    let several: String = (0..200).map(|at| format!("x-{at}: y\r\n")).collect();
    for (name, fields) in [
        ("one large header", format!("x: {}\r\n", "y".repeat(80_000))),
        ("ten thousand headers", many),
        ("a megabyte", format!("x: {}\r\n", "y".repeat(1 << 20))),
        ("no end", format!("x: {}", "y".repeat(200_000))),
    ] {
        let bytes = format!("GET /v1/models HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let told = tell(proxy.data(), bytes).await;
        let code = told.refused(431);
        // It has both when it is read at once.
        let codes = ["header_too_large", "too_many_headers"];
        assert!(codes.contains(&code.as_str()), "{name}: {code}");
    }
    let bytes = format!("GET /v1/models HTTP/1.1\r\nhost: a\r\n{several}\r\n");
    let told = tell(proxy.data(), bytes).await;
    assert_eq!(told.refused(431), "too_many_headers");
    let target = format!("GET /v1/{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(80_000));
    assert_eq!(
        tell(proxy.data(), target).await.refused(431),
        "header_too_large"
    );
    let fields = "x: 1\r\n".repeat(90);
    let head = format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n");
    assert_eq!(tell(proxy.data(), head).await.only_status(), 200);
}
