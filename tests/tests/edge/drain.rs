//! A stop: what is idle ends at once, what has begun ends well, and nobody is promised more.

use std::time::Duration;

use rustix::process::Signal;
use sluicegate_tests::{
    ANSWER, Backend, Certificate, Client, Config, Proxy, Reply, Request, ask, ask_streaming,
    ends_with_done, eventually, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn await_draining(proxy: &Proxy) {
    eventually("readyz says no", async || {
        let answer = proxy.admin_get("/readyz").await;
        if answer.status == 503 {
            Ok(())
        } else {
            Err(answer.status)
        }
    })
    .await;
    let answer = proxy.admin_get("/readyz").await;
    assert_eq!((answer.status, answer.text()), (503, "draining"));
}

#[tokio::test]
async fn stop_closes_what_is_idle_at_once_and_lets_streams_finish() {
    let backend = Backend::scripted("b").await;
    let mut proxy = Proxy::start(&Config::one(&backend)).await;
    let mut idle = proxy.client().await;
    idle.send(&Request::get("/livez")).await.expect_status(200);
    let mut idle_h2 = proxy.h2_client().await;
    idle_h2
        .send(&Request::get("/livez"))
        .await
        .expect_status(200);
    let mut silent = proxy.client().await;
    let mut half = proxy.client().await;
    half.write_raw(b"POST /v1/chat/completions HTTP/1.1\r\nho")
        .await;
    let mut preface = proxy.client().await;
    preface.write_raw(b"PRI * HTTP/2.0\r\n").await;
    let mut streaming = proxy.client().await;
    streaming.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("one").await.unwrap();
    streaming.head().await;

    proxy.signal(Signal::TERM);
    idle.closed().await;
    idle_h2.closed().await;
    silent.closed().await;
    half.closed().await;
    preface.closed().await;
    await_draining(&proxy).await;
    let refused = TcpStream::connect(proxy.data()).await;
    assert!(refused.is_err(), "the listener is closed: {refused:?}");
    exchange.token("two").await.unwrap();
    exchange.finish_chat().await.unwrap();
    let body = streaming.rest().await.unwrap();
    assert!(ends_with_done(&body), "{body:?}");
    streaming.closed().await;
    assert!(proxy.exit().await.success());
}

#[tokio::test]
async fn handshake_under_way_does_not_hold_a_stop() {
    let certificate = Certificate::new();
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .set("server.tls.cert_file", certificate.file("cert.pem"))
        .set("server.tls.key_file", certificate.file("key.pem"));
    let mut proxy = Proxy::start(&config).await;
    let mut idle = proxy.tls_client(&certificate).await;
    idle.send(&Request::get("/livez")).await.expect_status(200);
    let mut unshaken = proxy.client().await;
    unshaken.write_raw(b"\x16\x03\x01\x02\x00\x01").await;
    proxy.signal(Signal::TERM);
    unshaken.closed().await;
    idle.closed().await;
    assert!(proxy.exit().await.success());
}

#[tokio::test]
async fn answers_sent_while_draining_say_that_the_connection_ends() {
    let backend = Backend::scripted("b").await;
    let mut proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    client.begin(&ask("hi")).await;
    let exchange = backend.next_request().await;
    let mut client_h2 = proxy.h2_client().await;
    let mut stream = client_h2.begin(&ask("hi")).await;
    let exchange_h2 = backend.next_request().await;

    proxy.signal(Signal::TERM);
    await_draining(&proxy).await;
    for exchange in [exchange, exchange_h2] {
        exchange.respond(Reply::json(200, ANSWER)).await.unwrap();
    }
    let head = client.head().await;
    assert!(head.status() == 200 && head.closes(), "{head:?}");
    client.rest().await.unwrap();
    client.closed().await;
    assert_eq!(stream.head().await.status(), 200);
    while stream.piece().await.unwrap().is_some() {}
    client_h2.closed().await;
    assert!(proxy.exit().await.success());
}

#[tokio::test]
async fn http2_clients_are_told_to_go() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const SETTINGS_TAKEN: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    const GOAWAY: u8 = 7;
    let backend = Backend::model("b").await;
    let mut proxy = Proxy::start(&Config::one(&backend)).await;
    let mut tcp = TcpStream::connect(proxy.data()).await.unwrap();
    tcp.write_all(&[PREFACE, &SETTINGS].concat()).await.unwrap();
    while frame(&mut tcp).await.unwrap() != SETTINGS_TAKEN {}
    proxy.signal(Signal::TERM);
    let mut frames = Vec::new();
    while let Some(frame) = frame(&mut tcp).await {
        frames.push(frame);
    }
    let told = frames.iter().find(|frame| frame[3] == GOAWAY);
    let told = told.unwrap_or_else(|| panic!("no GOAWAY in {frames:?}"));
    // The last stream, and an error code: none.
    assert_eq!(told[13..17], [0; 4], "{told:?}");
    assert!(proxy.exit().await.success());
}

/// The next frame; none at the end.
async fn frame(tcp: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 9];
    within("a frame", tcp.read_exact(&mut frame)).await.ok()?;
    let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
    frame.resize(9 + usize::try_from(length).unwrap(), 0);
    within("its payload", tcp.read_exact(&mut frame[9..]))
        .await
        .unwrap();
    Some(frame)
}

#[tokio::test]
async fn request_that_is_here_when_the_stop_comes_is_served() {
    let backend = Backend::model("b").await;
    for _ in 0..4 {
        let mut proxy = Proxy::start(&Config::one(&backend)).await;
        let mut kept = proxy.client().await;
        kept.send(&ask("one")).await.expect_status(200);
        let mut fresh = proxy.client().await;
        // Both are in the system's buffers before the signal is.
        kept.begin(&ask("two")).await;
        fresh.begin(&ask("three")).await;
        proxy.signal(Signal::TERM);
        for client in [&mut kept, &mut fresh] {
            assert_eq!(client.head().await.status(), 200);
            client.rest().await.unwrap();
            client.closed().await;
        }
        assert!(proxy.exit().await.success());
    }
}

async fn held_stream(proxy: &Proxy, backend: &Backend) -> (Client, sluicegate_tests::Exchange) {
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("one").await.unwrap();
    client.head().await;
    (client, exchange)
}

#[tokio::test]
async fn streams_past_the_drain_deadline_are_cut() {
    let backend = Backend::scripted("b").await;
    let config = Config::one(&backend).set("server.drain_timeout", "200ms");
    let mut proxy = Proxy::start(&config).await;
    let (mut client, mut exchange) = held_stream(&proxy, &backend).await;
    proxy.signal(Signal::TERM);
    assert!(
        client.rest().await.is_err(),
        "a cut stream must not look whole"
    );
    exchange.closed().await;
    assert_eq!(proxy.exit().await.code(), Some(1));
}

#[tokio::test]
async fn second_signal_ends_the_drain() {
    let backend = Backend::scripted("b").await;
    let config = Config::one(&backend).set("server.drain_timeout", "10m");
    let mut proxy = Proxy::start(&config).await;
    let (mut client, _exchange) = held_stream(&proxy, &backend).await;
    proxy.signal(Signal::TERM);
    await_draining(&proxy).await;
    proxy.signal(Signal::INT);
    assert!(client.rest().await.is_err());
    let ended = tokio::time::timeout(Duration::from_secs(30), proxy.exit()).await;
    assert_eq!(ended.unwrap().code(), Some(1));
}
