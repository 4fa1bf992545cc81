//! What a client's traffic experiences: bytes, streams, connections, failures, cache and compression.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod cache;
mod compress;
mod connections;
mod disconnect;
mod limits;
mod pass_through;
mod retries;
mod routing;
mod streaming;
mod transparency;
