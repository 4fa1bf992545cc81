//! Plugins and config change while traffic flows.
#![expect(clippy::unwrap_used, reason = "tests")]

mod failing_plugin;
mod first_plugin;
mod storm;
mod swap;
mod under_load;
