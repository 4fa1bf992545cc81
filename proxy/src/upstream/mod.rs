//! From a pool's name to an open exchange with one of its backends.
//!
//! [`Registry`] keeps what outlives a snapshot (health, in-flight counts, addresses), keyed by
//! [`crate::config::BackendIdentity`], and lends it to the [`Pool`]s of each snapshot.
//! [`Pool::pick`] chooses a backend and counts the attempt; [`Exchange::open`] sends the whole
//! request and awaits the head of the answer; [`Exchange::chunk`] gives its body.
//! [`Exchange::start`] does the same with a request body that is still arriving.
//!
//! Invariants:
//! - whatever is counted is given back on drop, so dropping any future or value here cancels it and
//!   closes what it held;
//! - connections belong to the worker thread that opened them ([`connect`]);
//! - a connection is reused only after an answer whose framing was whole, and is back in its
//!   thread's pool before the last bytes of that answer are handed on;
//! - an answer of any status, 4xx and 5xx too, is an answer: only broken connections, silence and
//!   broken framing count against a backend.
//!
//! Start at [`exchange`].

mod address;
mod attempt;
mod backend;
mod balance;
mod connect;
mod errors;
mod exchange;
mod h1;
mod h2;
pub(crate) mod headers;
mod health;
mod registry;
mod request;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod upload;

pub(crate) use balance::{Picked, Pool};
pub(crate) use errors::{AttemptError, Retry, UpstreamError};
pub(crate) use exchange::Exchange;
pub(crate) use registry::{Pools, Registry};
pub(crate) use request::Outgoing;
pub(crate) use upload::{Upload, Wrote};
