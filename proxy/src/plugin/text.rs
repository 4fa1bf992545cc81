//! Text of strangers, made fit for a bounded place.

use std::borrow::Cow;

use crate::api::text::cut;

/// The text with every control character written as its escape, so that it cannot forge a line of
/// the log or move a terminal's cursor.
pub(super) fn escape_control(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Longest text of the engine that is shown.
const ENGINE_BYTES: usize = 2048;

/// What the engine says, with its causes. It may quote names that the component's author chose.
pub(super) fn of_engine(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    escape_control(cut(&text, ENGINE_BYTES)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(
            escape_control("a\n2026 ERROR\u{1b}[2J é"),
            "a\\n2026 ERROR\\u{1b}[2J é"
        );
    }
}
