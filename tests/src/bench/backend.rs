//! A model that answers at once, or token by token at a pace: so fast that what stands before it is
//! what is measured.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memchr::memmem;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::wire::Reader;

/// Its thread lives as long as the process.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pace: Arc<Pace>,
}

#[derive(Debug, Default)]
struct Pace {
    tokens: AtomicU64,
    /// Microseconds before each token.
    delay: AtomicU64,
}

impl Backend {
    /// Starts one on a thread of its own.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let pace = Arc::new(Pace::default());
        let shared = Arc::clone(&pace);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("backend".to_owned())
            .spawn(move || runtime.block_on(serve(listener, shared)))?;
        Ok(Self { address, pace })
    }

    /// How streams go from now on.
    pub(super) fn stream(&self, tokens: u64, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.pace.tokens.store(tokens, Ordering::Relaxed);
        self.pace.delay.store(micros, Ordering::Relaxed);
    }
}

async fn serve(listener: TcpListener, pace: Arc<Pace>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let pace = Arc::clone(&pace);
        connections.spawn(async move {
            // A connection that breaks is its client's affair.
            let _ = answer(socket, &pace).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut socket: TcpStream, pace: &Pace) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut reader = Reader::default();
    let whole = whole();
    while let Some(request) = reader.message(&mut socket, |_| {}).await? {
        match memmem::find(&request.body, br#""stream":true"#) {
            None => socket.write_all(&whole).await?,
            Some(_) => stream(&mut socket, pace).await?,
        }
    }
    Ok(())
}

/// About a KiB, as an answer of some hundred tokens is.
fn whole() -> Vec<u8> {
    let content = "The borrow checker looks at where a value lives. ".repeat(16);
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":500,"completion_tokens":160,"total_tokens":660}}}}"#
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn stream(socket: &mut TcpStream, pace: &Pace) -> io::Result<()> {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let tokens = pace.tokens.load(Ordering::Relaxed);
    let delay = Duration::from_micros(pace.delay.load(Ordering::Relaxed));
    socket.write_all(HEAD).await?;
    let token = chunk(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}"#,
    );
    let mut due = Instant::now();
    for _ in 0..tokens {
        due += delay;
        if !delay.is_zero() {
            sleep_until(due).await;
        }
        socket.write_all(&token).await?;
    }
    let last = chunk(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    );
    let done = chunk("data: [DONE]");
    let end = [&last[..], &done[..], b"0\r\n\r\n"].concat();
    socket.write_all(&end).await
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2).into_bytes()
}
