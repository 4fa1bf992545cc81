//! Just enough HTTP/1.1 to be no burden: whole answers and streams of events, read in place.

use std::io;

use bytes::BytesMut;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Where one message ends in what was read.
enum Framing {
    Length(usize),
    Chunked,
}

/// Reads messages from one connection.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: BytesMut,
}

/// A message that was read.
#[derive(Debug)]
pub(super) struct Message {
    /// First line and headers.
    pub(super) head: BytesMut,
    /// Chunks with their framing, or the plain body.
    pub(super) body: BytesMut,
}

impl Message {
    /// The status of an answer.
    pub(super) fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.head.get(9..12)?)
            .ok()?
            .parse()
            .ok()
    }
}

impl Reader {
    /// The next message whole; none when the connection ends between two. `on_read` sees the part
    /// of its body that each read brings.
    ///
    /// # Errors
    /// What the socket says, and an end inside a message.
    pub(super) async fn message(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        mut on_read: impl FnMut(&[u8]),
    ) -> io::Result<Option<Message>> {
        let head_end = loop {
            if let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read(socket).await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        };
        let head = self.buffer.split_to(head_end);
        let framing = framing(&head)?;
        let mut seen = 0;
        let length = loop {
            on_read(self.buffer.get(seen..).unwrap_or_default());
            seen = self.buffer.len();
            match framing {
                Framing::Length(length) if seen >= length => break length,
                // Nothing here pipelines, so the last chunk ends what was read.
                Framing::Chunked if self.buffer.ends_with(b"0\r\n\r\n") => break seen,
                _ => {}
            }
            if !self.read(socket).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let body = self.buffer.split_to(length);
        Ok(Some(Message { head, body }))
    }

    async fn read(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        self.buffer.reserve(64 * 1024);
        Ok(socket.read_buf(&mut self.buffer).await? > 0)
    }
}

fn framing(head: &[u8]) -> io::Result<Framing> {
    let lower = head.to_ascii_lowercase();
    if let Some(at) = memmem::find(&lower, b"\r\ncontent-length:") {
        let value = lower.get(at + 17..).unwrap_or_default();
        let value = value
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let length = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        return length
            .map(Framing::Length)
            .ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    match memmem::find(&lower, b"\r\ntransfer-encoding: chunked") {
        Some(_) => Ok(Framing::Chunked),
        None => Ok(Framing::Length(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_follow_each_other() {
        let wire = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";
        let mut socket = wire.as_slice();
        let mut reader = Reader::default();
        let first = reader.message(&mut socket, |_| {}).await.unwrap().unwrap();
        assert_eq!((first.status(), &first.body[..]), (Some(200), &b"ok"[..]));
        let second = reader.message(&mut socket, |_| {}).await.unwrap().unwrap();
        assert_eq!(second.status(), Some(503));
        assert!(reader.message(&mut socket, |_| {}).await.unwrap().is_none());
    }
}
