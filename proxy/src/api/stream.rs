//! Watches a stream of chat or completion chunks go by: has it content, is it over, is it whole.
//!
//! Nothing is changed and nothing but a bounded beginning of the text is kept. A stream is complete
//! with its `[DONE]`, or with a `finish_reason` for every choice and a clean end; never after an
//! error event, whatever follows it.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;

use super::answer::{Choice, Envelope, Finish, Usage};
use super::json;
use super::prompt::Endpoint;
use super::sse::Event;
use super::text::cut;

/// The progress of one stream.
#[derive(Debug)]
pub(crate) struct Progress {
    endpoint: Endpoint,
    choices: u32,
    finished: BTreeSet<u32>,
    finish: Option<Finish>,
    saw_done: bool,
    saw_error: bool,
    is_well_formed: bool,
    usage: Option<Usage>,
    /// Bytes of the answer's text so far, of all choices.
    pub(crate) text_bytes: usize,
    head: String,
    max_head_bytes: usize,
}

/// What one event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// It carries text, reasoning, a tool call, a refusal or sound. An event that cannot be read
    /// counts as content, so that it is passed on.
    pub(crate) content: bool,
    /// It is an error in place of an answer.
    pub(crate) error: bool,
    /// It is the `[DONE]`.
    pub(crate) done: bool,
}

impl Progress {
    /// A stream that has not begun. `choices` is what [`super::Request::expected_choices`] says.
    pub(crate) fn new(endpoint: Endpoint, choices: u32) -> Self {
        Self {
            endpoint,
            choices,
            finished: BTreeSet::new(),
            finish: None,
            saw_done: false,
            saw_error: false,
            is_well_formed: true,
            usage: None,
            text_bytes: 0,
            head: String::new(),
            max_head_bytes: 0,
        }
    }

    /// Keeps the first bytes of the text, for [`Self::head`]; otherwise none are kept.
    pub(crate) fn keep_head(mut self, bytes: usize) -> Self {
        self.max_head_bytes = bytes;
        self
    }

    /// Takes note of an event.
    pub(crate) fn see(&mut self, event: &Event) -> Seen {
        let Some(data) = event.data.as_deref() else {
            return Seen::default();
        };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.saw_done = true;
            return Seen {
                done: true,
                ..Seen::default()
            };
        }
        let mut rewritten = String::new();
        let Ok(chunk) = Envelope::read(data, &mut rewritten) else {
            self.is_well_formed = false;
            return Seen {
                content: true,
                ..Seen::default()
            };
        };
        if chunk.is_error() || event.event.as_deref() == Some(b"error") {
            self.saw_error = true;
            return Seen {
                error: true,
                ..Seen::default()
            };
        }
        if let Some(usage) = chunk.usage() {
            self.usage = Some(usage);
        }
        let mut seen = Seen::default();
        for choice in chunk.choices.iter().flatten() {
            seen.content |= choice.has_content();
            self.see_choice(choice);
        }
        seen
    }

    fn see_choice(&mut self, choice: &Choice<'_>) {
        if choice.refuses() {
            self.finish = Some(Finish::Refusal);
        }
        if let Some(finish) = choice.finish() {
            self.finished.insert(choice.index());
            self.finish = self.finish.max(Some(finish));
        }
        let Some(literal) = choice.text() else {
            return;
        };
        self.text_bytes += json::decoded_len(literal);
        if choice.index() == 0 && self.head.len() < self.max_head_bytes {
            self.head.push_str(&json::decode(literal));
            if self.head.len() > self.max_head_bytes {
                self.head
                    .truncate(self.head.floor_char_boundary(self.max_head_bytes));
                // A character may not have fitted: nothing shorter may take its place.
                self.max_head_bytes = self.head.len();
            }
        }
    }

    /// Whether the answer is whole, given that the stream has ended cleanly.
    pub(crate) fn is_complete_at_clean_end(&self) -> bool {
        let all_finished = match self.endpoint {
            Endpoint::Chat | Endpoint::Completions => {
                u32::try_from(self.finished.len()).is_ok_and(|n| n >= self.choices.max(1))
            }
            Endpoint::Embeddings => false,
        };
        !self.saw_error && (self.saw_done || all_finished)
    }

    /// Whether the `[DONE]` has come.
    pub(crate) fn saw_done(&self) -> bool {
        self.saw_done
    }

    /// Whether every event could be read; of others no plain answer can be made.
    pub(crate) fn is_well_formed(&self) -> bool {
        self.is_well_formed
    }

    /// The last usage that the upstream reported.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Why the model stopped; [`Finish::Other`] when it did not say.
    pub(crate) fn finish(&self) -> Finish {
        self.finish.unwrap_or(Finish::Other)
    }

    /// The first choice's text: its first bytes, at most this many and at most what
    /// [`Self::keep_head`] was told, cut between characters.
    pub(crate) fn head(&self, bytes: usize) -> &str {
        cut(&self.head, bytes)
    }
}

/// Whether an event's data is all of it: the `[DONE]`, or JSON that ends.
pub(crate) fn is_whole(data: &[u8]) -> bool {
    let data = data.trim_ascii();
    data == b"[DONE]" || serde_json::from_slice::<IgnoredAny>(data).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sse::Framer;

    /// A stream's progress, and what its events were.
    fn watch(choices: u32, stream: &str) -> (Progress, Vec<Seen>) {
        let mut progress = Progress::new(Endpoint::Chat, choices).keep_head(6);
        let mut framer = Framer::new(1 << 20);
        framer.push(bytes::Bytes::copy_from_slice(stream.as_bytes()));
        let mut seen = Vec::new();
        while let Some(event) = framer.next().unwrap() {
            seen.push(progress.see(&event));
        }
        (progress, seen)
    }

    fn delta(delta: &str) -> String {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n")
    }

    fn finish(index: u32, reason: &str) -> String {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":\"{reason}\"}}]}}\n\n"
        )
    }

    #[test]
    fn role_and_empty_chunks_are_no_content() {
        for empty in [
            r#"{"role":"assistant"}"#,
            r#"{"role":"assistant","content":""}"#,
            r#"{"content":null,"tool_calls":[],"refusal":null}"#,
            "{}",
        ] {
            assert_eq!(watch(1, &delta(empty)).1, [Seen::default()], "{empty}");
        }
        assert_eq!(watch(1, ": ping\n\n").1, [Seen::default()]);
    }

    #[test]
    fn every_kind_of_content_is_seen() {
        for content in [
            r#"{"content":"x"}"#,
            r#"{"content":[{"type":"text","text":"x"}]}"#,
            r#"{"reasoning_content":"x"}"#,
            r#"{"reasoning":"x"}"#,
            r#"{"refusal":"x"}"#,
            r#"{"tool_calls":[{"index":0,"id":"a"}]}"#,
            r#"{"function_call":{"name":"f"}}"#,
            r#"{"audio":{"data":"AA=="}}"#,
            r#"{"content":"","content":"x"}"#,
        ] {
            assert!(watch(1, &delta(content)).1[0].content, "{content}");
        }
        assert!(watch(1, "data: {\"choices\":[{\"text\":\"x\"}]}\n\n").1[0].content);
        let (progress, seen) = watch(1, "data: not json\n\n");
        assert!(seen[0].content && !progress.is_well_formed());
    }

    #[test]
    fn done_or_a_reason_for_every_choice_is_complete() {
        assert!(
            !watch(1, &delta(r#"{"content":"x"}"#))
                .0
                .is_complete_at_clean_end()
        );
        assert!(watch(1, &finish(0, "stop")).0.is_complete_at_clean_end());
        assert!(
            !watch(2, &finish(0, "stop").repeat(2))
                .0
                .is_complete_at_clean_end()
        );
        assert!(
            watch(2, &(finish(0, "stop") + &finish(1, "stop")))
                .0
                .is_complete_at_clean_end()
        );
        let (progress, seen) = watch(2, "data: [DONE]\n\n");
        assert!(seen[0].done && progress.saw_done() && progress.is_complete_at_clean_end());
    }

    #[test]
    fn an_error_is_never_complete() {
        for error in [
            "data: {\"error\":{\"message\":\"x\"}}\n\n",
            "data: {\"object\":\"error\",\"message\":\"x\"}\n\n",
            "event: error\ndata: {\"message\":\"x\"}\n\n",
        ] {
            let (progress, seen) = watch(1, &format!("{error}data: [DONE]\n\n"));
            assert!(seen[0].error && !seen[0].content, "{error}");
            assert!(!progress.is_complete_at_clean_end(), "{error}");
        }
        assert!(!watch(1, "data: {\"error\":null,\"choices\":[]}\n\n").1[0].error);
    }

    #[test]
    fn the_worst_finish_of_all_choices_counts() {
        let finished = |reasons: &[&str]| {
            let stream: String = (0..)
                .zip(reasons)
                .map(|(n, reason)| finish(n, reason))
                .collect();
            watch(1, &stream).0.finish()
        };
        assert_eq!(finished(&[]), Finish::Other);
        assert_eq!(finished(&["stop"]), Finish::Stop);
        assert_eq!(finished(&["stop", "tool_calls"]), Finish::ToolCalls);
        assert_eq!(finished(&["length", "stop"]), Finish::Length);
        assert_eq!(finished(&["content_filter", "stop"]), Finish::Refusal);
        let refusal = delta(r#"{"refusal":"no"}"#) + &finish(0, "stop");
        assert_eq!(watch(1, &refusal).0.finish(), Finish::Refusal);
    }

    #[test]
    fn usage_and_text_are_noted() {
        let stream = "data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\u00e9 \"}}],\"usage\":null}\n\n\
            data: {\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"😀b\"}}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
        let (progress, _) = watch(1, stream);
        assert_eq!(
            progress.usage(),
            Some(Usage {
                prompt: 3,
                completion: 4
            })
        );
        assert_eq!(progress.text_bytes, 9);
        assert_eq!(progress.head(100), "aé ");
        assert_eq!(progress.head(2), "a");
    }
}
