//! Wire formats: pure functions on bytes, without I/O and without a clock.
//!
//! A request is parsed once ([`request::parse`]) into a [`prompt::Prompt`] and the places of its
//! values; changes are spliced into the client's own bytes. An answer is framed ([`sse`]), watched
//! ([`stream`]) or inspected ([`plain`]), and leaves as the bytes that came. What is ours to say is
//! written by [`error`] and [`models`].

pub(crate) mod answer;
pub(crate) mod error;
pub(crate) mod hex;
pub(crate) mod json;
pub(crate) mod models;
pub(crate) mod plain;
pub(crate) mod prompt;
pub(crate) mod request;
mod splice;
pub(crate) mod sse;
pub(crate) mod stream;
pub(crate) mod text;
pub(crate) mod tokens;

pub(crate) use answer::{Finish, Usage};
pub(crate) use prompt::Endpoint;
pub(crate) use request::Request;
