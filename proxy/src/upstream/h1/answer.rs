//! An answer over HTTP/1.1: pingora's parser, and what it would let pass.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::{Error, ErrorType};

use crate::upstream::attempt::Failed;
use crate::upstream::connect::Home;
use crate::upstream::errors::{AttemptError, UpstreamError, brief};

/// Interim answers that are skipped before one exchange is given up.
const MAX_INTERIM: u32 = 16;

/// An answer: its head, and its body as it comes.
pub(in crate::upstream) struct Answer {
    session: HttpSession,
    home: Home,
    may_reuse: bool,
    /// It answers a HEAD.
    is_bodyless: bool,
}

impl Answer {
    /// What will come on `stream` to a request of this method. `may_reuse`: nothing speaks against
    /// the connection yet.
    pub(super) fn new(stream: Stream, home: Home, may_reuse: bool, method: &Method) -> Self {
        Self {
            session: HttpSession::new(stream),
            home,
            // The parser learns of a HEAD only from a request that it wrote itself, so what it
            // holds for the length of the body is ignored here, and the connection not reused.
            may_reuse: may_reuse && method != Method::HEAD,
            is_bodyless: method == Method::HEAD,
        }
    }

    /// Status of the head.
    pub(in crate::upstream) fn status(&self) -> StatusCode {
        // A head without a status is refused by the parser.
        self.session.get_status().unwrap_or(StatusCode::BAD_GATEWAY)
    }

    /// Headers as they came.
    pub(in crate::upstream) fn headers(&self) -> Option<&HeaderMap> {
        self.session.resp_header().map(|head| &head.headers)
    }

    /// Reads up to the final head. `reused`: the connection served a request before;
    /// `read_before`: bytes of an answer came while the request was being sent.
    pub(super) async fn read_head(
        &mut self,
        reused: bool,
        mut read_before: bool,
    ) -> Result<(), Failed> {
        for _ in 0..=MAX_INTERIM {
            let read = self.session.read_response().await;
            read.map_err(|error| head_failure(&error, reused, read_before))?;
            let status = self.status();
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(protocol("101 to a request that asked for no upgrade"));
            }
            if !status.is_informational() {
                self.distrust_bodyless();
                return self.check_framing();
            }
            read_before = true;
        }
        Err(protocol("too many interim answers"))
    }

    /// Gives up the connection of an answer that has no body and announces one: the body may follow
    /// all the same, and would pass for the answer to the next request. A 304 may announce a length
    /// (RFC 9110 §8.6), but nothing here asks for one.
    fn distrust_bodyless(&mut self) {
        let status = self.status();
        let announced = self.headers().is_some_and(|headers| {
            let length = headers.get(header::CONTENT_LENGTH);
            headers.contains_key(header::TRANSFER_ENCODING)
                || length.is_some_and(|length| length != "0")
        });
        let has_none = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        self.may_reuse &= !(has_none && announced);
    }

    /// Refuses an answer whose length two parties could read differently (RFC 9112 §6.1 and §6.3).
    fn check_framing(&self) -> Result<(), Failed> {
        let Some(headers) = self.headers() else {
            return Err(protocol("no head"));
        };
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        let Some(coding) = codings.next() else {
            return Ok(());
        };
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(protocol("transfer-encoding other than chunked"));
        }
        // The parser has dropped a content-length that stood beside it: only the raw head tells.
        let raw = self.session.get_headers_raw_bytes();
        let mut lines = raw.split(|byte| *byte == b'\n');
        if lines.any(|line| names(line, b"content-length")) {
            return Err(protocol("both content-length and transfer-encoding"));
        }
        Ok(())
    }

    /// The next bytes of the body; none at its end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(in crate::upstream) async fn read(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if self.is_bodyless {
            return Ok(None);
        }
        loop {
            match self.session.read_body_bytes().await {
                // The parser's way to say that it has only seen the last chunk's beginning.
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(read) => return Ok(read),
                Err(error) => return Err(body_failure(&error)),
            }
        }
    }

    /// Puts the connection back, if it may be used again. Only after [`Self::read`] gave none.
    pub(in crate::upstream) fn finish(mut self) {
        if !self.may_reuse {
            return;
        }
        self.session.respect_keepalive();
        if !self.session.will_keepalive() {
            return;
        }
        let announced = self
            .session
            .get_header("keep-alive")
            .and_then(announced_timeout);
        // Waits for nothing when the connection is kept.
        if let Some(Some(stream)) = self.session.reuse().now_or_never() {
            self.home.release_h1(stream, announced);
        }
    }
}

/// Whether a header line has this name, however it is written.
fn names(line: &[u8], name: &[u8]) -> bool {
    let colon = line.iter().position(|byte| *byte == b':');
    let found = colon.and_then(|colon| line.get(..colon));
    found.is_some_and(|found| found.trim_ascii().eq_ignore_ascii_case(name))
}

/// The `timeout` of a `Keep-Alive` header.
fn announced_timeout(value: &http::HeaderValue) -> Option<Duration> {
    let parameters = value.to_str().ok()?.split(',');
    let mut timeouts = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| value.trim().parse().ok().map(Duration::from_secs))?
    });
    timeouts.next()
}

fn protocol(why: &str) -> Failed {
    AttemptError::Protocol(why.to_owned()).into()
}

/// Sorts pingora's errors of reading a head.
fn head_failure(error: &Error, reused: bool, read_before: bool) -> Failed {
    match error.etype() {
        ErrorType::ConnectionClosed | ErrorType::ReadError => {
            // pingora tells how far it came in the text alone.
            let nothing_read = !read_before
                && error
                    .context
                    .as_ref()
                    .is_some_and(|context| context.as_str().ends_with(": 0"));
            if nothing_read {
                Failed {
                    error: AttemptError::ClosedBeforeAnswer { reused },
                    was_idle: reused,
                }
            } else {
                protocol("connection closed within the head")
            }
        }
        _ => protocol(&brief(error)),
    }
}

/// Sorts pingora's errors of reading a body.
fn body_failure(error: &Error) -> UpstreamError {
    match error.etype() {
        ErrorType::ConnectionClosed => UpstreamError::Truncated(brief(error)),
        ErrorType::ReadError => UpstreamError::Reset(brief(error)),
        _ => UpstreamError::Protocol(brief(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announced_idle_time_is_found() {
        let value = |text| announced_timeout(&http::HeaderValue::from_static(text));
        assert_eq!(value("timeout=5, max=1000"), Some(Duration::from_secs(5)));
        assert_eq!(value("max=3,Timeout = 7"), Some(Duration::from_secs(7)));
        assert_eq!(value("max=3"), None);
    }
}
