//! The life of a config file: typed by a user, loaded, checked, resolved, watched.
//!
//! [`load()`] is the way in: it gives a [`Config`] that may be used as it is, or [`Problems`] that
//! name everything that is wrong. The file as typed (`schema`) and the config as used
//! ([`resolved`]) are two types, and only the second leaves this room. [`check_reload`] says
//! whether a running proxy can follow from one config to the next, and [`watch::Watcher`] when it
//! is time to load again. Values that came from a substitution, and secrets that are written in
//! the file, are never shown.

mod document;
mod files;
mod load;
mod locator;
pub(crate) mod machine;
mod overrides;
mod problem;
mod redact;
mod reload;
mod repair;
mod resolved;
mod schema;
mod secrets;
mod sheet;
mod structure;
mod substitute;
mod syntax;
mod validate;
pub(crate) mod watch;
pub(crate) mod wording;

#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use load::load_with;
pub(crate) use load::{Loaded, load, load_str};
pub(crate) use locator::Locator;
pub(crate) use overrides::Overrides;
pub(crate) use problem::{Problem, Problems, Severity};
pub(crate) use reload::check_reload;
pub(crate) use resolved::*;
pub(crate) use secrets::Secrets;
