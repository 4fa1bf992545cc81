//! Sluicegate: an edge proxy between applications and pools of model backends, extensible by
//! WebAssembly components.
//!
//! Start at `cli`: it lists what the binary does. The path of a request is `pipeline`.
//!
//! Invariant: whatever a client, a backend or a plugin sends, nothing here panics. The lints below
//! hold the code to it; an exception says why it cannot happen.
#![deny(
    clippy::expect_used,
    clippy::get_unwrap,
    clippy::indexing_slicing,
    clippy::unreachable
)]

mod admin;
mod admission;
mod api;
#[doc(hidden)]
pub mod bench;
mod cache;
pub mod cli;
mod config;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod pipeline;
mod plugin;
mod server;
mod telemetry;
mod upstream;
