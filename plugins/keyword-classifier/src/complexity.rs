//! How strong a model the request asks for, from 0 to 1, by what can be counted.

use sluicegate_plugin::{AnswerFormat, Request};

/// Grows with the length of the last user message and of the whole prompt, with numbers and
/// conditions in it, with tools and with a strict form of answer. A guess for routing, not a
/// promise: words that only look hard count as well.
pub(crate) fn of(request: &Request) -> f32 {
    let question = request.last_user_message();
    let texts = question.into_iter().flat_map(|message| message.texts());
    let (mut bytes, mut numbers, mut sentences) = (0_u32, 0_u8, 0_u8);
    for (_, text) in texts {
        bytes = bytes.saturating_add(text.size);
        let mut before = b' ';
        for byte in text.head.bytes() {
            if byte.is_ascii_digit() && !before.is_ascii_digit() {
                numbers = numbers.saturating_add(1);
            } else if byte.is_ascii_whitespace() && matches!(before, b'.' | b'?' | b'!' | b';') {
                sentences = sentences.saturating_add(1);
            }
            before = byte;
        }
        sentences = sentences.saturating_add(u8::from(text.head.ends_with(['.', '?', '!', '。'])));
    }
    let mut sum = -1.9;
    sum += 0.22 * log2(bytes / 40);
    sum += 0.10 * log2(request.prompt_tokens / 128);
    sum += 0.07 * f32::from(numbers.min(16));
    sum += 0.06 * f32::from(sentences.min(24));
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
