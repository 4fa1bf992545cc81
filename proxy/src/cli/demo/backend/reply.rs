//! What a backend answers, before anything is sent.

use bytes::Bytes;
use serde_json::{Value, json};

/// A whole answer, or the plan of a stream.
#[derive(Debug)]
pub(super) enum Reply {
    /// One JSON value.
    Json {
        status: u16,
        body: Value,
        /// Tokens that the model pretends to have made, for the pace.
        tokens: usize,
    },
    Stream(Script),
}

/// The events of a stream, in order.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) events: Vec<Event>,
    /// Cuts the connection after so many events.
    pub(super) cut_after: Option<usize>,
}

/// One server-sent event.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) bytes: Bytes,
    /// True when it carries a token, which takes time to make.
    pub(super) is_token: bool,
}

impl Event {
    /// An event without a token: role, finish, usage.
    pub(super) fn frame(data: &Value) -> Self {
        Self {
            bytes: format!("data: {data}\n\n").into(),
            is_token: false,
        }
    }

    pub(super) fn token(data: &Value) -> Self {
        Self {
            is_token: true,
            ..Self::frame(data)
        }
    }

    pub(super) fn done() -> Self {
        Self {
            bytes: Bytes::from_static(b"data: [DONE]\n\n"),
            is_token: false,
        }
    }
}

impl Reply {
    pub(super) fn ok(body: Value, tokens: usize) -> Self {
        Self::Json {
            status: 200,
            body,
            tokens,
        }
    }

    /// OpenAI's error object.
    pub(super) fn error(status: u16, param: Option<&str>, message: &str) -> Self {
        let (kind, code) = match status {
            401 => ("authentication_error", "invalid_api_key"),
            404 => ("invalid_request_error", "not_found"),
            429 => ("rate_limit_error", "rate_limit_exceeded"),
            400..=499 => ("invalid_request_error", "invalid_request"),
            _ => ("server_error", "server_error"),
        };
        let body = json!({"error": {
            "message": message, "type": kind, "param": param, "code": code,
        }});
        Self::Json {
            status,
            body,
            tokens: 0,
        }
    }
}

/// OpenAI's `usage`.
pub(super) fn usage(prompt: usize, completion: usize) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    })
}
