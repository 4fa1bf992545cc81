//! Sluicegate: an edge proxy between applications and pools of model backends, extensible by
//! WebAssembly components.
//!
//! Start at `cli`: it lists what the binary does. The path of a request is `pipeline`.

mod admin;
mod api;
#[doc(hidden)]
pub mod bench;
mod cache;
pub mod cli;
mod config;
mod pipeline;
mod plugin;
mod server;
mod telemetry;
mod upstream;
