//! The config as the program uses it: checked, defaults filled in, names resolved.
//!
//! Built once by [`super::load()`] from the file as typed; immutable from then on. Nothing outside
//! `config/` sees the other form. A file for each section, as in [`super::schema`].

mod auth;
mod cache;
mod names;
mod pipeline;
mod pools;
mod routes;
mod server;
mod tls;

use std::sync::Arc;

pub(crate) use auth::*;
pub(crate) use cache::*;
pub(crate) use names::*;
pub(crate) use pipeline::*;
pub(crate) use pools::*;
pub(crate) use routes::*;
pub(crate) use server::*;
pub(crate) use tls::*;

/// A whole config.
#[derive(Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) auth: Auth,
    pub(crate) models: Vec<Model>,
    /// In the file's order.
    pub(crate) pools: Vec<Arc<Pool>>,
    /// In the file's order: the first that matches wins. Never empty; the last one may be the
    /// implied catch-all to the first pool.
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) pipeline: Pipeline,
    pub(crate) cache: Cache,
    pub(crate) admin: Admin,
    pub(crate) telemetry: Telemetry,
}
