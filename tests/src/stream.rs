//! Reading event streams, and medians.

use std::time::Duration;

use serde_json::Value;

/// The events of a stream, each as the bytes of its `data` lines joined.
///
/// # Panics
/// When the stream is not UTF-8 or ends in the middle of an event.
#[must_use]
pub fn events(body: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(body).expect("the stream is UTF-8");
    let mut blocks: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(
        blocks.pop(),
        Some(""),
        "the stream ends in the middle of an event: {text:?}"
    );
    blocks
        .into_iter()
        .map(data)
        .filter(|data| !data.is_empty())
        .collect()
}

fn data(block: &str) -> String {
    let lines = block.lines().filter_map(|line| line.strip_prefix("data:"));
    lines
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether the last event is `[DONE]`.
#[must_use]
pub fn ends_with_done(body: &[u8]) -> bool {
    events(body).last().is_some_and(|data| data == "[DONE]")
}

/// The error that a stream ends with.
///
/// # Panics
/// When it does not end with an OpenAI error, or says `[DONE]` anywhere.
pub fn error_event(body: &[u8]) -> Value {
    let events = events(body);
    assert!(
        !events.iter().any(|data| data == "[DONE]"),
        "a broken stream says [DONE]: {events:?}"
    );
    let last = events.last().expect("the stream has events");
    let mut last: Value = serde_json::from_str(last).expect("the last event is JSON");
    assert!(
        last["error"]["message"].is_string(),
        "no error event at the end: {events:?}"
    );
    last["error"].take()
}

/// The content of all chat chunks, joined.
#[must_use]
pub fn text_of(body: &[u8]) -> String {
    let chunks = events(body)
        .into_iter()
        .filter_map(|data| serde_json::from_str(&data).ok());
    chunks
        .filter_map(|chunk: Value| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect()
}

/// The median of some times.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lines_of_an_event_are_joined_and_comments_left_out() {
        let body = b": hello\n\ndata: a\ndata: b\n\nevent: x\ndata:c\n\ndata: [DONE]\n\n";
        assert_eq!(events(body), ["a\nb", "c", "[DONE]"]);
        assert!(ends_with_done(body));
    }

    #[test]
    #[should_panic(expected = "in the middle of an event")]
    fn a_cut_event_is_noticed() {
        let _ = events(b"data: a\n\ndata: b");
    }

    #[test]
    #[should_panic(expected = "says [DONE]")]
    fn an_error_event_followed_by_done_is_noticed() {
        let _ = error_event(b"data: {\"error\":{\"message\":\"m\"}}\n\ndata: [DONE]\n\n");
    }
}
