//! Every other path of the API passes as a stream, in both directions.

use bytes::Bytes;
use sluicegate_tests::{Backend, Config, Pool, Proxy, Reply, Request, Route, Start};

#[tokio::test]
async fn unknown_endpoint_streams_in_both_directions() {
    let backend = Start::new("b").scripted_at_head().start().await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    let request = Request::new("POST", "/v1/files?purpose=x", Bytes::new())
        .header("content-type", "multipart/form-data; boundary=b")
        .header("transfer-encoding", "chunked");
    client.begin(&request).await;
    client.write_raw(b"5\r\nfirst\r\n").await;
    let mut exchange = backend.next_request().await;
    assert_eq!(exchange.request.head.target(), "/v1/files?purpose=x");
    assert_eq!(
        exchange.request.head.header("content-type"),
        Some("multipart/form-data; boundary=b")
    );
    assert_eq!(exchange.body_piece().await.unwrap().unwrap(), "first");
    client.write_raw(b"6\r\nsecond\r\n0\r\n\r\n").await;
    assert_eq!(exchange.body_piece().await.unwrap().unwrap(), "second");
    assert!(exchange.body_piece().await.unwrap().is_none());
    exchange
        .begin(
            206,
            &[("content-type", "application/x-own"), ("x-own", "1")],
        )
        .await
        .unwrap();
    exchange.write(vec![0, 255, 1]).await.unwrap();
    let head = client.head().await;
    assert_eq!(
        (head.status(), head.header("content-type")),
        (206, Some("application/x-own"))
    );
    assert_eq!(client.piece().await.unwrap().unwrap(), vec![0, 255, 1]);
    exchange.write("more").await.unwrap();
    assert_eq!(client.piece().await.unwrap().unwrap(), "more");
    exchange.finish().await.unwrap();
    assert!(client.piece().await.unwrap().is_none());
    proxy.await_idle().await;
}

#[tokio::test]
async fn methods_and_known_lengths_are_kept() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for (method, path) in [
        ("GET", "/v1/files/file-1"),
        ("DELETE", "/v1/files/file-1"),
        ("POST", "/v1/images/generations"),
    ] {
        let body = if method == "POST" {
            r#"{"model":"m","prompt":"a cat"}"#
        } else {
            ""
        };
        let mut client = proxy.client().await;
        client.begin(&Request::new(method, path, body.into())).await;
        let exchange = backend.next_request().await;
        assert_eq!(
            (
                exchange.request.head.method(),
                exchange.request.head.target()
            ),
            (method, path)
        );
        assert_eq!(exchange.request.text(), body);
        exchange
            .respond(Reply::json(200, "{\"a\":  1.0}"))
            .await
            .unwrap();
        let head = client.head().await;
        assert_eq!(
            (head.status(), head.header("content-length")),
            (200, Some("11"))
        );
        assert_eq!(client.rest().await.unwrap(), "{\"a\":  1.0}");
    }
}

#[tokio::test]
async fn path_gives_the_label_where_it_says_enough() {
    let (backend, speech) = (
        Backend::scripted("b").await,
        Backend::scripted("speech").await,
    );
    let config = Config::new()
        .pool(Pool::new("main").backend(&backend))
        .pool(Pool::new("speech").backend(&speech))
        .route(Route::to("speech").labels(&["stt", "tts"]))
        .route(Route::to("main").labels(&["image_generation", "video"]));
    let proxy = Proxy::start(&config).await;
    for (path, label, pool) in [
        ("/v1/audio/transcriptions", "stt", &speech),
        ("/v1/audio/translations", "stt", &speech),
        ("/v1/audio/speech", "tts", &speech),
        ("/v1/images/generations", "image_generation", &backend),
        ("/v1/images/edits", "image_generation", &backend),
        ("/v1/videos", "video", &backend),
    ] {
        let mut client = proxy.client().await;
        client.begin(&Request::post(path, r#"{"model":"m"}"#)).await;
        pool.next_request()
            .await
            .respond(Reply::json(200, "{}"))
            .await
            .unwrap();
        let head = client.head().await;
        assert_eq!(head.header("x-sluicegate-label"), Some(label), "{path}");
    }
}

#[tokio::test]
async fn upload_over_the_limit_is_stopped() {
    let backend = Start::new("b").scripted_at_head().start().await;
    let config = Config::one(&backend).set("server.max_body_bytes", 1024);
    let proxy = Proxy::start(&config).await;
    let answer = proxy
        .send(&Request::post("/v1/files", "x".repeat(2000)))
        .await;
    assert_eq!(answer.status, 413);
    proxy.await_idle().await;
}
