//! The HTTP/2 client: by prior knowledge, or behind a handshake.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Answer, Request};
use crate::wire::Head;
use crate::within;

/// Large enough that flow control never is what a test sees.
const WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// One HTTP/2 connection.
pub struct H2Client {
    send: SendRequest<Bytes>,
    /// Carries the streams for as long as the client is held.
    connection: JoinSet<()>,
}

/// One request on an HTTP/2 connection. Dropped early, it resets its stream.
pub struct H2Exchange {
    // Kept: dropping the sending half of a finished request is fine, of an open one a reset.
    _send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
}

impl H2Client {
    /// Opens a connection and exchanges the settings.
    ///
    /// # Panics
    /// When nobody listens or HTTP/2 is not spoken.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with_window(address, WINDOW_BYTES).await
    }

    /// [`H2Client::connect`], where answers get only so many bytes before they are read.
    ///
    /// # Panics
    /// As [`H2Client::connect`].
    pub async fn connect_with_window(address: SocketAddr, window: u32) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self::over_with_window(tcp, window).await
    }

    /// [`H2Client::connect`] on a connection that is open, such as one behind a handshake.
    ///
    /// # Panics
    /// When HTTP/2 is not spoken.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self::over_with_window(stream, WINDOW_BYTES).await
    }

    async fn over_with_window(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        window: u32,
    ) -> Self {
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window)
            .handshake(stream)
            .await
            .expect("the proxy speaks HTTP/2");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // How a connection ends shows in its streams.
            let _ = connection.await;
        });
        Self {
            send,
            connection: tasks,
        }
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn begin(&mut self, request: &Request) -> H2Exchange {
        let mut head = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("http://sluicegate.test{}", request.target))
            .version(http::Version::HTTP_2);
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        poll_fn(|cx| self.send.poll_ready(cx))
            .await
            .expect("the connection is open");
        let end = request.body.is_empty();
        let head = head.body(()).expect("tests write valid heads");
        let (response, mut send) = self.send.send_request(head, end).expect("a stream is free");
        if !end {
            send.send_data(request.body.clone(), true)
                .expect("the stream is open");
        }
        H2Exchange {
            _send: send,
            response: Some(response),
            body: None,
        }
    }

    /// Awaits that the proxy ends the connection.
    ///
    /// # Panics
    /// When it does not.
    pub async fn closed(&mut self) {
        within(
            "the proxy closes the connection",
            self.connection.join_next(),
        )
        .await;
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// When the stream breaks or the answer takes longer than 30 s.
    pub async fn send(&mut self, request: &Request) -> Answer {
        let mut exchange = self.begin(request).await;
        let head = exchange.head().await;
        let head_at = Instant::now();
        let mut body = BytesMut::new();
        while let Some(piece) = exchange.piece().await.expect("a whole answer") {
            body.extend_from_slice(&piece);
        }
        Answer {
            status: head.status(),
            head,
            body: body.freeze(),
            head_at,
        }
    }
}

impl H2Exchange {
    /// The head of the answer.
    ///
    /// # Panics
    /// When none comes.
    pub async fn head(&mut self) -> Head {
        let response = self.response.take().expect("the head is read once");
        let response = within("an answer's head", response)
            .await
            .expect("an answer's head");
        let (parts, body) = response.into_parts();
        self.body = Some(body);
        let headers = parts.headers.iter().map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        Head {
            raw: Bytes::new(),
            line: format!("HTTP/2 {}", parts.status.as_str()),
            headers: headers.collect(),
        }
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// When the stream is reset.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let body = self.body.as_mut().expect("the head comes first");
        match within("a piece of the answer", body.data()).await {
            None => Ok(None),
            Some(Err(error)) => Err(io::Error::other(error)),
            Some(Ok(piece)) => {
                body.flow_control()
                    .release_capacity(piece.len())
                    .map_err(io::Error::other)?;
                Ok(Some(piece))
            }
        }
    }
}
