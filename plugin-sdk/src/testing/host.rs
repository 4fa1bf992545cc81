//! A host without a proxy.

use std::cell::RefCell;

use crate::{Host, Level, Part, Piece, Refusal, Request, Text};

/// Stands in for the proxy in tests: keeps what is logged and measured, serves the request's texts,
/// and has a clock that a test sets. Without a set time the clock is not granted.
#[derive(Debug, Default)]
pub struct TestHost {
    texts: Vec<Vec<Option<String>>>,
    unix_seconds: Option<u64>,
    log: RefCell<Vec<(Level, String)>>,
    metrics: RefCell<Vec<(u32, f64)>>,
}

impl TestHost {
    /// A host that serves the texts of `request`, which must show them whole.
    #[must_use]
    pub fn new(request: &Request) -> Self {
        let text = |part: &Part| match part {
            Part::Text(Text { head, .. }) => Some(head.clone()),
            Part::ToolResult(result) => Some(result.content.head.clone()),
            Part::Image(_)
            | Part::Audio(_)
            | Part::Video(_)
            | Part::File(_)
            | Part::ToolCall(_)
            | Part::Other(_) => None,
        };
        let mut texts = Vec::new();
        for message in &request.messages {
            let at = index(message.index);
            if texts.len() <= at {
                texts.resize_with(at + 1, Vec::new);
            }
            if let Some(slot) = texts.get_mut(at) {
                *slot = message.parts.iter().map(text).collect();
            }
        }
        Self {
            texts,
            ..Self::default()
        }
    }

    /// Grants the clock and sets it; the monotonic one stands at the same moment.
    #[must_use]
    pub fn at_unix_seconds(mut self, seconds: u64) -> Self {
        self.unix_seconds = Some(seconds);
        self
    }

    /// What was logged so far.
    #[must_use]
    pub fn logged(&self) -> Vec<(Level, String)> {
        self.log.borrow().clone()
    }

    /// What was measured so far: each metric's place and the value added or observed.
    #[must_use]
    pub fn measured(&self) -> Vec<(u32, f64)> {
        self.metrics.borrow().clone()
    }
}

impl Host for TestHost {
    fn log_enabled(&self, _: Level) -> bool {
        true
    }

    fn log(&self, level: Level, message: &str) {
        self.log.borrow_mut().push((level, message.to_owned()));
    }

    fn count(&self, metric: u32, value: u32) {
        self.metrics.borrow_mut().push((metric, value.into()));
    }

    fn observe(&self, metric: u32, value: f64) {
        self.metrics.borrow_mut().push((metric, value));
    }

    fn read(&self, message: u32, part: u32, start: u32, len: u32) -> Result<Piece, Refusal> {
        let parts = self.texts.get(index(message)).ok_or(Refusal::Invalid)?;
        let text = parts
            .get(index(part))
            .and_then(Option::as_ref)
            .ok_or(Refusal::Invalid)?;
        let from = text.ceil_char_boundary(index(start).min(text.len()));
        let end = text.floor_char_boundary(index(start).saturating_add(index(len)));
        Ok(Piece {
            start: u32::try_from(from).unwrap_or(u32::MAX),
            text: text.get(from..end).unwrap_or_default().to_owned(),
        })
    }

    fn estimate_tokens(&self, text: &str) -> u32 {
        estimate_tokens(text)
    }

    fn monotonic_ms(&self) -> Result<u64, Refusal> {
        self.unix_seconds()
            .map(|seconds| seconds.saturating_mul(1_000))
    }

    fn unix_seconds(&self) -> Result<u64, Refusal> {
        self.unix_seconds.ok_or(Refusal::NotGranted)
    }
}

/// A rough stand-in for the proxy's calibrated estimate: four ASCII bytes or one other character
/// make a token.
pub(super) fn estimate_tokens(text: &str) -> u32 {
    let (ascii, other) =
        text.chars()
            .fold((0_u32, 0_u32), |(ascii, other), c| match c.is_ascii() {
                true => (ascii.saturating_add(1), other),
                false => (ascii, other.saturating_add(1)),
            });
    ascii.div_ceil(4).saturating_add(other)
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
