//! What others see: SDKs, callers, operators, the command line.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod admin;
mod auth;
mod command_line;
mod observability;
mod openai_sdk;
