//! Errors of ours in OpenAI's form.

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
