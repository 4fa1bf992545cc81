//! What a Sluicegate plugin is written with.
//!
//! A plugin is a type that implements [`Classifier`], [`Compressor`] or [`CachePolicy`], and one
//! macro call that exports it: [`classifier!`], [`compressor!`] or [`cache_policy!`]. It is a
//! function of its config and of what it is handed: whatever it wants from outside comes through
//! [`Host`], so that the same code runs natively in `cargo test` with [`testing::TestHost`] and in
//! the proxy as a WebAssembly component. Every type and every bound is the contract's,
//! `wit/v0.1.0` of package `sluicegate:plugin`.
//!
//! The README goes from `cargo new` to a plugin that answers requests; `examples/` has one plugin
//! of each kind.
//!
//! ```
//! use sluicegate_plugin::{Classifier, ConfigIssue, Failure, Host, NoConfig, Opinion, Request};
//!
//! struct Tickets;
//!
//! impl Classifier for Tickets {
//!     type Config = NoConfig;
//!
//!     fn new(_: NoConfig) -> Result<Self, Vec<ConfigIssue>> {
//!         Ok(Self)
//!     }
//!
//!     fn classify(&self, request: &Request, _: &dyn Host) -> Result<Opinion, Failure> {
//!         Ok(match request.last_user_text().contains("ticket") {
//!             true => Opinion::label("ticket", 0.9),
//!             false => Opinion::abstain(),
//!         })
//!     }
//! }
//!
//! sluicegate_plugin::classifier!(Tickets, description: "Finds support tickets.", last_messages: 1);
//! # fn main() {}
//! ```

#[doc(hidden)]
pub mod bindings;
mod edits;
mod export;
mod host;
mod info;
mod plugin;
mod request;
pub mod testing;

pub use bindings::base::exports::sluicegate::plugin::lifecycle::{
    Capability, ConfigIssue, Metric, MetricKind, TextWish, ViewWish, Window,
};
pub use bindings::base::sluicegate::plugin::host_types::Refusal;
pub use bindings::base::sluicegate::plugin::log::Level;
pub use bindings::base::sluicegate::plugin::prompt::Piece;
pub use bindings::base::sluicegate::plugin::types::{
    AnswerFormat, Attribute, Endpoint, Failure, Header, Media, Message, Origin, Parameters, Part,
    Request, Role, Span, Text, ToolCall, ToolChoice, ToolResult,
};
pub use bindings::cache_policy::exports::sluicegate::plugin::cache::{
    Answer, Decision, Finish, Ignorable, Scope, Summary,
};
pub use bindings::classifier::exports::sluicegate::plugin::classify::{Modality, Opinion, Scored};
pub use bindings::compressor::exports::sluicegate::plugin::compress::{
    Budget, Change, Edit, Kind, PartPlace, Reason, Replacement,
};
pub use host::Host;
pub use info::{Info, counter, histogram};
pub use plugin::{CachePolicy, Classifier, Compressor, NoConfig, issue};

/// What the export macros expand to; no promise is made about it.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    pub use crate::export::{configure, with};
    pub use crate::host::ComponentHost;
    pub use std::cell::OnceCell;
}
