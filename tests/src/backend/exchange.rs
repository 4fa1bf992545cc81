//! One request and the answer that a test gives it, piece by piece, on HTTP/1.1 or HTTP/2.
//!
//! Invariants: every write reaches the socket at once; an exchange that is dropped unfinished closes
//! its connection (HTTP/1.1) or resets its stream (HTTP/2).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;

use super::Received;
use crate::wire::{Framing, Wire};
use crate::within;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// In order; `content-length` is added.
    pub headers: Vec<(String, String)>,
    /// As sent.
    pub body: Bytes,
}

impl Reply {
    /// A JSON answer with exactly these bytes.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".into(), "application/json".into())];
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// The socket of an HTTP/1.1 connection.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

/// The answering side of one request.
pub(crate) enum Side {
    Http1 {
        wire: Wire<Socket>,
        /// The rest of the request's body.
        unread: Framing,
        /// Takes the connection back for its next request.
        back: oneshot::Sender<Wire<Socket>>,
    },
    Http2 {
        respond: SendResponse<Bytes>,
        send: Option<SendStream<Bytes>>,
        receive: RecvStream,
    },
}

/// One request that waits for its answer.
pub struct Exchange {
    /// What was asked.
    pub request: Received,
    side: Side,
}

impl Exchange {
    pub(crate) fn new(request: Received, side: Side) -> Self {
        Self { request, side }
    }

    /// Answers in one piece; the connection goes on.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn respond(mut self, reply: Reply) -> io::Result<()> {
        let mut headers = reply.headers;
        headers.push(("content-length".into(), reply.body.len().to_string()));
        match &mut self.side {
            Side::Http1 { wire, .. } => {
                let mut message = BytesMut::from(&head_bytes(reply.status, &headers)[..]);
                message.extend_from_slice(&reply.body);
                wire.stream.write_all(&message).await?;
                wire.stream.flush().await?;
            }
            Side::Http2 { respond, send, .. } => {
                let mut stream = respond
                    .send_response(h2_head(reply.status, &headers), false)
                    .map_err(other)?;
                stream.send_data(reply.body, true).map_err(other)?;
                *send = Some(stream);
            }
        }
        self.give_back();
        Ok(())
    }

    /// Begins an answer of unknown length (HTTP/1.1: chunked).
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn begin(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut headers: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        match &mut self.side {
            Side::Http1 { wire, .. } => {
                headers.push(("transfer-encoding".into(), "chunked".into()));
                wire.stream.write_all(&head_bytes(status, &headers)).await?;
                wire.stream.flush().await
            }
            Side::Http2 { respond, send, .. } => {
                let stream = respond.send_response(h2_head(status, &headers), false);
                *send = Some(stream.map_err(other)?);
                Ok(())
            }
        }
    }

    /// Begins an event stream.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn begin_events(&mut self) -> io::Result<()> {
        self.begin(
            200,
            &[
                ("content-type", "text/event-stream"),
                ("cache-control", "no-cache"),
            ],
        )
        .await
    }

    /// Sends a piece of a body that [`Exchange::begin`] began.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> io::Result<()> {
        let bytes = bytes.into();
        match &mut self.side {
            Side::Http1 { wire, .. } => {
                let mut chunk = BytesMut::from(format!("{:x}\r\n", bytes.len()).as_bytes());
                chunk.extend_from_slice(&bytes);
                chunk.extend_from_slice(b"\r\n");
                wire.stream.write_all(&chunk).await?;
                wire.stream.flush().await
            }
            Side::Http2 { send, .. } => {
                let send = send.as_mut().expect("begin comes before write");
                send.send_data(bytes, false).map_err(other)
            }
        }
    }

    /// Sends raw bytes on an HTTP/1.1 connection: for answers that no server should give.
    ///
    /// # Errors
    /// When the peer is gone.
    ///
    /// # Panics
    /// On HTTP/2.
    pub async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.side {
            Side::Http1 { wire, .. } => {
                wire.stream.write_all(bytes).await?;
                wire.stream.flush().await
            }
            Side::Http2 { .. } => panic!("raw bytes are for HTTP/1.1"),
        }
    }

    /// Sends one event: `data: …` and an empty line.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn event(&mut self, data: &str) -> io::Result<()> {
        self.write(format!("data: {data}\n\n")).await
    }

    /// Sends a chat chunk with this content.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn token(&mut self, content: &str) -> io::Result<()> {
        let content = serde_json::to_string(content).unwrap();
        self.event(&format!(
            r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{{"content":{content}}},"finish_reason":null}}]}}"#
        ))
        .await
    }

    /// Ends a chat stream as a model does: the finish, `[DONE]`, and the end of the body.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn finish_chat(mut self) -> io::Result<()> {
        self.event(
            r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        )
        .await?;
        self.event("[DONE]").await?;
        self.finish().await
    }

    /// Ends a body in good order; the connection goes on.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn finish(mut self) -> io::Result<()> {
        match &mut self.side {
            Side::Http1 { wire, .. } => {
                wire.stream.write_all(b"0\r\n\r\n").await?;
                wire.stream.flush().await?;
            }
            Side::Http2 { send, .. } => {
                let send = send.as_mut().expect("begin comes before finish");
                send.send_data(Bytes::new(), true).map_err(other)?;
            }
        }
        self.give_back();
        Ok(())
    }

    /// Resets the connection (HTTP/1.1, by RST) or the stream (HTTP/2).
    ///
    /// # Panics
    /// When the socket takes no options.
    pub fn reset(self) {
        match self.side {
            Side::Http1 { wire, .. } => wire.stream.tcp().set_zero_linger().unwrap(),
            Side::Http2 {
                mut respond, send, ..
            } => match send {
                Some(mut send) => send.send_reset(Reason::INTERNAL_ERROR),
                None => respond.send_reset(Reason::INTERNAL_ERROR),
            },
        }
    }

    /// Resets the stream with `REFUSED_STREAM`.
    ///
    /// # Panics
    /// On HTTP/1.1, which has no such thing.
    pub fn refuse_stream(self) {
        match self.side {
            Side::Http1 { .. } => panic!("only HTTP/2 refuses streams"),
            Side::Http2 { mut respond, .. } => respond.send_reset(Reason::REFUSED_STREAM),
        }
    }

    /// Closes the connection in the middle of the answer, without a reset.
    pub fn close(self) {}

    /// Awaits that the peer closes the connection (HTTP/1.1) or resets the stream (HTTP/2).
    ///
    /// # Panics
    /// When it does not.
    pub async fn closed(&mut self) -> Instant {
        within("the backend's connection is closed", self.gone()).await;
        Instant::now()
    }

    /// [`Exchange::closed`] without a limit.
    pub(crate) async fn gone(&mut self) {
        match &mut self.side {
            Side::Http1 { wire, .. } => wire.gone().await,
            Side::Http2 { respond, send, .. } => {
                let reset = poll_fn(|cx| match send {
                    Some(send) => send.poll_reset(cx),
                    None => respond.poll_reset(cx),
                });
                // An error is the end of the whole connection.
                let _: Result<Reason, h2::Error> = reset.await;
            }
        }
    }

    /// The next piece of a request's body, where the request was handed out at its head.
    ///
    /// # Errors
    /// When the body breaks off.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn body_piece(&mut self) -> io::Result<Option<Bytes>> {
        let piece = async {
            match &mut self.side {
                Side::Http1 { wire, unread, .. } => wire.piece(unread).await,
                Side::Http2 { receive, .. } => match receive.data().await {
                    None => Ok(None),
                    Some(Err(error)) => Err(other(error)),
                    Some(Ok(piece)) => {
                        receive
                            .flow_control()
                            .release_capacity(piece.len())
                            .map_err(other)?;
                        Ok(Some(piece))
                    }
                },
            }
        };
        within("a piece of the request's body", piece).await
    }

    fn give_back(self) {
        if let Side::Http1 { wire, back, .. } = self.side {
            // The connection's task is gone only when the whole backend is.
            let _ = back.send(wire);
        }
    }
}

fn head_bytes(status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown");
    let mut head = format!("HTTP/1.1 {status} {reason}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn h2_head(status: u16, headers: &[(String, String)]) -> http::Response<()> {
    let mut head = http::Response::builder().status(status);
    for (name, value) in headers {
        head = head.header(name, value);
    }
    head.body(()).expect("tests write valid heads")
}

fn other(error: h2::Error) -> io::Error {
    io::Error::other(error)
}
