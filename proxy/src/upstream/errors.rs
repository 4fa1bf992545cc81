//! How an exchange with a backend can fail, and whether another attempt may follow.
//!
//! Invariant: before the head of an answer every failure is an [`AttemptError`]; after it, an
//! [`UpstreamError`]. Only the first kind can be retried, so a retry after the head does not
//! compile. Texts are for the log: they may hold addresses, so none of them goes to a client.

use super::backend::Fault;

/// Whether the same request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// No backend can have worked on it.
    Safe,
    /// A backend may have worked on it, but nothing of an answer came back.
    Ambiguous,
    /// It was answered in some form, or time is up.
    Never,
}

/// Why an attempt ended without the head of an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AttemptError {
    /// No address of the backend accepted a connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// TCP connected, TLS did not.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// Neither TCP nor TLS was done within `timeouts.connect`.
    #[error("no connection within the connect time-out")]
    ConnectTimeout,
    /// The connection broke after the request was sent, at least in part, and before any byte of
    /// an answer.
    #[error("connection closed before an answer{}", if *reused { " (it had been kept alive)" } else { "" })]
    ClosedBeforeAnswer {
        /// The connection had served a request before.
        reused: bool,
    },
    /// No head within `timeouts.first_token` after the request was sent, or the backend stopped
    /// reading the request for `timeouts.between_bytes`.
    #[error("no answer within the first-token time-out")]
    FirstByteTimeout,
    /// HTTP/2 said that it did not process the request: `REFUSED_STREAM`, or a GOAWAY below it.
    #[error("request refused unprocessed: {0}")]
    Refused(String),
    /// The request cannot be sent as it is: its own fault, whatever the backend.
    #[error("request cannot be sent: {0}")]
    Request(&'static str),
    /// What came back is not an HTTP answer that can be passed on.
    #[error("bad answer: {0}")]
    Protocol(String),
}

impl AttemptError {
    /// Whether another attempt may follow, by what can have happened to the request.
    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::ConnectTimeout | Self::Refused(_) => {
                Retry::Safe
            }
            Self::ClosedBeforeAnswer { .. } => Retry::Ambiguous,
            Self::FirstByteTimeout | Self::Request(_) | Self::Protocol(_) => Retry::Never,
        }
    }

    /// The value of the metric label `result`.
    pub(crate) fn result(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect_failed",
            Self::Tls(_) => "tls_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::ClosedBeforeAnswer { .. } => "closed",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Refused(_) => "refused",
            Self::Request(_) => "bad_request",
            Self::Protocol(_) => "protocol_error",
        }
    }

    /// What this says about the backend's health. A refusal says nothing: HTTP/2 servers refuse
    /// streams as a matter of course while they restart or are full.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::ConnectTimeout => Some(Fault::Unreachable),
            Self::ClosedBeforeAnswer { .. } | Self::FirstByteTimeout | Self::Protocol(_) => {
                Some(Fault::Broken)
            }
            Self::Refused(_) | Self::Request(_) => None,
        }
    }

    /// Nobody was listening: no time was lost, and nothing was sent.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

/// Why the body of an answer ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// The connection broke, or HTTP/2 reset the stream.
    #[error("answer cut off: {0}")]
    Reset(String),
    /// The connection ended cleanly, with less than the announced length or without the last
    /// chunk.
    #[error("answer ended early: {0}")]
    Truncated(String),
    /// Nothing came for as long as the route allows.
    #[error("no byte within the time-out")]
    Timeout,
    /// The body's framing is broken.
    #[error("bad answer: {0}")]
    Protocol(String),
}

/// A text of a library, with the bytes of the backend that it may quote cut to a loggable length.
pub(super) fn brief(error: &dyn std::fmt::Display) -> String {
    const MOST: usize = 300;
    let text = error.to_string();
    match text.char_indices().nth(MOST) {
        Some(_) => text.chars().take(MOST).chain(['…']).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_backend_saw_is_safe_to_retry() {
        assert_eq!(AttemptError::Connect(String::new()).retry(), Retry::Safe);
        assert_eq!(AttemptError::Tls(String::new()).retry(), Retry::Safe);
        assert_eq!(AttemptError::ConnectTimeout.retry(), Retry::Safe);
        assert_eq!(AttemptError::Refused(String::new()).retry(), Retry::Safe);
        assert_eq!(
            AttemptError::ClosedBeforeAnswer { reused: true }.retry(),
            Retry::Ambiguous
        );
        assert_eq!(AttemptError::FirstByteTimeout.retry(), Retry::Never);
        assert_eq!(AttemptError::Protocol(String::new()).retry(), Retry::Never);
    }

    #[test]
    fn quoted_bytes_are_cut() {
        assert_eq!(brief(&"é".repeat(1_000)).chars().count(), 301);
        assert_eq!(brief(&"short"), "short");
    }
}
