//! Receives a request's body and reads it.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header;

use super::client::{Client, Head};
use super::context::RequestContext;
use super::error::{Error, Result};
use crate::api::prompt::Endpoint;
use crate::api::request::{self, Request};
use crate::config::Server;
use crate::telemetry::Stage;

/// Texts above this many bytes are parsed on the blocking pool, not on the worker.
const WORKER_BYTES: u64 = 256 * 1024;

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
    let body = client.body(head, limit, server.body_timeout).await?;
    cx.record.body_bytes_in = body.len() as u64;
    let read = move || -> Result<Request> {
        let body = match encoding {
            Encoding::Plain => body,
            Encoding::Gzip => gunzip(&body, limit)?,
        };
        Ok(request::parse(endpoint, body)?)
    };
    let request = if encoding == Encoding::Plain && cx.record.body_bytes_in <= WORKER_BYTES {
        read()?
    } else {
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| unreadable("the parser failed"))??
    };
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
        match head.text(header::CONTENT_ENCODING) {
            None => Ok(Self::Plain),
            Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(Self::Plain),
            Some(encoding) if encoding.eq_ignore_ascii_case("gzip") => Ok(Self::Gzip),
            Some(encoding) => Err(Error::EncodedBody {
                encoding: encoding.chars().take(32).collect(),
            }),
        }
    }
}

/// Unpacks a body; what would grow beyond `limit` is not unpacked further.
fn gunzip(packed: &[u8], limit: usize) -> Result<Bytes> {
    let mut body = Vec::new();
    let most = (limit as u64).saturating_add(1);
    MultiGzDecoder::new(packed)
        .take(most)
        .read_to_end(&mut body)
        .map_err(|_| unreadable("its body is not whole gzip"))?;
    if body.len() > limit {
        return Err(Error::BodyTooLarge { limit });
    }
    Ok(Bytes::from(body))
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

    fn packed(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_body_is_unpacked_up_to_the_limit() {
        let body = [b'a'; 1000];
        assert_eq!(gunzip(&packed(&body), 1000).unwrap(), body.as_slice());
        let bomb = gunzip(&packed(&body), 999);
        assert!(matches!(bomb, Err(Error::BodyTooLarge { limit: 999 })));
    }

    #[test]
    fn a_body_that_is_cut_off_is_unreadable() {
        let whole = packed(b"{}");
        let cut = &whole[..whole.len() - 4];
        assert!(matches!(gunzip(cut, 100), Err(Error::Unreadable { .. })));
    }
}
