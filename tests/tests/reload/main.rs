//! Plugins and config change while traffic flows.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bench;
mod failing_plugin;
mod files;
mod first_plugin;
mod folders;
mod freed;
mod soak;
mod swap;
mod under_load;
