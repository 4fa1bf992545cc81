//! How strong a model the request asks for, from 0 to 1, by what can be counted.

use sluicegate_plugin::{AnswerFormat, Request};

/// Grows with the length of the last user message and of the whole prompt, with numbers and
/// conditions in it, with tools and with a strict form of answer. A guess for routing, not a
/// promise: words that only look hard count as well.
pub(crate) fn of(request: &Request) -> f32 {
    let question = request.last_user_message();
    let text = request.last_user_text();
    let bytes: u32 = question
        .map(|message| message.texts().map(|(_, text)| text.size).sum())
        .unwrap_or_default();
    let numbers = text
        .split(|c: char| !c.is_numeric())
        .filter(|n| !n.is_empty())
        .take(16)
        .count();
    let sentences = text
        .matches(['.', '?', '!', '。', '？', ';'])
        .take(24)
        .count();
    let mut sum = -1.9;
    sum += 0.22 * log2(bytes / 40);
    sum += 0.10 * log2(request.prompt_tokens / 128);
    sum += 0.07 * saturating(numbers);
    sum += 0.06 * saturating(sentences);
    if !request.tools.is_empty() {
        sum += 0.4;
    }
    if request.parameters.format == AnswerFormat::JsonSchema {
        sum += 0.2;
    }
    1.0 / (1.0 + f32::exp(-sum))
}

/// Binary logarithm of `number + 1`.
fn log2(number: u32) -> f32 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a length to seven digits is exact enough"
    )]
    let number = number as f32;
    (number + 1.0).log2()
}

/// A small count as a number.
fn saturating(count: usize) -> f32 {
    f32::from(u8::try_from(count).unwrap_or(u8::MAX))
}
