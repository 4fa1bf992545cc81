//! Requests and answers that many tests use.

use serde_json::{Value, json};

use crate::Request;

/// A whole chat answer, as small as one can be.
pub const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// A chat request with one user message.
#[must_use]
pub fn ask(content: &str) -> Request {
    chat_with(content, &json!({}))
}

/// The same, streamed.
#[must_use]
pub fn ask_streaming(content: &str) -> Request {
    chat_with(content, &json!({"stream": true}))
}

/// A chat request with one user message and more members; they may replace `model` and `messages`.
///
/// # Panics
/// When `members` is no object.
#[must_use]
pub fn chat_with(content: &str, members: &Value) -> Request {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": content}]});
    for (name, value) in members.as_object().expect("an object") {
        body[name] = value.clone();
    }
    Request::chat(body.to_string())
}
