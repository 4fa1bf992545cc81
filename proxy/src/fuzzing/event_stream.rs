//! What an upstream streams: the events of the standard however it is cut, judged and recorded alike,
//! and given back in either form.
//!
//! The input is the stream.

use std::time::SystemTime;

use bytes::Bytes;

use super::json;
use crate::admission::Budget;
use crate::api::Endpoint;
use crate::api::sse::{Event, Framer};
use crate::api::stream::Progress;
use crate::cache::{Answer, Recorder, Stored, replay};

/// Sizes of the pieces that a stream arrives in, besides all at once.
const PIECES: [usize; 4] = [1, 2, 3, 7];

/// The target.
pub fn event_stream(data: &[u8]) {
    let (events, rest) = frame([data]);
    for bytes in PIECES {
        let cut = frame(data.chunks(bytes));
        assert_eq!(cut, (events.clone(), rest.clone()), "in pieces of {bytes}");
    }
    let mut bytes: Vec<u8> = events.iter().flat_map(|event| event.raw.clone()).collect();
    bytes.extend(rest.unwrap_or_default());
    assert_eq!(bytes, data, "bytes that came and went");
    assert_standard(data);
    for endpoint in [Endpoint::Chat, Endpoint::Completions] {
        assert_kept(endpoint, &events);
    }
}

/// Feeds the pieces; the events and the rest.
fn frame<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Bytes>) {
    let mut framer = Framer::new(usize::MAX);
    let mut events = Vec::new();
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece));
        while let Some(event) = framer.next().expect("no event is too long") {
            events.push(event);
        }
    }
    (events, framer.finish())
}

/// The events are those of the standard.
fn assert_standard(data: &[u8]) {
    // The end of a stream may leave open whether its last event is whole.
    let closed = [data, b"x\n\n"].concat();
    let (events, rest) = frame([closed.as_slice()]);
    assert_eq!(rest, None);
    let data = events.into_iter().filter_map(|event| event.data);
    assert_eq!(data.collect::<Vec<_>>(), by_the_book(&closed));
}

/// The data of a stream's events, read line by line as the standard words it.
pub(crate) fn by_the_book(stream: &[u8]) -> Vec<Vec<u8>> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(std::mem::take(&mut line));
            }
            b'\n' => lines.push(std::mem::take(&mut line)),
            byte => line.push(byte),
        }
    }
    let mut events = Vec::new();
    let mut buffer = Vec::new();
    for line in lines {
        if line.is_empty() {
            if buffer.pop().is_some() {
                events.push(std::mem::take(&mut buffer));
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        if name == b"data" {
            buffer.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            buffer.push(b'\n');
        }
    }
    events
}

/// A stream that is complete is kept, and leaves as it came, or as one plain answer, or as a stream
/// made of that.
fn assert_kept(endpoint: Endpoint, events: &[Event]) {
    let mut progress = Progress::new(endpoint, 1).keep_head(16);
    let mut recorder = Recorder::stream(endpoint, usize::MAX, Budget::of(usize::MAX).holder());
    for event in events {
        let seen = progress.see(event);
        recorder.event(event);
        if seen.done {
            break;
        }
    }
    assert!(progress.head(16).len() <= 16);
    let is_kept = progress.is_complete_at_clean_end() && progress.is_well_formed();
    let Some(stored) = recorder.finish(is_kept, answer()) else {
        return;
    };
    let replayed = replay::stream(&stored, true);
    // As in [`assert_standard`].
    let closed = [&replayed.concat()[..], b"x\n\n"].concat();
    let (framed, _) = frame([closed.as_slice()]);
    assert_eq!(framed.len(), replayed.len() + 1, "{replayed:?}");
    let plain = replay::plain(&stored);
    let text = std::str::from_utf8(&plain).expect("JSON is UTF-8");
    // None as well where it is deeper than a tree may be: only what is known to be wrong is.
    if nesting(text) < 60 {
        assert!(json::read(text).is_some(), "no JSON: {text}");
    }
    let mut recorder = Recorder::plain(endpoint, usize::MAX, Budget::of(usize::MAX).holder());
    recorder.chunk(&plain);
    let stored = recorder.finish(true, answer()).expect("it is not empty");
    assert_is_stream(&stored);
}

fn assert_is_stream(stored: &Stored) {
    let made = replay::stream(stored, true).concat();
    let (events, rest) = frame([made.as_slice()]);
    assert_eq!(rest, None);
    let (done, chunks) = events.split_last().expect("there is always an end");
    assert_eq!(done.data.as_deref(), Some(&b"[DONE]"[..]));
    for chunk in chunks {
        let data = chunk.data.as_deref().expect("a chunk has data");
        let text = std::str::from_utf8(data).expect("JSON is UTF-8");
        assert!(nesting(text) >= 60 || json::read(text).is_some(), "{text}");
    }
}

/// An upper bound of how deep a text nests.
fn nesting(text: &str) -> usize {
    text.bytes().filter(|byte| b"[{".contains(byte)).count()
}

fn answer() -> Answer {
    Answer {
        model: "m".into(),
        content_type: "text/event-stream".into(),
        usage: None,
        created: SystemTime::UNIX_EPOCH,
    }
}
