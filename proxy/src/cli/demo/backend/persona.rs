//! What the made-up models say.

use serde_json::Value;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::demo) enum Persona {
    General,
    Code,
    Vision,
    Research,
    OnCall,
    Embeddings,
    Faults,
}

/// Estimated tokens of a picture, as vision models count small ones.
const PICTURE_TOKENS: usize = 85;

/// What a request says, as far as an answer needs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Question {
    /// All text of the last user message.
    pub(super) text: String,
    /// Pictures, sounds and files of all messages.
    pub(super) media: usize,
    /// A quarter of all text's bytes, and a fixed price for media.
    pub(super) prompt_tokens: usize,
}

impl Question {
    /// Reads a chat's messages.
    pub(super) fn of_messages(messages: &[Value]) -> Self {
        let mut question = Self::default();
        let mut bytes = 0;
        for message in messages {
            let mut text = String::new();
            match &message["content"] {
                Value::String(content) => text.push_str(content),
                Value::Array(parts) => {
                    for part in parts {
                        match part["text"].as_str() {
                            Some(part) => text.push_str(part),
                            None => question.media += 1,
                        }
                    }
                }
                _ => {}
            }
            bytes += text.len();
            if message["role"] == "user" {
                question.text = text;
            }
        }
        question.prompt_tokens = bytes.div_ceil(4) + PICTURE_TOKENS * question.media;
        question
    }

    /// Reads a prompt without messages.
    pub(super) fn of_prompt(prompt: &str) -> Self {
        Self {
            text: prompt.to_owned(),
            media: 0,
            prompt_tokens: prompt.len().div_ceil(4),
        }
    }
}

impl Persona {
    /// The answer to `question`: the same for the same question.
    pub(super) fn answer(self, question: &Question) -> String {
        let asked = excerpt(&question.text);
        let tokens = question.prompt_tokens;
        match self {
            Self::Code => format!(
                "About \u{201c}{asked}\u{201d}:\n\n```rust\nfn reverse_words(text: &str) -> String {{\n    \
                 text.split_whitespace().rev().collect::<Vec<_>>().join(\" \")\n}}\n```\n\nIt splits \
                 at any white space, so runs of spaces become one."
            ),
            Self::Vision => format!(
                "I was given {} picture(s) and the question \u{201c}{asked}\u{201d}. A real vision \
                 model would now describe what it sees.",
                question.media
            ),
            Self::Research => format!(
                "From the {tokens} tokens that reached me, on \u{201c}{asked}\u{201d}: the passages that \
                 are left speak of it directly."
            ),
            Self::OnCall => format!(
                "On-call runbook for \u{201c}{asked}\u{201d}: compare error rate and latency before and \
                 after the change, roll back first, look for the cause afterwards."
            ),
            Self::General | Self::Embeddings | Self::Faults => format!(
                "A general answer to \u{201c}{asked}\u{201d}, made up from a prompt of {tokens} tokens."
            ),
        }
    }
}

/// Splits a text into what stands for tokens: words with the white space in front of them.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(rest.len());
        let tail = rest.get(word..).unwrap_or_default();
        let end = word + tail.find(char::is_whitespace).unwrap_or(tail.len());
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after;
    }
    tokens
}

/// The first line, at most 60 characters of it.
fn excerpt(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut out: String = line.chars().take(60).collect();
    if out.len() < line.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_join_to_the_text() {
        for text in ["", " ", "one", "one two", "  a\n\nb  ", "é ü"] {
            assert_eq!(tokens(text).concat(), text);
        }
        assert_eq!(tokens("one two  three"), ["one", " two", "  three"]);
    }

    #[test]
    fn the_last_user_message_is_the_question() {
        let messages = [
            json!({"role": "system", "content": "12345678"}),
            json!({"role": "user", "content": "first"}),
            json!({"role": "user", "content": [
                {"type": "text", "text": "what?"},
                {"type": "image_url", "image_url": {"url": "data:,"}},
            ]}),
            json!({"role": "assistant", "content": null}),
        ];
        let question = Question::of_messages(&messages);
        assert_eq!(question.text, "what?");
        assert_eq!(question.media, 1);
        assert_eq!(
            question.prompt_tokens,
            18_usize.div_ceil(4) + PICTURE_TOKENS
        );
    }
}
