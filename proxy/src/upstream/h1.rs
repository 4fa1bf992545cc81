//! One HTTP/1.1 exchange on one connection: pingora's parser, our own writes.
//!
//! The head and the body's beginning leave in one write: with two, each request would cost a second
//! system call and a second packet. A backend may answer before it has read the whole request (413,
//! say) and then stop reading; so whenever a write has to wait, what the backend sends is looked
//! at, and an error answer ends the sending.
//!
//! Invariant: a connection returns to its pool only after an answer whose framing was whole, with
//! nothing read beyond it; anything else closes it.

mod answer;
mod rewound;
mod sending;

use bytes::BytesMut;

pub(super) use self::answer::Answer;
pub(super) use self::sending::Sending;
use super::address::host_header;
use super::errors::AttemptError;
use super::request::{Framing, Outgoing, target};
use crate::config::BackendIdentity;

/// The request line and header section of `out` for this backend.
pub(super) fn head(
    out: &Outgoing,
    identity: &BackendIdentity,
    framing: Framing,
) -> Result<BytesMut, AttemptError> {
    let target = target(out, identity)?;
    let mut head = BytesMut::with_capacity(1024);
    for part in [
        out.method.as_str(),
        " ",
        &target,
        " HTTP/1.1\r\nhost: ",
        &host_header(identity),
    ] {
        head.extend_from_slice(part.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    for (name, value) in &out.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Framing::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;
    use crate::upstream::testing::identity;

    #[test]
    fn a_path_cannot_end_the_request_line() {
        let mut out = Outgoing {
            method: Method::GET,
            path: "/v1/models?a=b".to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            may_resend: false,
        };
        let mut backend = identity("10.0.0.1", 8000);
        backend.base_path = "/openai".to_owned();
        let written = head(&out, &backend, Framing::None).unwrap();
        assert_eq!(
            written.as_ref(),
            b"GET /openai/v1/models?a=b HTTP/1.1\r\nhost: 10.0.0.1:8000\r\n\r\n"
        );
        for path in ["/v1/a b", "/v1/a\r\nx: y", "/v1/\0"] {
            out.path = path.to_owned();
            assert!(matches!(
                head(&out, &backend, Framing::None),
                Err(AttemptError::Request(_))
            ));
        }
    }
}
