//! The harness of the end-to-end tests: the real binary with real files, a scripted mock backend,
//! and clients that control every byte.
//!
//! Start at [`Proxy::start`] for the binary, [`Backend`] for what stands behind it, [`Client`] for
//! what stands in front. Configs are written by [`Config`] alone, so a renamed key is changed in one
//! place. Tests wait for events; where only polling is left they use [`eventually()`].
//!
//! Invariants: every process, listener and task that a test starts ends with the value that owns it;
//! nothing here reaches into the binary's modules.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness fails its test by panicking, with the reason and the binary's log"
)]

mod ask;
mod backend;
pub mod bench;
mod client;
mod config;
mod eventually;
mod faulty;
mod guest;
mod metrics;
mod node;
mod output;
mod process;
mod proxy;
mod python;
#[cfg(test)]
mod self_test;
pub mod soak;
mod stream;
mod traffic;
mod wire;

pub use ask::{ANSWER, ask, ask_streaming, chat_with};
pub use backend::{Backend, Behaviour, Break, Certificate, Exchange, Received, Reply, Start};
pub use client::{Answer, Client, H2Client, H2Exchange, Request};
pub use config::{Config, Pool, Route, Slot};
pub use eventually::{eventually, eventually_within, within};
pub use faulty::{Faulty, Peer};
pub use guest::{Guest, Snippet, build_component, repository, snippets};
pub use metrics::Metrics;
pub use node::Node;
pub use proxy::{Finished, Plugin, Proxy, run, start_refused};
pub use python::Venv;
pub use stream::{ends_with_done, error_event, events, median, text_of};
pub use traffic::{Outcome, Traffic};
pub use wire::Head;
