//! What a client sees when an upstream misbehaves: each fault scripted byte by byte.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod bench;
mod bodies;
mod connections;
mod flapping;
mod framing;
mod http2;
mod relayed;
mod streams;
mod tls;
