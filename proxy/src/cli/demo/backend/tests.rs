//! Backends over real loopback sockets, spoken to as the proxy and as an SDK would.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const FAST: Pace = Pace {
    first_token: Duration::ZERO,
    token: Duration::ZERO,
};

async fn start(persona: Persona) -> Backend {
    Backend::start("code-1", persona, FAST).await.unwrap()
}

/// Sends one request on its own connection; status, whole body.
async fn post(backend: &Backend, path: &str, body: &Value) -> (u16, String) {
    let mut socket = TcpStream::connect(backend.address()).await.unwrap();
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    (
        status,
        if is_chunked {
            unchunked(body)
        } else {
            body.to_owned()
        },
    )
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return out;
        }
        let (chunk, rest) = rest.split_at(size);
        out.push_str(chunk);
        body = rest.strip_prefix("\r\n").unwrap();
    }
    panic!("no last chunk after {out}");
}

fn events(body: &str) -> Vec<Value> {
    let data: Vec<&str> = body
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    data[..data.len() - 1]
        .iter()
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn chat(extra: &Value) -> Value {
    let mut body =
        json!({"model": "demo-code", "messages": [{"role": "user", "content": "reverse words"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_stream_says_what_the_plain_answer_says() {
    let backend = start(Persona::Code).await;
    let (status, plain) = post(&backend, "/v1/chat/completions", &chat(&json!({}))).await;
    let plain: Value = serde_json::from_str(&plain).unwrap();
    let streaming = json!({"stream": true, "stream_options": {"include_usage": true}});
    let (_, stream) = post(&backend, "/v1/chat/completions", &chat(&streaming)).await;
    let events = events(&stream);
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(status, 200);
    assert_eq!(
        Value::String(text),
        plain["choices"][0]["message"]["content"]
    );
    let last = events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], plain["usage"]);
    assert_eq!(
        events[events.len() - 2]["choices"][0]["finish_reason"],
        "stop"
    );
    assert_eq!(backend.requests(), 2);
    assert_eq!(backend.last_body()["stream"], true);
}

#[tokio::test]
async fn usage_comes_only_when_asked_for() {
    let backend = start(Persona::Code).await;
    let (_, stream) = post(
        &backend,
        "/v1/chat/completions",
        &chat(&json!({"stream": true})),
    )
    .await;
    assert!(
        events(&stream)
            .iter()
            .all(|event| event.get("usage").is_none())
    );
}

#[tokio::test]
async fn tools_are_called_and_their_results_answered() {
    let backend = start(Persona::General).await;
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    }}}]);
    let asking = chat(&json!({"tools": tools}));
    let (_, plain) = post(&backend, "/v1/chat/completions", &asking).await;
    let plain: Value = serde_json::from_str(&plain).unwrap();
    let call = &plain["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(plain["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(call["function"]["arguments"], r#"{"city":"demo","days":1}"#);

    let streaming = chat(&json!({"tools": asking["tools"], "stream": true}));
    let (_, stream) = post(&backend, "/v1/chat/completions", &streaming).await;
    let arguments: String = events(&stream)
        .iter()
        .filter_map(|event| {
            event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()
        })
        .collect();
    assert_eq!(arguments, r#"{"city":"demo","days":1}"#);

    let result = chat(&json!({"tools": asking["tools"], "messages": [
        {"role": "user", "content": "?"},
        {"role": "tool", "tool_call_id": "x", "content": "sunny"},
    ]}));
    let (_, answered) = post(&backend, "/v1/chat/completions", &result).await;
    assert!(answered.contains("The tool answered: sunny"), "{answered}");
}

#[tokio::test]
async fn limits_and_stops_are_kept() {
    let backend = start(Persona::General).await;
    let (_, short) = post(
        &backend,
        "/v1/chat/completions",
        &chat(&json!({"max_tokens": 2})),
    )
    .await;
    let short: Value = serde_json::from_str(&short).unwrap();
    assert_eq!(short["choices"][0]["message"]["content"], "A general");
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    assert_eq!(short["usage"]["completion_tokens"], 2);
    let stop = chat(&json!({"stop": [" answer"]}));
    let (_, stopped) = post(&backend, "/v1/chat/completions", &stop).await;
    let stopped: Value = serde_json::from_str(&stopped).unwrap();
    assert_eq!(stopped["choices"][0]["message"]["content"], "A general");
    let (_, two) = post(&backend, "/v1/chat/completions", &chat(&json!({"n": 2}))).await;
    let two: Value = serde_json::from_str(&two).unwrap();
    assert_eq!(two["choices"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn errors_come_on_demand_and_for_bad_requests() {
    let backend = start(Persona::Faults).await;
    for (body, expected) in [
        (chat(&json!({"model": "demo-error-429"})), 429),
        (chat(&json!({"model": "demo-error-500"})), 500),
        (chat(&json!({"messages": []})), 400),
        (chat(&json!({"model": 7})), 400),
    ] {
        let (status, answer) = post(&backend, "/v1/chat/completions", &body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, expected);
        assert!(answer["error"]["message"].is_string() && answer["error"]["code"].is_string());
    }
    assert_eq!(post(&backend, "/v1/nothing", &json!({})).await.0, 404);
}

#[tokio::test]
async fn a_broken_stream_ends_without_its_last_chunk() {
    let backend = start(Persona::Faults).await;
    let mut socket = TcpStream::connect(backend.address()).await.unwrap();
    let body = chat(&json!({"model": "demo-broken-stream", "stream": true})).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset and an early end are both fine here.
    let _ = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer.matches("data: ").count(), 4, "{answer}");
    assert!(
        !answer.contains("[DONE]") && !answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn completions_and_embeddings_answer_in_their_forms() {
    let backend = start(Persona::Embeddings).await;
    let body = json!({"model": "m", "prompt": "once upon", "max_tokens": 3, "stream": true});
    let (_, stream) = post(&backend, "/v1/completions", &body).await;
    let events = events(&stream);
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "A general answer");
    assert_eq!(
        events.last().unwrap()["choices"][0]["finish_reason"],
        "length"
    );

    let body = json!({"model": "m", "input": ["a", "b"], "dimensions": 3});
    let (_, floats) = post(&backend, "/v1/embeddings", &body).await;
    let floats: Value = serde_json::from_str(&floats).unwrap();
    assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), 3);
    let body = json!({"model": "m", "input": "a", "dimensions": 3, "encoding_format": "base64"});
    let (_, base64) = post(&backend, "/v1/embeddings", &body).await;
    let base64: Value = serde_json::from_str(&base64).unwrap();
    assert_eq!(base64["data"][0]["embedding"].as_str().unwrap().len(), 16);
}

#[tokio::test]
async fn a_connection_serves_many_requests_without_delay() {
    let backend = start(Persona::General).await;
    let mut socket = TcpStream::connect(backend.address()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let body = chat(&json!({"stream": true, "max_tokens": 3})).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let began = Instant::now();
    for _ in 0..20 {
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"0\r\n\r\n") {
            let read = socket.read_buf(&mut answer).await.unwrap();
            assert!(
                read > 0,
                "closed after {}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
    assert_eq!(backend.requests(), 20);
    // Nagle's algorithm against delayed acknowledgements would take 40 ms a request.
    assert!(
        began.elapsed() < Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn dropping_a_backend_ends_its_connections() {
    let backend = start(Persona::General).await;
    let mut socket = TcpStream::connect(backend.address()).await.unwrap();
    socket
        .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 512];
    assert!(socket.read(&mut answer).await.unwrap() > 0);
    drop(backend);
    let rest = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut answer)).await;
    assert!(matches!(rest, Ok(Ok(0) | Err(_))), "{rest:?}");
}
