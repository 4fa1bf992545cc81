//! Errors in OpenAI's form: ours as they are written, and an upstream's as far as it tells a status.

use bytes::Bytes;

use super::json;

/// The body of an error answer. `kind` is OpenAI's `type`.
pub(crate) fn body(message: &str, kind: &str, param: Option<&str>, code: &str) -> Bytes {
    object(message, kind, param, code).into()
}

/// The event that ends a stream which failed after its head was sent. No `[DONE]` follows it.
pub(crate) fn event(message: &str, kind: &str, param: Option<&str>, code: &str) -> Bytes {
    format!("data: {}\n\n", object(message, kind, param, code)).into()
}

/// The status that an upstream's error stands for: what it says as a number (`code`, as vLLM and
/// SGLang write it, or `status`), else what its `type` or `code` means as a word. None when it says
/// neither, or nothing from 400 up.
pub(crate) fn told_status(body: &[u8]) -> Option<u16> {
    let body = std::str::from_utf8(body).ok()?;
    let outer = json::members(body).ok()?;
    let inner = json::last(&outer, "error").and_then(|error| json::members(error).ok());
    let members = inner.as_ref().unwrap_or(&outer);
    let told = |name| json::last(members, name);
    let numbers = ["code", "status", "status_code"]
        .into_iter()
        .filter_map(told);
    let number = numbers
        .filter_map(json::count)
        .filter_map(|number| u16::try_from(number).ok())
        .find(|number| (400..600).contains(number));
    let mut words = ["type", "code"].into_iter().filter_map(told);
    number.or_else(|| words.find_map(|word| meaning(&json::text(word)?)))
}

/// What the words of OpenAI, of Anthropic, and of the servers that follow them stand for. A mere
/// `server_error` is not among them: it does not say whether another try may help.
fn meaning(word: &str) -> Option<u16> {
    Some(match word {
        "invalid_request_error" | "BadRequestError" | "context_length_exceeded" => 400,
        "authentication_error" | "AuthenticationError" | "invalid_api_key" => 401,
        "permission_error" | "PermissionDeniedError" => 403,
        "not_found_error" | "NotFoundError" | "model_not_found" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "RateLimitError" | "rate_limit_exceeded" | "insufficient_quota" => 429,
        "overloaded_error" | "ServiceUnavailableError" => 503,
        _ => return None,
    })
}

fn object(message: &str, kind: &str, param: Option<&str>, code: &str) -> String {
    let mut out = String::with_capacity(message.len() + 96);
    out.push_str("{\"error\":{\"message\":");
    json::quote_into(&mut out, message);
    out.push_str(",\"type\":");
    json::quote_into(&mut out, kind);
    out.push_str(",\"param\":");
    match param {
        Some(param) => json::quote_into(&mut out, param),
        None => out.push_str("null"),
    }
    out.push_str(",\"code\":");
    json::quote_into(&mut out, code);
    out.push_str("}}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_has_openai_form_and_escapes_what_it_quotes() {
        let body = body(
            "no \"x\"\n",
            "invalid_request_error",
            Some("messages[0]"),
            "invalid_type",
        );
        assert_eq!(
            body,
            "{\"error\":{\"message\":\"no \\\"x\\\"\\n\",\"type\":\"invalid_request_error\",\
             \"param\":\"messages[0]\",\"code\":\"invalid_type\"}}"
        );
    }

    #[test]
    fn an_upstreams_error_tells_its_status_by_number_or_by_word() {
        for (error, status) in [
            (
                r#"{"error":{"message":"x","type":"BadRequestError","code":400}}"#,
                Some(400),
            ),
            (r#"{"error":{"code":"404"}}"#, Some(404)),
            (r#"{"error":{"code":200,"status":503}}"#, Some(503)),
            (r#"{"object":"error","code":422}"#, Some(422)),
            (
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
                Some(503),
            ),
            (
                r#"{"error":{"type":"x","code":"insufficient_quota"}}"#,
                Some(429),
            ),
            (r#"{"error":{"code":4e2}}"#, Some(400)),
            (r#"{"error":{"code":70000,"type":"server_error"}}"#, None),
            (r#"{"error":{"code":-400}}"#, None),
            (r#"{"error":"text"}"#, None),
            ("[400]", None),
            ("", None),
        ] {
            assert_eq!(told_status(error.as_bytes()), status, "{error}");
        }
    }

    #[test]
    fn event_is_one_whole_event() {
        let event = event(
            "upstream\r\n\r\nfailed",
            "server_error",
            None,
            "upstream_failed",
        );
        let mut framer = crate::api::sse::Framer::new(1024);
        framer.push(event.clone());
        let framed = framer.next().unwrap().unwrap();
        assert_eq!(framed.raw, event);
        let value: serde_json::Value = serde_json::from_slice(&framed.data.unwrap()).unwrap();
        assert_eq!(value["error"]["message"], "upstream\r\n\r\nfailed");
        assert_eq!(value["error"]["param"], serde_json::Value::Null);
        assert!(framer.next().unwrap().is_none());
    }
}
