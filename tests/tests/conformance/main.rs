//! What clients may send, byte for byte, and what they get for what they may not.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests, some of which measure"
)]

mod bodies;
mod crowd;
mod frames;
mod framing;
mod json;
mod paths;
mod privacy;
mod raw;
mod slow;
