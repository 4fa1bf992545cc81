//! Looks into a plain answer: does it parse, and what does it say of itself.

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::answer::{Envelope, Finish, Usage};
use super::json;
use super::prompt::Endpoint;
use super::text::cut;

/// What a plain answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlainFacts {
    /// It is what the endpoint answers with (`choices` or `data`, with something in it), and not an
    /// error with a good status.
    pub(crate) is_answer: bool,
    /// The model that says it answered.
    pub(crate) model: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// The worst of all choices; [`Finish::Other`] when it does not say.
    pub(crate) finish: Finish,
    /// Bytes of the answer's text, of all choices.
    pub(crate) text_bytes: usize,
    /// The first choice's text.
    text: String,
}

/// Why a plain answer tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not one JSON value: it was cut off, or it never was JSON.
    NotJson,
    /// JSON of another shape.
    Unknown,
}

impl PlainFacts {
    /// The first choice's text: its first bytes, at most this many, cut between characters.
    pub(crate) fn head(&self, bytes: usize) -> &str {
        cut(&self.text, bytes)
    }
}

/// Reads a plain answer.
///
/// # Errors
/// [`Unreadable`]: it was cut off, or is no answer of this API.
pub(crate) fn inspect(endpoint: Endpoint, body: &[u8]) -> Result<PlainFacts, Unreadable> {
    let mut rewritten = String::new();
    let answer =
        Envelope::read(body, &mut rewritten).map_err(|_| {
            match serde_json::from_slice::<IgnoredAny>(body) {
                Ok(_) => Unreadable::Unknown,
                Err(_) => Unreadable::NotJson,
            }
        })?;
    let choices = answer.choices.as_deref().unwrap_or_default();
    let has_answer = match endpoint {
        Endpoint::Chat | Endpoint::Completions => !choices.is_empty(),
        Endpoint::Embeddings => answer.data.is_some_and(|data| data.get().starts_with('[')),
    };
    let finish = choices.iter().map(|choice| {
        if choice.refuses() {
            Finish::Refusal
        } else {
            choice.finish().unwrap_or(Finish::Other)
        }
    });
    let texts = || choices.iter().filter_map(|choice| choice.text());
    Ok(PlainFacts {
        is_answer: has_answer && !answer.is_error(),
        model: answer.model_name(),
        usage: answer.usage(),
        finish: finish.max().unwrap_or(Finish::Other),
        text_bytes: texts().map(json::decoded_len).sum(),
        text: texts()
            .next()
            .map(|text| json::decode(text).into_owned())
            .unwrap_or_default(),
    })
}

/// The end of an answer that is passed on without being held: most servers tell the usage there.
#[derive(Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    /// What is kept; the usage with its details takes some hundred bytes.
    const BYTES: usize = 2048;

    /// Takes the next bytes of the answer.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let last = bytes.len().saturating_sub(Self::BYTES);
        self.0
            .extend_from_slice(bytes.get(last..).unwrap_or_default());
        let over = self.0.len().saturating_sub(Self::BYTES);
        self.0.drain(..over);
    }

    /// The usage, when the answer tells it near its end.
    pub(crate) fn usage(&self) -> Option<Usage> {
        const NAME: &[u8] = b"\"usage\"";
        let name = memchr::memmem::rfind(&self.0, NAME)?;
        let rest = self.0.get(name + NAME.len()..)?.trim_ascii_start();
        let value = rest.strip_prefix(b":")?;
        let mut values = serde_json::Deserializer::from_slice(value).into_iter::<&RawValue>();
        Usage::of(values.next()?.ok()?.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_long_answer_tells_its_usage() {
        let end =
            r#""usage": {"prompt_tokens":5,"completion_tokens":6,"x":{"y":[1]}},"more":null}"#;
        let body = format!(r#"{{"data":"{}",{end}"#, "x".repeat(10_000));
        for size in [1, 7, 2048, 20_000] {
            let mut tail = Tail::default();
            body.as_bytes()
                .chunks(size)
                .for_each(|piece| tail.push(piece));
            let usage = tail.usage().unwrap();
            assert_eq!((usage.prompt, usage.completion), (5, 6), "{size}");
        }
        for body in [
            r#"{"text":"\"usage\":{\"prompt_tokens\":5}"}"#,
            r#"{"usage":{"prompt_tok"#,
            r#"{"usage"}"#,
            "",
        ] {
            let mut tail = Tail::default();
            tail.push(body.as_bytes());
            assert_eq!(tail.usage(), None, "{body}");
        }
    }

    #[test]
    fn a_chat_answer_says_model_usage_finish_and_text() {
        let body = r#"{"id":"x","model":"m","choices":[
            {"index":0,"message":{"role":"assistant","content":"h\u00e9llo"},"finish_reason":"stop"},
            {"index":1,"message":{"role":"assistant","content":null,"tool_calls":[{}]},"finish_reason":"tool_calls"}],
            "usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11}}"#;
        let facts = inspect(Endpoint::Chat, body.as_bytes()).unwrap();
        assert!(facts.is_answer);
        assert_eq!(facts.model.as_deref(), Some("m"));
        assert_eq!(
            facts.usage,
            Some(Usage {
                prompt: 5,
                completion: 6
            })
        );
        assert_eq!(facts.finish, Finish::ToolCalls);
        assert_eq!(facts.text_bytes, 6);
        assert_eq!((facts.head(2), facts.head(3)), ("h", "hé"));
    }

    #[test]
    fn completions_and_embeddings_are_answers_too() {
        let body = br#"{"choices":[{"text":"abc","index":0,"finish_reason":"length"}]}"#;
        let facts = inspect(Endpoint::Completions, body).unwrap();
        assert_eq!(
            (facts.is_answer, facts.finish, facts.head(9)),
            (true, Finish::Length, "abc")
        );
        let body = br#"{"data":[{"embedding":[0.1]}],"model":"e","usage":{"prompt_tokens":2}}"#;
        let facts = inspect(Endpoint::Embeddings, body).unwrap();
        assert_eq!((facts.is_answer, facts.usage.unwrap().prompt), (true, 2));
    }

    #[test]
    fn an_error_with_a_good_status_is_no_answer() {
        for body in [
            r#"{"error":{"message":"x"}}"#,
            r#"{"object":"error","choices":[{}]}"#,
            "{}",
        ] {
            assert!(
                !inspect(Endpoint::Chat, body.as_bytes()).unwrap().is_answer,
                "{body}"
            );
        }
    }

    #[test]
    fn a_cut_off_answer_is_an_error() {
        let body = br#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#;
        let why = |body: &[u8]| inspect(Endpoint::Chat, body).err();
        for end in 0..body.len() {
            assert_eq!(why(&body[..end]), Some(Unreadable::NotJson), "{end}");
        }
        assert_eq!(why(b"{} {}"), Some(Unreadable::NotJson));
        for other in [r#"[1]"#, "null", r#"{"choices":"x"}"#] {
            assert_eq!(why(other.as_bytes()), Some(Unreadable::Unknown), "{other}");
        }
    }

    #[test]
    fn duplicate_keys_hold_the_last() {
        let body = br#"{"model":"a","model":"b","choices":[{"text":"x","text":"yz"}]}"#;
        let facts = inspect(Endpoint::Completions, body).unwrap();
        assert_eq!((facts.model.as_deref(), facts.text_bytes), (Some("b"), 2));
    }
}
