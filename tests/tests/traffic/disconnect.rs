//! A client that goes away takes its upstream with it, at once, wherever the request stands.

use std::time::{Duration, Instant};

use serde_json::json;
use sluicegate_tests::{
    Backend, Client, Config, Exchange, H2Client, H2Exchange, Proxy, Request, Start, chat_with,
    median,
};

/// How often each case is tried for its median.
const ROUNDS: usize = 20;

/// What is promised; a machine under load shows below a millisecond.
const LIMIT: Duration = Duration::from_millis(50);

/// Where the request stands when its client leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stand {
    WaitingForHead,
    BeforeFirstToken,
    MidStream,
    NotStreaming,
}

const STANDS: [Stand; 4] = [
    Stand::WaitingForHead,
    Stand::BeforeFirstToken,
    Stand::MidStream,
    Stand::NotStreaming,
];

/// A client in the middle of a request.
enum Waiting {
    Http1(Client),
    Http2(H2Exchange, H2Client),
}

impl Waiting {
    async fn begin(proxy: &Proxy, http2: bool, request: &Request) -> Self {
        match http2 {
            false => {
                let mut client = proxy.client().await;
                client.begin(request).await;
                Self::Http1(client)
            }
            true => {
                let mut client = proxy.h2_client().await;
                let exchange = client.begin(request).await;
                Self::Http2(exchange, client)
            }
        }
    }

    async fn read_some(&mut self) {
        let piece = match self {
            Self::Http1(client) => {
                client.head().await;
                client.piece().await
            }
            Self::Http2(exchange, _) => {
                exchange.head().await;
                exchange.piece().await
            }
        };
        assert!(piece.unwrap().is_some());
    }

    /// Closes the connection, or on HTTP/2 only resets the stream: the connection stays.
    fn leave(self) -> Option<H2Client> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(_, client) => Some(client),
        }
    }
}

/// Brings a request to its stand.
async fn bring_to(stand: Stand, exchange: &mut Exchange, client: &mut Waiting) {
    if matches!(stand, Stand::BeforeFirstToken | Stand::MidStream) {
        exchange.begin_events().await.unwrap();
        let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}"#;
        exchange.event(role).await.unwrap();
    }
    if stand == Stand::MidStream {
        exchange.token("one").await.unwrap();
        client.read_some().await;
    }
}

async fn leaving_cancels(backend: &Backend, proxy: &Proxy, http2: bool, stand: Stand) {
    let request = chat_with("hi", &json!({"stream": stand != Stand::NotStreaming}));
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut client = Waiting::begin(proxy, http2, &request).await;
        let mut exchange = backend.next_request().await;
        bring_to(stand, &mut exchange, &mut client).await;
        let left = Instant::now();
        let _connection = client.leave();
        times.push(exchange.closed().await.saturating_duration_since(left));
    }
    let median = median(times);
    let client = if http2 { "h2" } else { "h1" };
    eprintln!(
        "{client} client leaves, {stand:?}: upstream closed after {median:?} (median of {ROUNDS})"
    );
    assert!(median < LIMIT, "{client} {stand:?}: {median:?}");
    assert!(
        !backend.has_request().await,
        "a request without a client was tried again"
    );
}

#[tokio::test]
async fn leaving_http1_client_cancels_its_upstream() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for stand in STANDS {
        leaving_cancels(&backend, &proxy, false, stand).await;
    }
    proxy.await_idle().await;
}

#[tokio::test]
async fn leaving_http2_client_cancels_its_upstream() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for stand in STANDS {
        leaving_cancels(&backend, &proxy, true, stand).await;
    }
    proxy.await_idle().await;
}

#[tokio::test]
async fn leaving_client_resets_its_stream_of_an_http2_upstream() {
    let backend = Start::new("b").http2().scripted().start().await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for stand in STANDS {
        leaving_cancels(&backend, &proxy, false, stand).await;
    }
    proxy.await_idle().await;
}

#[tokio::test]
async fn leaving_with_the_cache_on_stores_nothing_and_cancels() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend).cached()).await;
    for stand in STANDS {
        leaving_cancels(&backend, &proxy, false, stand).await;
    }
    proxy.await_idle().await;
    assert_eq!(
        proxy.metrics().await.sum("sluicegate_cache_entries", &[]),
        0.0
    );
}

#[tokio::test]
async fn leaving_client_of_a_passed_through_path_cancels_its_upstream() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for midway in [false, true] {
        let mut client = proxy.client().await;
        client
            .begin(&Request::post(
                "/v1/audio/speech",
                r#"{"model":"m","input":"x"}"#,
            ))
            .await;
        let mut exchange = backend.next_request().await;
        if midway {
            exchange
                .begin(200, &[("content-type", "audio/mpeg")])
                .await
                .unwrap();
            exchange.write("some sound").await.unwrap();
            client.head().await;
            client.piece().await.unwrap();
        }
        drop(client);
        exchange.closed().await;
    }
    proxy.await_idle().await;
}

#[tokio::test]
async fn client_that_left_has_its_access_log_line() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let request = chat_with("hi", &json!({"stream": true})).header("x-request-id", "left-early");
    let mut client = proxy.client().await;
    client.begin(&request).await;
    let mut exchange = backend.next_request().await;
    drop(client);
    exchange.closed().await;
    let line = proxy.access_line("left-early").await;
    assert_eq!(line["outcome"], "aborted", "{line}");
    assert_eq!(proxy.access_lines("left-early"), 1);
    let aborted = proxy
        .metrics()
        .await
        .sum("sluicegate_requests_total", &[("status", "aborted")]);
    assert_eq!(aborted, 1.0);
}
