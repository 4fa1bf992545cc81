//! Receives a request's body and reads it.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header;

use super::client::{Client, Head};
use super::context::RequestContext;
use super::error::{Error, Result};
use super::gather::Gather;
use crate::admission::Held;
use crate::api::prompt::Endpoint;
use crate::api::request::{self, Request, Rules};
use crate::config::Server;
use crate::telemetry::Stage;

/// Texts above this many bytes are parsed on the blocking pool, not on the worker.
const WORKER_BYTES: u64 = 256 * 1024;

/// Bytes that are unpacked before it is asked whether they may be held.
const UNPACKED_AT_ONCE: usize = 64 * 1024;

/// Reads and parses the body.
///
/// # Errors
/// Those of [`Client::body`], [`Error::EncodedBody`], and [`Error::Invalid`] that names the field.
pub(super) async fn run(
    cx: &mut RequestContext,
    server: &Server,
    client: &mut Client<'_>,
    head: &Head,
    endpoint: Endpoint,
) -> Result<Request> {
    cx.enter(Stage::Parse);
    cx.endpoint = Some(endpoint);
    let encoding = Encoding::of(head)?;
    let limit = server.max_body_bytes;
    let within = server.body_timeout;
    let body = client.body(head, limit, within, &mut cx.held).await?;
    cx.record.body_bytes_in = body.len() as u64;
    let empty = cx.shared.admission.buffered.holder();
    let mut held = std::mem::replace(&mut cx.held, empty);
    let (extra_roles, max_choices) = (Arc::clone(&server.extra_roles), server.max_choices);
    let read = move || -> Result<(Request, Held)> {
        let body = match encoding {
            Encoding::Plain => body,
            Encoding::Gzip => gunzip(&body, limit, &mut held)?,
        };
        request::screen(&body)?;
        let request = request::parse(endpoint, body)?;
        request.check(Rules {
            extra_roles: &extra_roles,
            max_choices,
        })?;
        held.grow(request.prompt.memory_bytes())?;
        Ok((request, held))
    };
    let (request, held) = if encoding == Encoding::Plain && cx.record.body_bytes_in <= WORKER_BYTES
    {
        read()?
    } else {
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| unreadable("the parser failed"))??
    };
    cx.held = held;
    cx.record.model = Some(request.prompt.model.clone());
    cx.record.stream = request.prompt.parameters.streaming;
    cx.record.prompt_tokens = request.prompt.prompt_tokens;
    Ok(request)
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Gzip,
}

impl Encoding {
    /// Decisions need the text: other packings cannot be read here.
    fn of(head: &Head) -> Result<Self> {
        let mut all = head.headers.get_all(header::CONTENT_ENCODING).iter();
        let encoding = match (all.next(), all.next()) {
            (None, _) => None,
            (Some(only), None) => Some(only.to_str().unwrap_or("?")),
            (Some(_), Some(_)) => Some("several"),
        };
        match encoding {
            None => Ok(Self::Plain),
            Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(Self::Plain),
            Some(encoding) if encoding.eq_ignore_ascii_case("gzip") => Ok(Self::Gzip),
            Some(encoding) => Err(Error::EncodedBody {
                encoding: encoding.chars().take(32).collect(),
            }),
        }
    }
}

/// Unpacks a body; what would grow beyond `limit`, or beyond what may be held, is not unpacked
/// further.
fn gunzip(packed: &[u8], limit: usize, held: &mut Held) -> Result<Bytes> {
    let mut body = Gather::new(held);
    let mut unpacker = MultiGzDecoder::new(packed);
    let mut piece = vec![0; UNPACKED_AT_ONCE];
    loop {
        let read = unpacker
            .read(&mut piece)
            .map_err(|_| unreadable("its body is not whole gzip"))?;
        if read == 0 {
            return Ok(body.finish());
        }
        if body.len() + read > limit {
            return Err(Error::BodyTooLarge { limit });
        }
        body.push(piece.get(..read).unwrap_or_default())?;
    }
}

fn unreadable(reason: &str) -> Error {
    Error::Unreadable {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::admission::Budget;

    fn held() -> Held {
        Budget::of(1 << 20).holder()
    }

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_body_is_unpacked_up_to_the_limit() {
        let body = [b'a'; 1000];
        assert_eq!(
            gunzip(&packed(&body), 1000, &mut held()).unwrap(),
            body.as_slice()
        );
        let bomb = gunzip(&packed(&body), 999, &mut held());
        assert!(matches!(bomb, Err(Error::BodyTooLarge { limit: 999 })));
    }

    #[test]
    fn unpacking_ends_where_the_budget_does() {
        let body = vec![b'a'; 2 << 20];
        let over = gunzip(&packed(&body), 4 << 20, &mut held());
        assert!(matches!(over, Err(Error::BuffersFull)));
    }

    #[test]
    fn a_body_that_is_cut_off_is_unreadable() {
        let whole = packed(b"{}");
        let cut = &whole[..whole.len() - 4];
        assert!(matches!(
            gunzip(cut, 100, &mut held()),
            Err(Error::Unreadable { .. })
        ));
    }
}
