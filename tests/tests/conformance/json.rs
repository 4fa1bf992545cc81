//! Bodies of requests: whatever is wrong, the answer is a 400 that names the field.

use sluicegate_tests::{Backend, Config, Pool, Proxy, Request};

const USER: &str = r#"{"role":"user","content":"hi"}"#;

/// A chat request with these messages and more fields.
fn chat(messages: &str, more: &str) -> String {
    format!(r#"{{"model":"m","messages":{messages}{more}}}"#)
}

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

async fn refused(proxy: &Proxy, path: &str, body: impl Into<bytes::Bytes>, param: Option<&str>) {
    let body = body.into();
    let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
    let answer = proxy.send(&Request::post(path, body)).await;
    assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{shown}"
    );
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "invalid_request_error", "{shown}: {error}");
    assert!(error["code"].is_string(), "{shown}: {error}");
    assert_eq!(error["param"].as_str(), param, "{shown}: {error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.len() < 300, "{shown}: {message}");
    assert!(
        message.contains(param.unwrap_or_default()),
        "{shown}: {message}"
    );
}

#[tokio::test]
async fn each_wrong_field_is_named() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let one = format!("[{USER}]");
    for (messages, more, param) in [
        ("null", "", "messages"),
        ("[]", "", "messages"),
        ("{}", "", "messages"),
        ("\"hi\"", "", "messages"),
        ("[1]", "", "messages[0]"),
        ("[null]", "", "messages[0]"),
        ("[[]]", "", "messages[0]"),
        (
            r#"[{"role":"user","content":5}]"#,
            "",
            "messages[0].content",
        ),
        (
            r#"[{"role":"user","content":{}}]"#,
            "",
            "messages[0].content",
        ),
        (
            r#"[{"role":"user","content":[7]}]"#,
            "",
            "messages[0].content[0]",
        ),
        (r#"[{"content":"hi"}]"#, "", "messages[0].role"),
        (r#"[{"role":null,"content":"hi"}]"#, "", "messages[0].role"),
        (
            r#"[{"role":"wizard","content":"hi"}]"#,
            "",
            "messages[0].role",
        ),
        (
            r#"[{"role":"User","content":"hi"}]"#,
            "",
            "messages[0].role",
        ),
        (
            r#"[{"role":"user","role":"system"}]"#,
            "",
            "messages[0].role",
        ),
        (
            r#"[{"role":"user","content":"a","content":"b"}]"#,
            "",
            "messages[0].content",
        ),
        (&one, r#","model":"n""#, "model"),
        (&one, r#","messages":[]"#, "messages"),
        (&one, r#","stream":"yes""#, "stream"),
        (&one, r#","stream":true,"stream":false"#, "stream"),
        (&one, r#","n":1000000"#, "n"),
        (&one, r#","n":18446744073709551616"#, "n"),
        (&one, r#","n":0"#, "n"),
        (&one, r#","n":-1"#, "n"),
        (&one, r#","n":1e999"#, "n"),
        (&one, r#","n":"many""#, "n"),
        (&one, r#","temperature":1e999"#, "temperature"),
        (&one, r#","max_tokens":-1E999"#, "max_tokens"),
        (&one, r#","unknown_field":1e999"#, "unknown_field"),
    ] {
        let body = chat(messages, more);
        refused(&proxy, "/v1/chat/completions", body, Some(param)).await;
    }
    let third = format!("[{USER},{USER},{{\"role\":\"user\",\"content\":1}}]");
    let body = chat(&third, "");
    refused(
        &proxy,
        "/v1/chat/completions",
        body,
        Some("messages[2].content"),
    )
    .await;
    let chat = "/v1/chat/completions";
    refused(&proxy, chat, r#"{"model":"m"}"#, Some("messages")).await;
    refused(
        &proxy,
        chat,
        format!(r#"{{"messages":{one}}}"#),
        Some("model"),
    )
    .await;
    refused(&proxy, "/v1/embeddings", r#"{"model":"m"}"#, Some("input")).await;
    refused(
        &proxy,
        "/v1/embeddings",
        r#"{"model":"m","input":[true]}"#,
        Some("input[0]"),
    )
    .await;
    refused(
        &proxy,
        "/v1/completions",
        r#"{"model":"m","prompt":{}}"#,
        Some("prompt"),
    )
    .await;
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn bodies_that_are_no_json_are_400() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let good = chat(&format!("[{USER}]"), "");
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "null",
        "1",
        "\"x\"",
        "[]",
        "{",
        "nul",
        "\u{feff}",
        "{'model':'m'}",
        r#"{"model":"m",}"#,
        r#"{"model":NaN}"#,
        r#"{"model":"m" "n":1}"#,
        r#"{model:"m"}"#,
        r#"{"model":"m","n":01}"#,
        r#"{"model":"m","n":+1}"#,
        r#"{"model":"m","n":.5}"#,
        r#"{"model":"\x41"}"#,
        r#"{"model":"\ud83"}"#,
        "{\"model\":\"a\nb\"}",
        "{\"model\":\"a\0b\"}",
        "{\"model\":\"m\"}/*c*/",
    ]
    .map(|body| body.as_bytes().to_vec())
    .to_vec();
    bodies.push(format!("{good} trailing").into_bytes());
    bodies.push(format!("{good}{good}").into_bytes());
    bodies.push(format!("{good}\0").into_bytes());
    bodies.push(b"{\"model\":\"\xff\xfe\"}".to_vec());
    bodies.push(b"{\"model\":\"\xed\xa0\x80\"}".to_vec());
    bodies.push(good.encode_utf16().flat_map(u16::to_le_bytes).collect());
    for body in bodies {
        refused(&proxy, "/v1/chat/completions", body, None).await;
    }
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn depth_and_size_have_their_bounds() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let path = "/v1/chat/completions";
    let one = format!("[{USER}]");
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = nested(open, close, 10_000);
        let content = format!(r#"[{{"role":"user","content":[{{"x":{deep}}}]}}]"#);
        refused(&proxy, path, chat(&content, ""), Some("messages")).await;
        refused(&proxy, path, chat(&deep, ""), Some("messages")).await;
        refused(
            &proxy,
            path,
            chat(&one, &format!(r#","tools":{deep}"#)),
            Some("tools"),
        )
        .await;
        refused(
            &proxy,
            path,
            chat(&one, &format!(r#","x":{deep}"#)),
            Some("x"),
        )
        .await;
        let root = (open == "{\"a\":").then_some("a");
        refused(&proxy, path, nested(open, close, 10_000), root).await;
        let legal = chat(&one, &format!(r#","x":{}"#, nested(open, close, 100)));
        proxy.send(&Request::chat(legal)).await.expect_status(200);
    }
    let million = |value: &str| format!("[{}{value}]", format!("{value},").repeat(999_999));
    for (value, param) in [
        (USER, "messages"),
        ("{}", "messages"),
        ("1", "messages"),
        ("\"\"", "messages"),
    ] {
        refused(&proxy, path, chat(&million(value), ""), Some(param)).await;
    }
    let parts = format!(r#"[{{"role":"user","content":{}}}]"#, million("\"\""));
    refused(&proxy, path, chat(&parts, ""), Some("messages")).await;
    let tools = format!(r#","tools":{}"#, million("{}"));
    refused(&proxy, path, chat(&one, &tools), Some("tools")).await;
    let inputs = format!(r#"{{"model":"m","input":{}}}"#, million("\"\""));
    refused(&proxy, "/v1/embeddings", inputs, Some("input")).await;
    let fields: String = (0..100_000).map(|at| format!("\"f{at}\":1,")).collect();
    refused(&proxy, path, format!("{{{fields}\"model\":\"m\"}}"), None).await;
    // A million tokens are a long prompt, and no attack.
    let tokens = format!(r#"{{"model":"m","prompt":{}}}"#, million("1"));
    proxy
        .send(&Request::post("/v1/completions", tokens))
        .await
        .expect_status(200);
}

#[tokio::test]
async fn what_is_odd_and_clear_is_passed_on_as_it_came() {
    let backend = Backend::model("b").await;
    let config = Config::new()
        .pool(Pool::new("main").backend(&backend))
        .set("server.extra_roles", vec!["critic".to_owned()])
        .set("server.max_choices", 1000);
    let proxy = Proxy::start(&config).await;
    let one = format!("[{USER}]");
    for body in [
        chat(r#"[{"role":"user","content":"\ud83d \u0000 \udc00"}]"#, ""),
        chat(r#"[{"role":"critic","content":"hi","role\u0000":1}]"#, ""),
        format!("\u{feff}{}", chat(&one, "")),
        chat(
            &one,
            r#","seed":123456789012345678901234567890,"x":1,"x":[1e999]"#,
        ),
        chat(&one, r#","n":1000,"temperature":1e-999"#),
    ] {
        proxy
            .send(&Request::chat(body.clone()))
            .await
            .expect_status(200);
        assert_eq!(backend.last_request().text(), body);
    }
}
