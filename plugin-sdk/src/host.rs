//! What a plugin may ask of the proxy.

use std::borrow::Cow;

use crate::bindings::base::sluicegate::plugin::{clock, log, metrics, prompt, tokens};
use crate::{Failure, Level, Piece, Refusal, Text};

/// The proxy, as a plugin sees it during one call. In the proxy these are the contract's imports, in
/// tests it is [`crate::testing::TestHost`].
pub trait Host {
    /// True when a message of this level is kept now. Ask before an expensive one is built.
    fn log_enabled(&self, level: Level) -> bool;

    /// Writes one message to the proxy's log, with the plugin's name and the request's id: at most
    /// 1,024 bytes, 16 a call. Prompts do not belong here.
    fn log(&self, level: Level, message: &str);

    /// Adds to the counter at this place in the declared metrics.
    fn count(&self, metric: u32, value: u32);

    /// Enters a value in the histogram at this place in the declared metrics.
    fn observe(&self, metric: u32, value: f64);

    /// Reads text that the view does not show, from byte `start`, at most `len` bytes, both moved to
    /// borders of characters.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what has no text, [`Refusal::TooLarge`] past the slot's
    /// `read_bytes`.
    fn read(&self, message: u32, part: u32, start: u32, len: u32) -> Result<Piece, Refusal>;

    /// The estimate of tokens that the host uses for budgets; about 1 ns a byte.
    fn estimate_tokens(&self, text: &str) -> u32;

    /// Milliseconds since an unnamed moment. Needs the grant `clock`.
    ///
    /// # Errors
    /// [`Refusal::NotGranted`] without the grant.
    fn monotonic_ms(&self) -> Result<u64, Refusal>;

    /// Seconds since 1970-01-01T00:00:00Z. Needs the grant `clock`.
    ///
    /// # Errors
    /// [`Refusal::NotGranted`] without the grant.
    fn unix_seconds(&self) -> Result<u64, Refusal>;
}

impl dyn Host + '_ {
    /// The whole of a text: as shown when the view holds all of it, else read from the host in
    /// pieces of 64 KiB.
    ///
    /// # Errors
    /// [`Failure::Exhausted`] when the slot's `read_bytes` are spent, [`Failure::Unavailable`] when
    /// the host gives no text.
    pub fn whole<'a>(
        &self,
        message: u32,
        part: u32,
        text: &'a Text,
    ) -> Result<Cow<'a, str>, Failure> {
        const PIECE_BYTES: u32 = 64 * 1024;
        if text.is_whole() {
            return Ok(Cow::Borrowed(&text.head));
        }
        let mut whole = text.head.clone();
        while let Ok(start) = u32::try_from(whole.len())
            && start < text.size
        {
            let piece = self
                .read(message, part, start, PIECE_BYTES)
                .map_err(|refusal| match refusal {
                    Refusal::TooLarge => Failure::Exhausted("read_bytes are spent".to_owned()),
                    Refusal::NotGranted | Refusal::Unavailable | Refusal::Invalid => {
                        Failure::Unavailable(format!("text {message}/{part}: {refusal}"))
                    }
                })?;
            if piece.start != start || piece.text.is_empty() {
                return Err(Failure::Unavailable(format!(
                    "text {message}/{part} ends at byte {start} of {}",
                    text.size
                )));
            }
            whole.push_str(&piece.text);
        }
        Ok(Cow::Owned(whole))
    }
}

/// The host behind a component's imports. Works in a component only.
#[derive(Debug, Clone, Copy)]
pub struct ComponentHost;

impl Host for ComponentHost {
    fn log_enabled(&self, level: Level) -> bool {
        log::enabled(level)
    }

    fn log(&self, level: Level, message: &str) {
        log::write(level, message);
    }

    fn count(&self, metric: u32, value: u32) {
        metrics::add(metric, value);
    }

    fn observe(&self, metric: u32, value: f64) {
        metrics::observe(metric, value);
    }

    fn read(&self, message: u32, part: u32, start: u32, len: u32) -> Result<Piece, Refusal> {
        prompt::read(message, part, start, len)
    }

    fn estimate_tokens(&self, text: &str) -> u32 {
        tokens::estimate(text)
    }

    fn monotonic_ms(&self) -> Result<u64, Refusal> {
        clock::monotonic_ms()
    }

    fn unix_seconds(&self) -> Result<u64, Refusal> {
        clock::unix_seconds()
    }
}
