//! A client's TCP connection, buffered on both sides, as pingora takes it.
//!
//! What was read to see what the client speaks stays in front of what follows. [`Activity`] tells
//! from outside that a client has begun to send.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType, l4,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes read at once. Each connection keeps such a buffer.
const READ_BUFFER: usize = 16 * 1024;
/// An answer's head and a plain body leave in one write up to this size.
const WRITE_BUFFER: usize = 16 * 1024;
/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the client has sent anything since [`Self::arm`].
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicBool,
    first: Notify,
}

impl Activity {
    /// Forgets what has come.
    pub(super) fn arm(&self) {
        self.begun.store(false, Ordering::Relaxed);
    }

    /// Says that something came. Relaxed: reader and waiter are the same task.
    pub(super) fn begin(&self) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            self.first.notify_one();
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Ends when the client has begun; an earlier beginning may end it too early, so ask
    /// [`Self::has_begun`].
    pub(super) async fn first_byte(&self) {
        while !self.has_begun() {
            self.first.notified().await;
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Transport {
    socket: BufStream<TcpStream>,
    /// Read already, and to be read again.
    peeked: BytesMut,
    activity: Arc<Activity>,
    digest: Arc<SocketDigest>,
}

impl Transport {
    /// Takes over a socket. `peer` is what the access log calls the client.
    pub(super) fn new(socket: TcpStream, peer: SocketAddr) -> Self {
        // Fails on a connection that is gone already, which the first read finds out.
        let _ = socket.set_nodelay(true);
        let digest = Arc::new(digest(&socket, peer));
        Self {
            socket: BufStream::with_capacity(READ_BUFFER, WRITE_BUFFER, socket),
            peeked: BytesMut::new(),
            activity: Arc::default(),
            digest,
        }
    }

    /// Watches the connection.
    pub(super) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Reads on into what was peeked, and gives it all. The length stays as it was at the end of
    /// the stream.
    ///
    /// # Errors
    /// What the socket says.
    pub(super) async fn peek_more(&mut self) -> io::Result<&[u8]> {
        let mut more = [0; 512];
        let read = self.socket.read(&mut more).await?;
        if read > 0 {
            self.activity.begin();
            self.peeked
                .extend_from_slice(more.get(..read).unwrap_or_default());
        }
        Ok(&self.peeked)
    }

    /// What was read, and is still to be read again.
    pub(super) fn peeked(&self) -> &[u8] {
        &self.peeked
    }

    /// Drops the first bytes of what was peeked.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.peeked.advance(bytes.min(self.peeked.len()));
    }

    /// Speaks for another client from now on: the one that a balancer names.
    pub(super) fn set_peer(&mut self, peer: SocketAddr) {
        self.digest = Arc::new(digest(self.socket.get_ref(), peer));
    }

    /// Whether the client begins as HTTP/2 does; decided at the first byte that differs.
    ///
    /// # Errors
    /// What the socket says.
    pub(super) async fn speaks_http2(&mut self) -> io::Result<bool> {
        loop {
            let compared = self.peeked.len().min(PREFACE.len());
            if self.peeked.get(..compared) != PREFACE.get(..compared) {
                return Ok(false);
            }
            let before = self.peeked.len();
            if compared == PREFACE.len() {
                return Ok(true);
            }
            if self.peek_more().await?.len() == before {
                return Ok(false); // the end, which HTTP/1.1 handles
            }
        }
    }
}

fn digest(socket: &TcpStream, peer: SocketAddr) -> SocketDigest {
    let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
    // A new cell is empty, so this cannot fail.
    let _ = digest
        .peer_addr
        .set(Some(l4::socket::SocketAddr::Inet(peer)));
    digest
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.peeked.is_empty() {
            let bytes = self.peeked.len().min(buffer.remaining());
            buffer.put_slice(&self.peeked.split_to(bytes));
            self.activity.begin();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.begin();
        }
        read
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Transport {
    async fn shutdown(&mut self) {
        // The other side may have closed first.
        let _ = self.socket.shutdown().await;
    }
}

impl UniqueID for Transport {
    fn id(&self) -> UniqueIDType {
        self.socket.get_ref().as_raw_fd()
    }
}

impl Ssl for Transport {}

impl Peek for Transport {}

impl GetTimingDigest for Transport {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new() // nobody asks
    }
}

impl GetProxyDigest for Transport {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Transport {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}
