//! What others see: SDKs, callers, operators, the command line.
#![expect(clippy::unwrap_used, reason = "tests")]

mod admin;
mod auth;
mod command_line;
mod observability;
mod openai_sdk;
mod wrong_configs;
