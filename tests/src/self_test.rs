//! The mock backend against the harness's own clients: what the end-to-end tests lean on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Backend, Behaviour, Break, Certificate, Client, H2Client, Reply, Request, Start,
    ends_with_done, events, eventually, text_of,
};

fn chat(extra: &Value) -> Request {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    Request::chat(body.to_string())
}

#[tokio::test]
async fn model_answers_plain_and_streamed_on_one_connection() {
    let backend = Backend::model("b").await;
    let mut client = Client::connect(backend.address()).await;
    let plain = client
        .send(&chat(&json!({})))
        .await
        .expect_status(200)
        .json();
    assert_eq!(plain["choices"][0]["message"]["content"], "b t1 t2 t3");
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let stream = client.send(&chat(&options)).await.expect_status(200);
    assert_eq!(text_of(&stream.body), "b t1 t2 t3");
    assert!(ends_with_done(&stream.body));
    let events = events(&stream.body);
    assert!(
        events[events.len() - 2].contains("\"completion_tokens\":4"),
        "{events:?}"
    );
    assert_eq!((backend.connections(), backend.used_connections()), (1, 1));
    assert_eq!((backend.answered(), backend.request_count()), (2, 2));
}

#[tokio::test]
async fn health_checks_are_counted_apart() {
    let backend = Backend::model("b").await;
    Client::connect(backend.address())
        .await
        .send(&Request::get("/health"))
        .await
        .expect_status(200);
    backend.behave(|behaviour| behaviour.health = 503);
    let answer = Client::connect(backend.address())
        .await
        .send(&Request::get("/health"))
        .await;
    assert_eq!(answer.status, 503);
    assert_eq!((backend.connections(), backend.health_checks()), (0, 2));
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn errors_come_on_demand() {
    let backend = Backend::model("b").await;
    let mut client = Client::connect(backend.address()).await;
    let answer = client
        .send(&chat(&json!({"mock": {"status": 429}})))
        .await
        .expect_status(429);
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.error_code(), "mock_429");
}

#[tokio::test]
async fn scripted_backend_hands_out_requests_and_sees_its_peer_close() {
    let backend = Backend::scripted("b").await;
    let mut client = Client::connect(backend.address()).await;
    client.begin(&Request::chat("{\"a\":  1}")).await;
    let exchange = backend.next_request().await;
    assert_eq!(exchange.request.text(), "{\"a\":  1}");
    exchange.respond(Reply::json(201, "{}")).await.unwrap();
    assert_eq!(client.head().await.status(), 201);
    assert_eq!(client.rest().await.unwrap(), "{}");
    client.begin(&Request::chat("{}")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("x").await.unwrap();
    drop(client);
    exchange.closed().await;
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn reset_and_early_close_are_told_from_an_end() {
    let backend = Backend::scripted("b").await;
    for reset in [true, false] {
        let mut client = Client::connect(backend.address()).await;
        client.begin(&Request::chat("{}")).await;
        let mut exchange = backend.next_request().await;
        exchange.begin_events().await.unwrap();
        exchange.token("x").await.unwrap();
        client.head().await;
        assert!(client.piece().await.unwrap().is_some());
        if reset {
            exchange.reset();
        } else {
            exchange.close();
        }
        assert!(client.piece().await.is_err());
    }
}

#[tokio::test]
async fn model_breaks_its_stream_where_told() {
    let behaviour = Behaviour {
        breaks: Some(Break::CleanEnd),
        ..Behaviour::default()
    };
    let backend = Start::new("b").behaviour(behaviour).start().await;
    let mut client = Client::connect(backend.address()).await;
    let clean = client.send(&chat(&json!({"stream": true}))).await;
    assert_eq!(text_of(&clean.body), "b t1");
    assert!(!ends_with_done(&clean.body));
    let reset = chat(&json!({"stream": true, "mock": {"break": "reset"}}));
    assert!(client.try_send(&reset).await.is_err());
}

#[tokio::test]
async fn model_counts_readers_that_leave() {
    let backend = Backend::model("b").await;
    let mut client = Client::connect(backend.address()).await;
    client
        .begin(&chat(&json!({"stream": true, "mock": {"break": "hang"}})))
        .await;
    client.head().await;
    drop(client);
    eventually("the model notices", async || match backend.cancelled() {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn held_answers_wait_for_their_release() {
    let backend = Backend::model("b").await;
    backend.hold();
    let mut client = Client::connect(backend.address()).await;
    client.begin(&chat(&json!({}))).await;
    eventually("the request is there", async || {
        match backend.request_count() {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let early = tokio::time::timeout(Duration::from_millis(50), client.any_head()).await;
    assert!(early.is_err() && backend.answered() == 0);
    backend.release();
    assert_eq!(client.head().await.status(), 200);
}

#[tokio::test]
async fn tls_handshakes_are_counted() {
    let certificate = Certificate::new();
    let backend = Start::new("b").tls(&certificate).start().await;
    let mut client = Client::connect_tls(backend.address(), &certificate).await;
    for _ in 0..3 {
        client.send(&chat(&json!({}))).await.expect_status(200);
    }
    assert_eq!((backend.handshakes(), backend.connections()), (1, 1));
}

#[tokio::test]
async fn http2_backend_answers_and_sees_resets() {
    let backend = Start::new("b").http2().scripted().start().await;
    let mut client = H2Client::connect(backend.address()).await;
    let mut exchange = client.begin(&chat(&json!({}))).await;
    let mut request = backend.next_request().await;
    assert_eq!(request.request.json()["model"], "m");
    request.begin_events().await.unwrap();
    request.token("x").await.unwrap();
    assert_eq!(exchange.head().await.status(), 200);
    assert!(exchange.piece().await.unwrap().is_some());
    drop(exchange);
    request.closed().await;
}

#[tokio::test]
async fn streamed_bodies_are_handed_out_piece_by_piece() {
    let backend = Start::new("b").scripted_at_head().start().await;
    let mut client = Client::connect(backend.address()).await;
    client
        .write_raw(b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    let mut exchange = backend.next_request().await;
    assert_eq!(exchange.body_piece().await.unwrap().unwrap(), "abc");
    client.write_raw(b"2\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(exchange.body_piece().await.unwrap().unwrap(), "de");
    assert!(exchange.body_piece().await.unwrap().is_none());
}

#[tokio::test]
async fn a_refusing_address_refuses() {
    let (address, _taken) = Backend::refusing();
    let error = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_message_with_both_framings_is_an_error() {
    let backend = Backend::scripted("b").await;
    let mut client = Client::connect(backend.address()).await;
    client.begin(&Request::chat("{}")).await;
    let mut exchange = backend.next_request().await;
    let both = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}";
    exchange.write_raw(both).await.unwrap();
    assert!(client.try_send(&Request::get("/")).await.is_err());
}
