//! The tour's client: asks as any OpenAI client would, and notes what the proxy says about it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use http::HeaderMap;
use reqwest::StatusCode;
use serde_json::Value;

/// Longest time that one request of the tour may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Speaks to one proxy's two listeners.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    data: SocketAddr,
    admin: SocketAddr,
}

/// An answer to a chat request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    /// The first choice's text.
    pub(super) text: String,
    /// Events with text in them; 0 for a plain answer.
    pub(super) text_events: usize,
    /// The stream ended with `[DONE]`; true for a plain answer.
    pub(super) is_complete: bool,
    /// To the first text.
    pub(super) first: Duration,
    /// To the last byte.
    pub(super) total: Duration,
}

impl Client {
    /// # Errors
    /// When the system has no TLS provider, although nothing here speaks TLS.
    pub(super) fn new(data: SocketAddr, admin: SocketAddr) -> anyhow::Result<Self> {
        // The client wants one although every address is plain HTTP; another part of the process
        // may have installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(REQUEST_LIMIT)
            .build()?;
        Ok(Self { http, data, admin })
    }

    /// Sends a chat request, streamed where its body says so.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not what the protocol says.
    pub(super) async fn chat(&self, body: &Value) -> anyhow::Result<Reply> {
        let began = Instant::now();
        let mut response = self
            .http
            .post(format!("http://{}/v1/chat/completions", self.data))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await?;
        let status = response.status();
        let headers = response.headers().clone();
        let is_stream = headers
            .get("content-type")
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let mut reply = Reply {
            status,
            headers,
            text: String::new(),
            text_events: 0,
            is_complete: !is_stream,
            first: Duration::ZERO,
            total: Duration::ZERO,
        };
        let mut received = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            received.extend_from_slice(&chunk);
            while is_stream && let Some(end) = memchr::memmem::find(&received, b"\n\n") {
                let event: Vec<u8> = received.drain(..end + 2).collect();
                reply.take_event(&event, began)?;
            }
        }
        reply.total = began.elapsed();
        if is_stream {
            ensure!(received.is_empty(), "the stream ends within an event");
        } else {
            reply.take_plain(&received)?;
        }
        Ok(reply)
    }

    /// Reads JSON from the admin listener.
    ///
    /// # Errors
    /// When it does not answer with 200 and JSON.
    pub(super) async fn admin(&self, path: &str) -> anyhow::Result<Value> {
        let response = self
            .http
            .get(format!("http://{}{path}", self.admin))
            .send()
            .await?;
        let status = response.status();
        let body = response.bytes().await?;
        ensure!(status == StatusCode::OK, "{path}: {status}");
        serde_json::from_slice(&body).with_context(|| format!("{path} is not JSON"))
    }

    /// Waits until the proxy takes requests.
    ///
    /// # Errors
    /// When it has not after `limit`.
    pub(super) async fn ready(&self, limit: Duration) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.admin);
        let mut last = String::new();
        let asking = async {
            loop {
                match self.http.get(&url).send().await {
                    Ok(response) if response.status() == StatusCode::OK => return,
                    Ok(response) => last = response.status().to_string(),
                    Err(error) => last = error.to_string(),
                }
                pause().await;
            }
        };
        let waited = tokio::time::timeout(limit, asking).await;
        if waited.is_err() {
            bail!("the proxy is not ready after {limit:?}: {last}");
        }
        Ok(())
    }
}

/// Waits before the admin API is asked again.
#[expect(clippy::disallowed_methods, reason = "the admin API tells no events")]
pub(super) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

impl Reply {
    /// A header of the proxy; empty when it is absent.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    pub(super) fn label(&self) -> &str {
        self.header("x-sluicegate-label")
    }

    pub(super) fn pool(&self) -> &str {
        self.header("x-sluicegate-pool")
    }

    pub(super) fn backend(&self) -> &str {
        self.header("x-sluicegate-backend")
    }

    pub(super) fn cache(&self) -> &str {
        self.header("x-sluicegate-cache")
    }

    /// 0 when nothing was saved.
    pub(super) fn tokens_saved(&self) -> u64 {
        self.header("x-sluicegate-tokens-saved")
            .parse()
            .unwrap_or(0)
    }

    /// Stages and their milliseconds, as `server-timing` has them.
    pub(super) fn stages(&self) -> Vec<(&str, &str)> {
        self.header("server-timing")
            .split(',')
            .filter_map(|entry| entry.trim().split_once(";dur="))
            .collect()
    }

    fn take_event(&mut self, event: &[u8], began: Instant) -> anyhow::Result<()> {
        let event = std::str::from_utf8(event)?.trim_end();
        let Some(data) = event.strip_prefix("data: ") else {
            return Ok(());
        };
        if data == "[DONE]" {
            self.is_complete = true;
            return Ok(());
        }
        let chunk: Value = serde_json::from_str(data).context("an event is not JSON")?;
        ensure!(chunk.get("error").is_none(), "an error event: {data}");
        if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str()
            && !text.is_empty()
        {
            if self.text_events == 0 {
                self.first = began.elapsed();
            }
            self.text_events += 1;
            self.text.push_str(text);
        }
        Ok(())
    }

    fn take_plain(&mut self, body: &[u8]) -> anyhow::Result<()> {
        self.first = self.total;
        let body: Value = serde_json::from_slice(body).context("the answer is not JSON")?;
        let text = &body["choices"][0]["message"]["content"];
        self.text = text
            .as_str()
            .or(body["error"]["message"].as_str())
            .unwrap_or_default()
            .into();
        Ok(())
    }
}
