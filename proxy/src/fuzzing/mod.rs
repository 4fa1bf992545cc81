//! The bodies of the fuzz targets in `tests/fuzz/`. Each takes any bytes, and panics when something
//! does not hold that must hold whatever strangers write.
//!
//! The ordinary suite calls the same functions ([`tests`]): with every seed of `tests/fuzz/seeds/`,
//! and with mutations of them. What they compare the proxy with is written the slow way and shares
//! no code with it. Not part of the library's face, and in no binary.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target says by a panic what does not hold"
)]

mod canonical_request;
mod config;
mod edits;
mod event_stream;
mod http;
mod json;
mod plugin_output;
mod talk;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::LazyLock;

use crate::config::{Overrides, Slot, load_str};

pub use canonical_request::canonical_request;
pub use config::config;
pub use edits::edits;
pub use event_stream::event_stream;
pub use http::{http_body, http_head};
pub use plugin_output::plugin_output;

#[cfg(test)]
pub(crate) use event_stream::by_the_book;

/// Takes an input.
pub type Target = fn(&[u8]);

/// All targets by their names.
pub const TARGETS: [(&str, Target); 7] = [
    ("canonical_request", canonical_request),
    ("config", config),
    ("edits", edits),
    ("event_stream", event_stream),
    ("http_body", http_body),
    ("http_head", http_head),
    ("plugin_output", plugin_output),
];

/// The two texts of an input, with the line `---` between them. Bytes that are not UTF-8 are
/// replaced.
fn both(data: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(data);
    let (one, other) = text.split_once("\n---\n").unwrap_or((&text, ""));
    (one.to_owned(), other.to_owned())
}

/// A slot with the settings of the default config.
fn slot() -> Slot {
    static SLOT: LazyLock<Slot> = LazyLock::new(|| {
        let text = "[auth]\nmode = \"open\"\n[[pools]]\nname = \"p\"\n[[pools.backends]]\nurl = \"http://127.0.0.1:9\"\n";
        let loaded = load_str(text, Path::new("fuzz.toml"), &Overrides::default());
        let config = loaded.expect("the least config is right").config;
        let slot = config
            .pipeline
            .compress
            .first()
            .expect("a compressor by default");
        Slot::clone(slot)
    });
    SLOT.clone()
}
