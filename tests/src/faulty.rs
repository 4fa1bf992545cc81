//! A backend that does what a test scripts and nothing else, byte by byte: for the faults that no
//! HTTP server should have.
//!
//! Invariants: a connection is handed out when its first byte has come, so those that a proxy opens
//! ahead of traffic stay out of the way; nothing is answered that the test does not write; the port
//! stays taken while nobody listens on it, so that connections are refused and no other process gets
//! them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::backend::Received;
use crate::wire::{Framing, Head, Wire};
use crate::within;

/// A port that stays taken whether somebody listens on it or not.
pub(crate) struct Port {
    address: SocketAddr,
    _taken: TcpSocket,
}

impl Port {
    pub(crate) fn take() -> Self {
        let taken = reusable();
        taken.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self {
            address: taken.local_addr().unwrap(),
            _taken: taken,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn listen(&self) -> TcpListener {
        let socket = reusable();
        socket.bind(self.address).unwrap();
        socket.listen(1024).unwrap()
    }
}

/// Two sockets may hold one port where both say so and at most one listens.
fn reusable() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
}

/// A backend whose every byte is the test's.
pub struct Faulty {
    port: Port,
    connections: Arc<AtomicUsize>,
    arrived: tokio::sync::Mutex<mpsc::UnboundedReceiver<Peer>>,
    hand_out: mpsc::UnboundedSender<Peer>,
    /// Accepts for as long as the backend is held; empty: it refuses.
    accepting: Mutex<JoinSet<()>>,
}

impl Faulty {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "an open port is no default value"
    )]
    pub fn new() -> Self {
        let (hand_out, arrived) = mpsc::unbounded_channel();
        let faulty = Self {
            port: Port::take(),
            connections: Arc::default(),
            arrived: tokio::sync::Mutex::new(arrived),
            hand_out,
            accepting: Mutex::default(),
        };
        faulty.listen();
        faulty
    }

    /// As a config's `url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Accepts connections again after [`Faulty::refuse`].
    ///
    /// # Panics
    /// When the port cannot be listened on.
    pub fn listen(&self) {
        let mut accepting = self.accepting.lock().unwrap();
        assert!(accepting.is_empty(), "it listens already");
        accepting.spawn(accept(
            self.port.listen(),
            self.hand_out.clone(),
            Arc::clone(&self.connections),
        ));
    }

    /// Refuses new connections, and closes those that nothing has come on.
    ///
    /// # Panics
    /// Never: nobody panics while holding the lock.
    pub async fn refuse(&self) {
        let mut accepting = std::mem::take(&mut *self.accepting.lock().unwrap());
        // The listener is closed when its task is gone.
        accepting.shutdown().await;
    }

    /// The next connection that something has come on.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next(&self) -> Peer {
        let mut arrived = self.arrived.lock().await;
        within("the faulty backend is spoken to", arrived.recv())
            .await
            .expect("a sender is held")
    }

    /// Whether something has come on a connection that nobody took.
    pub async fn has_next(&self) -> bool {
        !self.arrived.lock().await.is_empty()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Accepts until it is aborted; connections that nobody has spoken on end with it.
async fn accept(
    listener: TcpListener,
    hand_out: mpsc::UnboundedSender<Peer>,
    connections: Arc<AtomicUsize>,
) {
    let mut silent = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let hand_out = hand_out.clone();
        silent.spawn(async move {
            tcp.set_nodelay(true).unwrap();
            if matches!(tcp.peek(&mut [0]).await, Ok(1)) {
                // Nobody takes it any more once the test has ended.
                let _ = hand_out.send(Peer {
                    wire: Wire::new(tcp),
                });
            }
        });
        while silent.try_join_next().is_some() {}
    }
}

/// The backend's end of one connection. Dropping it closes the connection.
pub struct Peer {
    wire: Wire<TcpStream>,
}

impl Peer {
    /// Reads the head of a request, and leaves its body where it is.
    ///
    /// # Panics
    /// When none comes.
    pub async fn request_head(&mut self) -> Head {
        let head = within("a request's head", self.wire.head()).await;
        head.expect("a request's head")
            .expect("the connection is open")
    }

    /// Reads a whole request.
    ///
    /// # Panics
    /// When none comes.
    pub async fn request(&mut self) -> Received {
        let head = self.request_head().await;
        let framing = head.request_framing().expect("a request's framing");
        let body = within("a request's body", self.wire.body(framing)).await;
        Received {
            head,
            body: body.expect("a request's body"),
            connection: 0,
        }
    }

    /// Reads exactly this many bytes, whatever they are.
    ///
    /// # Errors
    /// When the connection ends before.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn read(&mut self, bytes: usize) -> io::Result<Bytes> {
        let body = self.wire.body(Framing::Length(bytes as u64));
        within("bytes of the proxy", body).await
    }

    /// Writes these bytes.
    ///
    /// # Errors
    /// When the proxy has closed the connection.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("the proxy reads", async {
            self.wire.stream.write_all(bytes.as_ref()).await?;
            self.wire.stream.flush().await
        })
        .await
    }

    /// Writes byte by byte, each in a packet of its own, with a pause behind it.
    ///
    /// # Errors
    /// When the proxy has closed the connection.
    pub async fn trickle(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) -> io::Result<()> {
        for byte in bytes.as_ref() {
            self.write([*byte]).await?;
            #[expect(clippy::disallowed_methods, reason = "a slow backend is played")]
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Ends what the backend sends, and goes on reading.
    ///
    /// # Errors
    /// When the proxy has closed the connection.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.wire.stream.shutdown().await
    }

    /// Resets the connection.
    ///
    /// # Panics
    /// When the socket takes no options.
    pub fn reset(self) {
        self.wire.stream.set_zero_linger().unwrap();
    }

    /// Closes the connection.
    pub fn close(self) {}

    /// Awaits that the proxy closes the connection.
    ///
    /// # Panics
    /// When it does not.
    pub async fn closed(&mut self) {
        within("the proxy closes the connection", self.wire.gone()).await;
    }
}
