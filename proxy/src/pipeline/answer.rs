//! What goes back to the client, before a byte of it has been sent.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::events::Events;
use super::store::Seat;
use crate::api::plain::PlainFacts;
use crate::api::sse::Event;
use crate::upstream::Exchange;

/// An answer: a head, and a body in one of its forms.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The upstream's, or ours; the record's are added when the head is sent.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(Whole),
    /// A stored stream.
    Replay(Vec<Bytes>),
    /// A stream of events that is still coming in.
    Live(Box<Live>),
    /// Bytes that nobody looks at.
    Relayed(Box<Relayed>),
}

/// A body that is there.
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    /// What an upstream's answer says of itself; none for others, and where it cannot be read.
    pub(crate) facts: Option<PlainFacts>,
    /// Where it may be stored once it is out.
    pub(crate) seat: Option<Box<Seat>>,
}

impl Whole {
    /// A body that is neither judged nor stored.
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self {
            bytes,
            facts: None,
            seat: None,
        }
    }
}

/// A live stream of events.
pub(crate) struct Live {
    /// What came before the commit point: goes out first.
    pub(crate) begun: Vec<Event>,
    pub(crate) events: Events,
    pub(crate) seat: Option<Box<Seat>>,
}

/// A body that is passed on as it comes.
pub(crate) struct Relayed {
    /// What has been read already.
    pub(crate) begun: Vec<Bytes>,
    pub(crate) exchange: Exchange,
}

impl Answer {
    /// An answer of our own.
    pub(crate) fn json(status: StatusCode, body: Bytes) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        Self {
            status,
            headers,
            body: Body::Whole(Whole::of(body)),
        }
    }
}
