//! Clients that control every byte: HTTP/1.1 with keep-alive on a raw socket, and HTTP/2.
//!
//! Nothing is added to a request but `host` and the framing. Dropping a client in the middle closes
//! its connection; dropping an [`H2Exchange`] resets its stream.

mod http2;

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

pub use http2::{H2Client, H2Exchange};

use crate::backend::Certificate;
use crate::wire::{Framing, Head, Stream, Wire};
use crate::within;

/// A request as it is to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Request {
    /// Without a body.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target, Bytes::new())
    }

    /// With these bytes as a JSON body.
    pub fn post(target: &str, body: impl Into<Bytes>) -> Self {
        Self::new("POST", target, body.into()).header("content-type", "application/json")
    }

    /// A chat request.
    pub fn chat(body: impl Into<Bytes>) -> Self {
        Self::post("/v1/chat/completions", body)
    }

    /// Any method, without headers.
    #[must_use]
    pub fn new(method: &str, target: &str, body: Bytes) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body,
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// The body on the wire.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The head on the wire; `content-length` is added for a body, `host` where none is given.
    #[must_use]
    pub fn head_bytes(&self) -> BytesMut {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head.push_str("host: sluicegate.test\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = self
            .headers
            .iter()
            .any(|(name, _)| name == "transfer-encoding");
        if !framed && (!self.body.is_empty() || self.method == "POST") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        BytesMut::from(head.as_bytes())
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Line and headers.
    pub head: Head,
    /// Without its framing.
    pub body: Bytes,
    /// When the head was there.
    pub head_at: Instant,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none: with the body.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.body))
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the answer is UTF-8")
    }

    /// A header's first value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The answer itself when it has this status.
    ///
    /// # Panics
    /// When it has another: with the body.
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(
            self.status, status,
            "{:?} {:?}",
            self.head.headers, self.body
        );
        self
    }

    /// `error.code` of an OpenAI error.
    ///
    /// # Panics
    /// When the body is not such an error.
    pub fn error_code(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{body}"
        );
        error["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// One HTTP/1.1 connection.
pub struct Client {
    wire: Wire<Box<dyn Stream>>,
    method: String,
    framing: Framing,
}

impl Client {
    /// Opens a connection, without delaying small writes.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self::over(Box::new(tcp))
    }

    /// Opens a connection whose system takes only some kilobytes that nobody reads.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let tcp = socket.connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self::over(Box::new(tcp))
    }

    /// Opens a connection over TLS.
    ///
    /// # Panics
    /// When nobody listens or the certificate is not trusted.
    pub async fn connect_tls(address: SocketAddr, certificate: &Certificate) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        Self::try_tls_over(tcp, certificate).await.unwrap()
    }

    /// Speaks TLS on a connection that is open.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn try_tls_over(tcp: TcpStream, certificate: &Certificate) -> io::Result<Self> {
        let stream = certificate.handshake(tcp, "localhost", &["http/1.1"]);
        Ok(Self::over_tls(stream.await?))
    }

    /// Speaks HTTP/1.1 behind a handshake.
    #[must_use]
    pub fn over_tls(stream: TlsStream<TcpStream>) -> Self {
        Self::over(Box::new(stream))
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            wire: Wire::new(stream),
            method: String::new(),
            framing: Framing::Done,
        }
    }

    /// Sends a request and reads the whole answer; the connection can be used again.
    ///
    /// # Panics
    /// When the connection breaks or the answer takes longer than 30 s.
    pub async fn send(&mut self, request: &Request) -> Answer {
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("{} {}: {error}", request.method, request.target),
        }
    }

    /// [`Client::send`], where a broken answer is not a failure.
    ///
    /// # Errors
    /// When the connection breaks.
    ///
    /// # Panics
    /// When the answer takes longer than 30 s.
    pub async fn try_send(&mut self, request: &Request) -> io::Result<Answer> {
        within("an answer", async {
            self.try_begin(request).await?;
            let head = self.try_head().await?;
            let head_at = Instant::now();
            let body = self.wire.body(self.framing).await?;
            self.framing = Framing::Done;
            Ok(Answer {
                status: head.status(),
                head,
                body,
                head_at,
            })
        })
        .await
    }

    /// Sends a request: head and body in one write.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn begin(&mut self, request: &Request) {
        self.try_begin(request)
            .await
            .expect("the proxy takes the request");
    }

    async fn try_begin(&mut self, request: &Request) -> io::Result<()> {
        let mut message = request.head_bytes();
        message.extend_from_slice(&request.body);
        self.method.clone_from(&request.method);
        self.wire.stream.write_all(&message).await?;
        self.wire.stream.flush().await
    }

    /// Sends raw bytes.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn write_raw(&mut self, bytes: &[u8]) {
        self.wire
            .stream
            .write_all(bytes)
            .await
            .expect("the proxy reads");
        self.wire.stream.flush().await.expect("the proxy reads");
    }

    /// The head of the next answer; 100 is skipped.
    ///
    /// # Panics
    /// When none comes.
    pub async fn head(&mut self) -> Head {
        within("an answer's head", self.try_head())
            .await
            .expect("an answer's head")
    }

    /// The very next head, be it 100.
    ///
    /// # Panics
    /// When none comes.
    pub async fn any_head(&mut self) -> Head {
        let head = within("a head", self.wire.head()).await.expect("a head");
        head.expect("the connection is open")
    }

    async fn try_head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.wire.head().await?;
            let head = head.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
            if head.status() >= 200 {
                self.framing = head.answer_framing(&self.method)?;
                return Ok(head);
            }
        }
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// When the body breaks off.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        within("a piece of the answer", self.wire.piece(&mut self.framing)).await
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// When the body breaks off.
    ///
    /// # Panics
    /// When it takes longer than 30 s.
    pub async fn rest(&mut self) -> io::Result<Bytes> {
        let body = within("the rest of the answer", self.wire.body(self.framing)).await;
        self.framing = Framing::Done;
        body
    }

    /// Awaits that the proxy closes the connection.
    ///
    /// # Panics
    /// When it does not.
    pub async fn closed(&mut self) {
        within("the proxy closes the connection", self.wire.gone()).await;
    }
}
