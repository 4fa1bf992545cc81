//! A request as it is handed to this room, and how its body is framed.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::errors::AttemptError;
use crate::config::BackendIdentity;

/// A request, but for what depends on the backend: `host`, the base path, and the framing.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// Its method.
    pub(crate) method: Method,
    /// `/v1/…`, with the query.
    pub(crate) path: String,
    /// From [`super::headers::request`] or [`super::headers::relayed`].
    pub(crate) headers: HeaderMap,
    /// The whole body; empty for [`super::Exchange::start`].
    pub(crate) body: Bytes,
    /// It may be sent again although a backend may have worked on it: a kept connection that
    /// closes under a request may have been closed before or after the request was read, and
    /// nothing tells which.
    pub(crate) may_resend: bool,
}

/// How a request announces its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body.
    None,
    /// `content-length`.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

impl Framing {
    /// For a body that is there as a whole. Without one, only methods that usually have a body say
    /// that it is empty (RFC 9110 §8.6).
    pub(super) fn of(out: &Outgoing) -> Self {
        let may_be_silent = matches!(
            out.method,
            Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS
        );
        if out.body.is_empty() && may_be_silent {
            Self::None
        } else {
            Self::Length(out.body.len() as u64)
        }
    }
}

/// The path below the backend's base path. A byte that would end the request line is refused: it
/// would let a client write a request of its own into the connection (RFC 9112 §3.2).
pub(super) fn target(out: &Outgoing, identity: &BackendIdentity) -> Result<String, AttemptError> {
    if out.path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(AttemptError::Request("a control byte or space in the path"));
    }
    Ok(format!("{}{}", identity.base_path, out.path))
}
