//! Cuts a byte stream into server-sent events (WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6).
//!
//! Invariants: the raw bytes of all events, and the rest, are the input, byte for byte; the events
//! are the same however the input was cut into chunks; every byte is looked at once; at most one
//! event's bytes are held. A block without data (a comment, a `retry`, a stray blank line) is an
//! event too, without `data`, so that heartbeats are passed on.
//!
//! An event that lies within one chunk is a slice of it. Who keeps events for long copies them, or
//! one event keeps its whole chunk alive.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// One block of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its exact bytes, the blank line that ends it included.
    pub(crate) raw: Bytes,
    /// Its `data` lines, joined by line feeds; none when it has no such line.
    pub(crate) data: Option<Bytes>,
    /// Its last `event` line.
    pub(crate) event: Option<Bytes>,
}

/// An event is longer than the framer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {max_event_bytes} bytes")]
pub(crate) struct EventTooLong {
    pub(crate) max_event_bytes: usize,
}

/// Cuts chunks into events.
#[derive(Debug)]
pub(crate) struct Framer {
    /// Chunks whose events were not given out yet.
    chunks: VecDeque<Bytes>,
    /// The beginning of the current event, from chunks before.
    carry: BytesMut,
    max_event_bytes: usize,
    after: After,
    /// Nothing stands on the current line yet.
    line_is_empty: bool,
    /// The last line ended with a carriage return alone.
    lone_returns: bool,
    /// No event was given out yet, so that one may begin with a byte order mark.
    is_first: bool,
    too_long: bool,
}

/// What the last byte was, where the next one decides what it meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Any other.
    Anything,
    /// A carriage return that ended a line; a line feed would belong to it.
    Return,
    /// A carriage return that ended a blank line, in a stream that ends lines with both: the event
    /// ends behind the line feed, if one follows.
    BlankReturn,
}

impl Framer {
    /// A framer for events of at most this many bytes.
    pub(crate) fn new(max_event_bytes: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            carry: BytesMut::new(),
            max_event_bytes,
            after: After::Anything,
            line_is_empty: true,
            lone_returns: false,
            is_first: true,
            too_long: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes that wait for the rest of their event, or to be asked for.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.carry.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// The next whole event; none until more bytes come.
    ///
    /// # Errors
    /// When an event is longer than the framer may hold: then for good.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, EventTooLong> {
        while !self.too_long {
            let Some(mut chunk) = self.chunks.pop_front() else {
                return Ok(None);
            };
            let end = self.scan(&chunk);
            let event_bytes = self.carry.len() + end.unwrap_or(chunk.len());
            if event_bytes > self.max_event_bytes {
                self.too_long = true;
                self.chunks.push_front(chunk);
                break;
            }
            let Some(end) = end else {
                self.carry.extend_from_slice(&chunk);
                continue;
            };
            let tail = chunk.split_off(end);
            if !tail.is_empty() {
                self.chunks.push_front(tail);
            }
            let raw = if self.carry.is_empty() {
                chunk
            } else {
                self.carry.extend_from_slice(&chunk);
                self.carry.split().freeze()
            };
            let is_first = std::mem::take(&mut self.is_first);
            return Ok(Some(read(raw, is_first)));
        }
        Err(EventTooLong {
            max_event_bytes: self.max_event_bytes,
        })
    }

    /// What came after the last whole event: an event that the stream's end cut off.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        for chunk in self.chunks.drain(..) {
            self.carry.extend_from_slice(&chunk);
        }
        let rest = self.carry.split().freeze();
        (!rest.is_empty()).then_some(rest)
    }

    /// Goes through a chunk; where the current event ends in it.
    fn scan(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(rest @ [next, ..]) = chunk.get(at..) {
            let feed = usize::from(*next == b'\n');
            match std::mem::replace(&mut self.after, After::Anything) {
                After::Return => {
                    self.lone_returns = feed == 0;
                    at += feed;
                }
                After::BlankReturn => {
                    self.lone_returns = feed == 0;
                    return Some(at + feed);
                }
                After::Anything => {
                    let Some(length) = memchr::memchr2(b'\n', b'\r', rest) else {
                        self.line_is_empty = false;
                        return None;
                    };
                    let is_blank = self.line_is_empty && length == 0;
                    let is_return = rest.get(length) == Some(&b'\r');
                    at += length + 1;
                    self.line_is_empty = true;
                    match (is_return, is_blank) {
                        (false, is_blank) => {
                            self.lone_returns = false;
                            if is_blank {
                                return Some(at);
                            }
                        }
                        (true, false) => self.after = After::Return,
                        // In a stream that ends lines with it alone, waiting for the next byte
                        // would hold the event back. A line feed would be a block of its own.
                        (true, true) if self.lone_returns => return Some(at),
                        (true, true) => self.after = After::BlankReturn,
                    }
                }
            }
        }
        None
    }
}

/// Reads the fields of a block. A stream's end may cut one off: what [`Framer::finish`] gives can be
/// read as well.
pub(crate) fn read(raw: Bytes, is_first: bool) -> Event {
    let mut data: Option<&[u8]> = None;
    let mut joined: Option<BytesMut> = None;
    let mut event: Option<&[u8]> = None;
    let mut rest = raw.as_ref();
    if is_first {
        rest = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest);
    }
    while !rest.is_empty() {
        let (line, behind) = around(rest, memchr::memchr2(b'\n', b'\r', rest));
        rest = behind;
        let (field, value) = around(line, memchr::memchr(b':', line));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => match (data, &mut joined) {
                (None, _) => data = Some(value),
                (Some(_), Some(lines)) => {
                    lines.extend_from_slice(b"\n");
                    lines.extend_from_slice(value);
                }
                (Some(first), joined) => {
                    let mut lines = BytesMut::from(first);
                    lines.extend_from_slice(b"\n");
                    lines.extend_from_slice(value);
                    *joined = Some(lines);
                }
            },
            b"event" => event = Some(value),
            _ => {}
        }
    }
    let data = joined
        .map(BytesMut::freeze)
        .or_else(|| data.map(|value| raw.slice_ref(value)));
    let event = event.map(|value| raw.slice_ref(value));
    Event { raw, data, event }
}

/// What stands before and behind the byte at a place; without one, all and nothing.
fn around(bytes: &[u8], place: Option<usize>) -> (&[u8], &[u8]) {
    place
        .and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?)))
        .unwrap_or((bytes, &[]))
}

#[cfg(test)]
mod tests;
