//! `prompt`: text of the running call's request that the view does not show.

use super::bindings::sluicegate::plugin::host_types::Refusal;
use super::bindings::sluicegate::plugin::prompt::{Host, Piece};
use crate::api::prompt::{Part, Prompt};
use crate::config::TextWindow;
use crate::plugin::state::State;

impl Host for State {
    fn read(
        &mut self,
        message: u32,
        part: u32,
        start: u32,
        len: u32,
    ) -> wasmtime::Result<Result<Piece, Refusal>> {
        Ok(self.read_piece(message, part, start, len))
    }
}

impl State {
    fn read_piece(
        &mut self,
        message: u32,
        part: u32,
        start: u32,
        len: u32,
    ) -> Result<Piece, Refusal> {
        // "With `text = "nothing"` it gives nothing": the operator's word, not the plugin's wish.
        if self.shared.slot.text == Some(TextWindow::Nothing) {
            return Err(Refusal::TooLarge);
        }
        let prompt = self.call.prompt.as_deref().ok_or(Refusal::Invalid)?;
        let text = text_of(prompt, message, part).ok_or(Refusal::Invalid)?;
        let piece = piece(text, start, len).ok_or(Refusal::Invalid)?;
        let bytes = piece.text.len();
        let left = self
            .call
            .read_left
            .checked_sub(bytes as u64)
            .ok_or(Refusal::TooLarge)?;
        self.call.read_left = left;
        // What is read again was paid for.
        let paid = bytes.min(self.call.read_paid);
        self.call.read_paid -= paid;
        self.meter.extend(paid);
        Ok(piece)
    }
}

fn text_of(prompt: &Prompt, message: u32, part: u32) -> Option<&str> {
    let message = prompt.messages.get(usize::try_from(message).ok()?)?;
    match message.parts.get(usize::try_from(part).ok()?)? {
        Part::Text(text) => Some(&text.text),
        Part::ToolResult(result) => Some(&result.content.text),
        Part::Image(_)
        | Part::Audio(_)
        | Part::Video(_)
        | Part::File(_)
        | Part::ToolCall(_)
        | Part::Other(_) => None,
    }
}

/// At most `len` bytes from byte `start`, both moved inwards to the borders of characters.
fn piece(text: &str, start: u32, len: u32) -> Option<Piece> {
    let wanted = usize::try_from(start).ok()?;
    if wanted > text.len() {
        return None;
    }
    let begin = text.ceil_char_boundary(wanted);
    let end = wanted
        .saturating_add(usize::try_from(len).ok()?)
        .min(text.len());
    let end = text.floor_char_boundary(end).max(begin);
    Some(Piece {
        start: u32::try_from(begin).ok()?,
        text: text.get(begin..end)?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_on_borders_of_characters() {
        let text = "aéb";
        let read = |start, len| {
            let piece = piece(text, start, len).unwrap();
            (piece.start, piece.text)
        };
        assert_eq!(read(0, 2), (0, "a".to_owned()));
        assert_eq!(read(0, 3), (0, "aé".to_owned()));
        assert_eq!(read(2, 9), (3, "b".to_owned()));
        assert_eq!(read(2, 1), (3, String::new()));
        assert_eq!(read(4, 4), (4, String::new()));
        assert!(piece(text, 5, 1).is_none());
    }

    #[test]
    fn pieces_join_to_the_whole_text() {
        let text = "Füße über Ärger 🦀🦀 end";
        let mut joined = String::new();
        let mut at = 0;
        loop {
            let next = piece(text, at, 5).unwrap();
            if next.text.is_empty() {
                break;
            }
            at = next.start + u32::try_from(next.text.len()).unwrap();
            joined.push_str(&next.text);
        }
        assert_eq!(joined, text);
    }
}
