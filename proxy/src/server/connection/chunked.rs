//! Holds a chunked body to the grammar (RFC 9112 §7.1) while it is read.
//!
//! Pingora reads chunks as leniently as heads: a size line without a digit is the last chunk to it,
//! and an extension may hold line feeds. So its stream is this one, which looks at each byte on its
//! way and ends the reading where the grammar is broken, with an error of kind `InvalidData`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest line of a size and its extensions.
const MAX_LINE_BYTES: usize = 4096;

/// What is wrong with a body's framing.
pub(crate) type Fault = &'static str;

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In no chunked body: whatever comes is somebody else's to judge.
    Outside,
    /// In a size, of which this many digits were read.
    Size {
        digits: u8,
    },
    /// In the space behind a size, which only an extension may follow.
    Space,
    Extension,
    /// Behind the CR of a size's line.
    SizeEnd,
    Data,
    /// Behind a chunk's data.
    DataEnd,
    DataEndLf,
    /// At the beginning of a trailer's line, or of the empty one.
    Trailer,
    TrailerLine,
    TrailerEnd,
    /// Behind the CR of the empty line.
    LastEnd,
}

/// Follows one chunked body.
#[derive(Debug)]
pub(crate) struct Chunks {
    state: State,
    /// Of the chunk that is read: its size, then how much of it is still to come.
    left: u64,
    /// Bytes of the line that is read.
    line: usize,
}

impl Chunks {
    /// In no body.
    pub(super) fn outside() -> Self {
        Self {
            state: State::Outside,
            left: 0,
            line: 0,
        }
    }

    /// At the beginning of a body.
    pub(crate) fn begin() -> Self {
        Self {
            state: State::Size { digits: 0 },
            ..Self::outside()
        }
    }

    /// Takes the next bytes. What stands behind the end of the body is not looked at.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn see(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !self.has_ended() && !bytes.is_empty() {
            if self.state == State::Data {
                let held = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let taken = held.min(self.left);
                self.left -= taken;
                bytes = bytes
                    .get(usize::try_from(taken).unwrap_or(usize::MAX)..)
                    .unwrap_or_default();
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            let Some((byte, rest)) = bytes.split_first() else {
                break;
            };
            self.state = self.step(*byte)?;
            bytes = rest;
        }
        Ok(())
    }

    /// True behind the last byte, and in no body.
    pub(crate) fn has_ended(&self) -> bool {
        self.state == State::Outside
    }

    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        self.line += 1;
        if self.line > MAX_LINE_BYTES {
            return Err("a line between chunks is too long");
        }
        match (self.state, byte) {
            (State::Size { digits }, _) => self.size(digits, byte),
            (State::Space, b' ' | b'\t') => Ok(State::Space),
            (State::Space | State::Extension, b';') => Ok(State::Extension),
            (State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::Extension),
            (State::Extension | State::Space, _) => Err("a chunk's extension is malformed"),
            (State::SizeEnd, b'\n') if self.left == 0 => Ok(self.next_line(State::Trailer)),
            (State::SizeEnd, b'\n') => Ok(self.next_line(State::Data)),
            (State::DataEnd, b'\r') => Ok(State::DataEndLf),
            (State::DataEndLf, b'\n') => Ok(self.next_line(State::Size { digits: 0 })),
            (State::DataEnd | State::DataEndLf, _) => Err("a chunk is longer than its size"),
            (State::Trailer, b'\r') => Ok(State::LastEnd),
            (State::Trailer, b' ' | b'\t') => Err("a trailer begins with a space"),
            (State::TrailerLine, b'\r') => Ok(State::TrailerEnd),
            (State::Trailer | State::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => {
                Ok(State::TrailerLine)
            }
            (State::TrailerEnd, b'\n') => Ok(self.next_line(State::Trailer)),
            (State::LastEnd, b'\n') => Ok(self.next_line(State::Outside)),
            (State::SizeEnd | State::Trailer | State::TrailerLine, _)
            | (State::TrailerEnd | State::LastEnd, _) => Err("a line of the body's framing"),
            (State::Data | State::Outside, _) => Ok(self.state),
        }
    }

    fn size(&mut self, digits: u8, byte: u8) -> Result<State, Fault> {
        let digit = char::from(byte).to_digit(16);
        match (digit, byte, digits) {
            (Some(_), _, 15..) => Err("a chunk's size is too large"),
            (Some(digit), _, _) => {
                self.left = self.left << 4 | u64::from(digit);
                Ok(State::Size { digits: digits + 1 })
            }
            (None, _, 0) => Err("a chunk's size is no number"),
            (None, b'\r', _) => Ok(State::SizeEnd),
            (None, b';', _) => Ok(State::Extension),
            (None, b' ' | b'\t', _) => Ok(State::Space),
            (None, _, _) => Err("a chunk's size is no number"),
        }
    }

    fn next_line(&mut self, state: State) -> State {
        self.line = 0;
        state
    }
}

/// A client's stream whose chunked bodies are watched.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    /// Of the request that is read.
    pub(super) chunks: Chunks,
    broken: Option<Fault>,
}

impl Watched {
    pub(super) fn new(stream: Stream) -> Box<Self> {
        Box::new(Self {
            stream,
            chunks: Chunks::outside(),
            broken: None,
        })
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(fault) = self.broken {
            return Poll::Ready(Err(invalid(fault)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        match self.chunks.see(read) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(fault) => {
                self.broken = Some(fault);
                buffer.set_filled(before);
                Poll::Ready(Err(invalid(fault)))
            }
        }
    }
}

fn invalid(fault: Fault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Watched {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.stream).await;
    }
}

impl UniqueID for Watched {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Watched {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }
}

impl Peek for Watched {}

impl GetTimingDigest for Watched {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for Watched {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for Watched {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body passes, in whatever pieces it comes, and whether it has ended.
    fn passes(body: &str) -> Result<bool, Fault> {
        let mut whole = Chunks::begin();
        let seen = whole.see(body.as_bytes());
        let mut bytewise = Chunks::begin();
        let each = body
            .as_bytes()
            .chunks(1)
            .try_for_each(|byte| bytewise.see(byte));
        assert_eq!(each, seen, "{body:?}");
        seen.map(|()| whole.has_ended())
    }

    #[test]
    fn bodies_as_clients_write_them_pass() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "05\r\nhello\r\nA;a=\"b\" ; c\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
            "1 ;x\r\n\n\r\n000\r\n\r\nGET / HTTP/1.1\n\n",
        ] {
            assert_eq!(passes(body), Ok(true), "{body:?}");
        }
        for body in [
            "",
            "5",
            "5\r\nhel",
            "fffffffffffffff\r\nhello",
            "0\r\nx: y\r\n",
        ] {
            assert_eq!(passes(body), Ok(false), "{body:?}");
        }
    }

    #[test]
    fn framing_that_can_be_read_twice_is_refused() {
        for body in [
            "\r\n",
            ";a\r\n",
            "5\nhello",
            "5;a\nb\r\nhello",
            "5;a\rb\r\nhello",
            "5 \r\nhello",
            "5 6\r\nhello",
            " 5\r\nhello",
            "+5\r\nhello",
            "-1\r\n",
            "0x5\r\nhello",
            "g\r\n",
            "10000000000000005\r\nhello",
            "5\r\nhelloo\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "0\r\n\n",
            "0\r\nx: y\n\r\n",
            "0\r\n x: y\r\n\r\n",
            "0\r\nx: \0\r\n\r\n",
        ] {
            assert!(passes(body).is_err(), "{body:?}");
        }
        let long = format!("5;{}\r\n", "a".repeat(MAX_LINE_BYTES));
        assert!(passes(&long).is_err());
    }
}
