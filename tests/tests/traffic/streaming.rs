//! Streams: they flow, they commit late, they break honestly.

use serde_json::json;
use sluicegate_tests::{
    ANSWER, Backend, Client, Config, Exchange, Proxy, Reply, Route, ask, ask_streaming, chat_with,
    ends_with_done, error_event, events, text_of,
};

const ROLE: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const STOP: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

/// Reads until the text has come.
async fn read_until(client: &mut Client, text: &str) -> Vec<u8> {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        seen.extend(client.piece().await.unwrap().expect("more of the stream"));
    }
    seen
}

async fn whole_stream(mut exchange: Exchange, text: &str) {
    exchange.begin_events().await.unwrap();
    exchange.event(ROLE).await.unwrap();
    exchange.token(text).await.unwrap();
    exchange.event(STOP).await.unwrap();
    exchange.event("[DONE]").await.unwrap();
    exchange.finish().await.unwrap();
}

#[tokio::test]
async fn each_token_leaves_when_it_comes() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.event(ROLE).await.unwrap();
    for token in ["one", "two", "three"] {
        exchange.token(token).await.unwrap();
        if token == "one" {
            assert_eq!(client.head().await.status(), 200);
        }
        read_until(&mut client, token).await;
    }
    exchange.event(STOP).await.unwrap();
    exchange.event("[DONE]").await.unwrap();
    exchange.finish().await.unwrap();
    assert!(ends_with_done(&client.rest().await.unwrap()));
}

#[tokio::test]
async fn stream_leaves_its_connection_usable() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        let answer = client.send(&ask_streaming("hi")).await.expect_status(200);
        assert!(ends_with_done(&answer.body));
        // Without it only the end of the connection would end the body (RFC 9112 §6.3).
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    }
}

#[tokio::test]
async fn failure_after_the_role_chunk_is_still_retried() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut first = backend.next_request().await;
    first.begin_events().await.unwrap();
    first.event(ROLE).await.unwrap();
    first.reset();
    whole_stream(backend.next_request().await, "second").await;
    assert_eq!(client.head().await.status(), 200);
    let body = client.rest().await.unwrap();
    assert_eq!(text_of(&body), "second");
    assert_eq!(
        events(&body)
            .iter()
            .filter(|event| event.contains("\"role\""))
            .count(),
        1
    );
    assert!(ends_with_done(&body));
}

#[tokio::test]
async fn head_goes_at_once_where_the_route_says_so() {
    let backend = Backend::scripted("b").await;
    let config = Config::one(&backend).route(Route::to("main").set("commit", "head"));
    let proxy = Proxy::start(&config).await;
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    exchange.reset();
    error_event(&client.rest().await.unwrap());
    assert!(
        !backend.has_request().await,
        "tried again after the head had gone"
    );
}

/// Sends the same question twice through the cache; the first answer is broken off by `break_off`.
async fn broken_stream_is_told_and_not_stored(break_off: impl AsyncFn(Exchange)) {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend).cached()).await;
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("begun").await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    let mut body = read_until(&mut client, "begun").await;
    break_off(exchange).await;
    body.extend(
        client
            .rest()
            .await
            .expect("the error event ends the body in good order"),
    );
    let error = error_event(&body);
    assert!(
        error["code"].is_string() && error["type"].is_string(),
        "{error}"
    );
    let finishes = events(&body)
        .iter()
        .filter(|event| event.contains("\"stop\""))
        .count();
    assert!(
        finishes == 0 || text_of(&body) == "begun",
        "an end was made up: {body:?}"
    );

    let mut again = proxy.client().await;
    again.begin(&ask_streaming("hi")).await;
    whole_stream(backend.next_request().await, "whole").await;
    assert_eq!(
        again.head().await.header("x-sluicegate-cache"),
        Some("miss")
    );
    assert_eq!(text_of(&again.rest().await.unwrap()), "whole");
    proxy.await_idle().await;
}

#[tokio::test]
async fn reset_in_the_middle_is_an_error_event_without_done() {
    broken_stream_is_told_and_not_stored(async |exchange| exchange.reset()).await;
}

#[tokio::test]
async fn early_close_is_an_error_event_without_done() {
    broken_stream_is_told_and_not_stored(async |exchange| exchange.close()).await;
}

#[tokio::test]
async fn clean_end_without_terminal_is_an_error_event_without_done() {
    broken_stream_is_told_and_not_stored(async |exchange| exchange.finish().await.unwrap()).await;
}

#[tokio::test]
async fn reset_after_finish_reason_is_a_failure() {
    broken_stream_is_told_and_not_stored(async |mut exchange| {
        exchange.event(STOP).await.unwrap();
        exchange.reset();
    })
    .await;
}

#[tokio::test]
async fn done_is_added_after_a_finish_reason_and_a_clean_end() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("all").await.unwrap();
    exchange.event(STOP).await.unwrap();
    exchange.finish().await.unwrap();
    client.head().await;
    let body = client.rest().await.unwrap();
    assert_eq!(text_of(&body), "all");
    assert!(ends_with_done(&body));
    assert_eq!(
        events(&body)
            .iter()
            .filter(|event| *event == "[DONE]")
            .count(),
        1
    );
}

#[tokio::test]
async fn unfinished_choice_makes_a_clean_end_a_failure() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    client
        .begin(&chat_with("hi", &json!({"stream": true, "n": 2})))
        .await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("a").await.unwrap();
    exchange.event(STOP).await.unwrap();
    exchange.finish().await.unwrap();
    client.head().await;
    error_event(&client.rest().await.unwrap());
}

#[tokio::test]
async fn plain_answer_cut_short_is_no_success() {
    let backend = Backend::scripted("b").await;
    let config = Config::one(&backend)
        .cached()
        .route(Route::to("main").set("attempts", 1));
    let proxy = Proxy::start(&config).await;
    let client = proxy.client();
    let mut client = client.await;
    client.begin(&ask("hi")).await;
    let mut exchange = backend.next_request().await;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        ANSWER.len()
    );
    exchange.write_raw(head.as_bytes()).await.unwrap();
    exchange
        .write_raw(&ANSWER.as_bytes()[..ANSWER.len() / 2])
        .await
        .unwrap();
    exchange.reset();
    let head = client.head().await;
    let body = client.rest().await;
    assert!(
        head.status() == 502 || body.is_err(),
        "{} {body:?}",
        head.status()
    );
    let mut again = proxy.client().await;
    again.begin(&ask("hi")).await;
    backend
        .next_request()
        .await
        .respond(Reply::json(200, ANSWER))
        .await
        .unwrap();
    assert_eq!(
        again.head().await.header("x-sluicegate-cache"),
        Some("miss")
    );
}

#[tokio::test]
async fn silent_backend_is_a_gateway_timeout() {
    let backend = Backend::scripted("b").await;
    // A plain answer comes after its last token, so only the whole time bounds it.
    for (limit, request) in [
        ("timeouts.total", ask("hi")),
        ("timeouts.first_token", ask_streaming("hi")),
    ] {
        let route = Route::to("main").set(limit, "300ms").set("attempts", 1);
        let proxy = Proxy::start(&Config::one(&backend).route(route)).await;
        let mut client = proxy.client().await;
        client.begin(&request).await;
        let mut exchange = backend.next_request().await;
        assert_eq!(client.head().await.status(), 504);
        exchange.closed().await;
    }
    let route = Route::to("main")
        .set("timeouts.first_token", "300ms")
        .set("attempts", 1);
    let proxy = Proxy::start(&Config::one(&backend).route(route)).await;
    // A head and a role chunk are no token.
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.event(ROLE).await.unwrap();
    assert_eq!(client.head().await.status(), 504);
    exchange.closed().await;
    proxy.await_idle().await;
}

#[tokio::test]
async fn stalled_stream_ends_with_an_error_event() {
    let backend = Backend::scripted("b").await;
    let route = Route::to("main").set("timeouts.between_bytes", "300ms");
    let proxy = Proxy::start(&Config::one(&backend).route(route)).await;
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("begun").await.unwrap();
    client.head().await;
    error_event(&client.rest().await.unwrap());
    exchange.closed().await;
    proxy.await_idle().await;
}

#[tokio::test]
async fn total_time_bounds_a_stream_that_has_begun() {
    let backend = Backend::scripted("b").await;
    let route = Route::to("main").set("timeouts.total", "500ms");
    let proxy = Proxy::start(&Config::one(&backend).route(route)).await;
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("begun").await.unwrap();
    client.head().await;
    error_event(&client.rest().await.unwrap());
    exchange.closed().await;
    proxy.await_idle().await;
}

#[tokio::test]
async fn answers_that_break_the_protocol_are_bad_gateways() {
    let backend = Backend::scripted("b").await;
    let route = Route::to("main").set("attempts", 1);
    let proxy = Proxy::start(&Config::one(&backend).route(route)).await;
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "not HTTP at all\r\n\r\n",
    ] {
        let mut client = proxy.client().await;
        client.begin(&ask("hi")).await;
        let mut exchange = backend.next_request().await;
        exchange.write_raw(answer.as_bytes()).await.unwrap();
        assert_eq!(client.head().await.status(), 502, "{answer:?}");
    }
}

#[tokio::test]
async fn tool_call_is_a_commit_and_passes_whole() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let tools = json!({"stream": true, "tools": [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]});
    let answer = proxy
        .send(&chat_with("weather in Oslo?", &tools))
        .await
        .expect_status(200);
    let arguments: String = events(&answer.body)
        .iter()
        .filter_map(|event| serde_json::from_str::<serde_json::Value>(event).ok())
        .filter_map(|chunk| {
            let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
            call["function"]["arguments"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(arguments, r#"{"city":"Oslo"}"#);
    assert!(ends_with_done(&answer.body));
}
