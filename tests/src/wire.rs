//! HTTP/1.1 on the wire, for both ends: heads kept as the bytes they were, bodies by their framing.
//!
//! Strict where a proxy could cheat: a message with both framings, a bad chunk or an early end is an
//! error and never a shorter body.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Largest head that is read.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// A byte stream in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The head of a request or of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// As it came, with the empty line; empty on HTTP/2.
    pub raw: Bytes,
    /// The first line.
    pub line: String,
    /// Names as they came, in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: Bytes) -> io::Result<Self> {
        let text = std::str::from_utf8(&raw).map_err(invalid)?;
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        for header in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| invalid(format!("bad header {header:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self { raw, line, headers })
    }

    /// The first value of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The method of a request.
    #[must_use]
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The target of a request: path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of an answer.
    ///
    /// # Panics
    /// When the first line is not that of an answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status line")
    }

    /// Whether the sender wants the connection closed after this message.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// How the body of a request is framed.
    pub(crate) fn request_framing(&self) -> io::Result<Framing> {
        Ok(self.framing()?.unwrap_or(Framing::Length(0)))
    }

    /// How the body of an answer is framed.
    pub(crate) fn answer_framing(&self, method: &str) -> io::Result<Framing> {
        let status = self.status();
        if method == "HEAD" || status == 204 || status == 304 || status < 200 {
            return Ok(Framing::Length(0));
        }
        Ok(self.framing()?.unwrap_or(Framing::ToEnd))
    }

    fn framing(&self) -> io::Result<Option<Framing>> {
        match (
            self.header("content-length"),
            self.header("transfer-encoding"),
        ) {
            (Some(_), Some(_)) => Err(invalid("both content-length and transfer-encoding")),
            (Some(length), None) => Ok(Some(Framing::Length(length.parse().map_err(invalid)?))),
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => {
                Ok(Some(Framing::Chunked))
            }
            (None, Some(coding)) => Err(invalid(format!("transfer-encoding {coding:?}"))),
            (None, None) => Ok(None),
        }
    }
}

/// How much of a body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks, the next of which begins with its size.
    Chunked,
    /// All until the connection ends.
    ToEnd,
    /// Nothing.
    Done,
}

/// A connection with what has been read of it and not used.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(64 * 1024),
        }
    }

    /// Reads more; false at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(64 * 1024);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    async fn fill_or_fail(&mut self, what: &str) -> io::Result<()> {
        match self.fill().await? {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("end in {what}"),
            )),
        }
    }

    /// Reads a head; none when the peer closed before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let raw = self.buffer.split_to(end + 4).freeze();
                return Head::parse(raw).map(Some);
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(invalid("head too large"));
            }
            if self.buffer.is_empty() {
                if !self.fill().await? {
                    return Ok(None);
                }
            } else {
                self.fill_or_fail("a head").await?;
            }
        }
    }

    /// The next piece of a body, as large as it has arrived; none at its proper end.
    pub(crate) async fn piece(&mut self, framing: &mut Framing) -> io::Result<Option<Bytes>> {
        match framing {
            Framing::Done => Ok(None),
            Framing::Length(0) => {
                *framing = Framing::Done;
                Ok(None)
            }
            Framing::Length(rest) => {
                if self.buffer.is_empty() {
                    self.fill_or_fail("a body of known length").await?;
                }
                let take = usize::try_from(*rest)
                    .map_err(invalid)?
                    .min(self.buffer.len());
                *rest -= take as u64;
                Ok(Some(self.buffer.split_to(take).freeze()))
            }
            Framing::ToEnd => {
                if self.buffer.is_empty() && !self.fill().await? {
                    *framing = Framing::Done;
                    return Ok(None);
                }
                Ok(Some(self.buffer.split().freeze()))
            }
            Framing::Chunked => {
                let chunk = self.chunk().await?;
                if chunk.is_none() {
                    *framing = Framing::Done;
                }
                Ok(chunk)
            }
        }
    }

    /// One whole chunk; none for the last, whose trailers are read too.
    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let line = self.line().await?;
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size).map_err(invalid)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(invalid)?;
        if size == 0 {
            while !self.line().await?.is_empty() {}
            return Ok(None);
        }
        while self.buffer.len() < size + 2 {
            self.fill_or_fail("a chunk").await?;
        }
        let chunk = self.buffer.split_to(size).freeze();
        match &self.buffer.split_to(2)[..] {
            b"\r\n" => Ok(Some(chunk)),
            other => Err(invalid(format!("chunk ends with {other:?}"))),
        }
    }

    async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(end).freeze();
                let _ = self.buffer.split_to(2);
                return Ok(line);
            }
            self.fill_or_fail("a line").await?;
        }
    }

    /// The whole rest of a body.
    pub(crate) async fn body(&mut self, mut framing: Framing) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece(&mut framing).await? {
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// Completes when the peer closes or resets; bytes on the way there are thrown away.
    pub(crate) async fn gone(&mut self) {
        while matches!(self.fill().await, Ok(true)) {
            self.buffer.clear();
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

pub(crate) fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
