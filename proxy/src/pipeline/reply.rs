//! Reads a plain answer: whole where it is small, so that its failure can still become a status.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};

use crate::admission::Held;
use crate::upstream::{Exchange, UpstreamError};

/// Answers up to this many bytes are read whole before the client gets their head.
const HELD_BACK: usize = 64 * 1024;
/// As [`HELD_BACK`], where the answer may be stored: that takes the whole.
const HELD_TO_STORE: usize = 1024 * 1024;

/// Memory that a piece takes besides its bytes, roughly: it may be a single one.
const PIECE_COST: usize = 128;

/// A plain answer.
pub(super) enum Plain {
    /// All of it.
    Whole(Bytes),
    /// Too large to hold back: its beginning, and where the rest comes from.
    Open {
        begun: Vec<Bytes>,
        exchange: Box<Exchange>,
    },
}

/// Reads until the end, or [`HELD_BACK`] or [`HELD_TO_STORE`] bytes, or what `held` may hold.
///
/// # Errors
/// [`UpstreamError`] when the exchange breaks, or is silent for too long.
pub(super) async fn read(
    mut exchange: Exchange,
    may_be_stored: bool,
    held: &mut Held,
) -> Result<Plain, UpstreamError> {
    let most = match may_be_stored {
        true => HELD_TO_STORE,
        false => HELD_BACK,
    };
    let mut begun: Vec<Bytes> = Vec::new();
    let (mut bytes, mut cost) = (0, 0);
    loop {
        let Some(chunk) = exchange.chunk().await? else {
            return Ok(Plain::Whole(join(begun, bytes)));
        };
        bytes += chunk.len();
        cost += chunk.len() + PIECE_COST;
        begun.push(chunk);
        if cost > most || held.set(cost).is_err() {
            return Ok(Plain::Open {
                begun,
                exchange: Box::new(exchange),
            });
        }
    }
}

/// One piece is handed on as it is.
fn join(mut pieces: Vec<Bytes>, bytes: usize) -> Bytes {
    match (pieces.pop(), pieces.is_empty()) {
        (None, _) => Bytes::new(),
        (Some(only), true) => only,
        (Some(last), false) => {
            let mut whole = BytesMut::with_capacity(bytes);
            for piece in pieces {
                whole.extend_from_slice(&piece);
            }
            whole.extend_from_slice(&last);
            whole.freeze()
        }
    }
}

/// True for an uncompressed `text/event-stream`.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    is_plain_type(headers, "text/event-stream")
}

/// True for an uncompressed JSON answer.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    is_plain_type(headers, "application/json")
}

fn is_plain_type(headers: &HeaderMap, wanted: &str) -> bool {
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity");
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    !encoded && kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_read_without_its_parameters() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            "Text/Event-Stream; charset=utf-8".parse().unwrap(),
        );
        assert!(is_event_stream(&headers));
        assert!(!is_json(&headers));
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(!is_event_stream(&headers));
    }

    #[test]
    fn pieces_are_joined_in_their_order() {
        let pieces = vec![Bytes::from("ab"), Bytes::from("c"), Bytes::from("de")];
        assert_eq!(join(pieces, 5), "abcde");
        assert_eq!(join(Vec::new(), 0), "");
    }
}
