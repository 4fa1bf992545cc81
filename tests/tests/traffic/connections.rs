//! Connections to backends are kept, shared and never trusted when they are stale.

use std::sync::Arc;

use serde_json::json;
use sluicegate_tests::{
    ANSWER, Backend, Certificate, Config, Pool, Proxy, Reply, Start, ask, chat_with, eventually,
};

const CLIENTS: usize = 16;
const REQUESTS: usize = 1_000;
/// What the harness sets in its configs.
const WORKERS: usize = 2;

/// Sends 1,000 requests from 16 keep-alive clients, every other one streamed.
async fn thousand_requests(proxy: &Arc<Proxy>) {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let proxy = Arc::clone(proxy);
        clients.spawn(async move {
            let mut client = proxy.client().await;
            let share = REQUESTS / CLIENTS + usize::from(number < REQUESTS % CLIENTS);
            for turn in 0..share {
                let request = chat_with("hi", &json!({"stream": turn % 2 == 0}));
                client.send(&request).await.expect_status(200);
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
}

/// Sends them, and gives how many connections they opened besides those opened ahead of traffic.
///
/// A connection that was opened ahead and that nobody came to use is none of theirs.
async fn opened_by_requests(backend: &Backend, proxy: Proxy) -> usize {
    let ahead = eventually("each worker has connected ahead", async || {
        match backend.connections() {
            WORKERS => Ok(WORKERS),
            other => Err(other),
        }
    })
    .await;
    thousand_requests(&Arc::new(proxy)).await;
    assert_eq!(backend.request_count(), REQUESTS);
    let (all, used) = (backend.connections(), backend.used_connections());
    eprintln!("{REQUESTS} requests: {ahead} connections ahead, {all} in the end, {used} used");
    assert!(used <= CLIENTS, "{used} connections used");
    all - ahead
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_clients_open_at_most_sixteen_connections() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main").backend(&backend).health();
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    let opened = opened_by_requests(&backend, proxy).await;
    assert!(opened <= CLIENTS, "{opened} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_clients_cost_one_handshake_a_connection() {
    let certificate = Certificate::new();
    let backend = Start::new("b").tls(&certificate).start().await;
    let opened = opened_by_requests(&backend, Proxy::start(&Config::one(&backend)).await).await;
    assert!(opened <= CLIENTS, "{opened} connections");
    assert_eq!(backend.handshakes(), backend.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_backend_serves_sixteen_clients_on_a_few_connections() {
    let certificate = Certificate::new();
    for start in [
        Start::new("b").http2(),
        Start::new("b").http2().tls(&certificate),
    ] {
        let backend = start.start().await;
        let proxy = Arc::new(Proxy::start(&Config::one(&backend)).await);
        thousand_requests(&proxy).await;
        assert_eq!(backend.request_count(), REQUESTS);
        assert!(
            backend.connections() <= CLIENTS,
            "{} connections",
            backend.connections()
        );
    }
}

#[tokio::test]
async fn connection_that_the_backend_closed_while_idle_fails_nobody() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend).set("server.workers", 1)).await;
    let mut client = proxy.client().await;
    for _ in 0..5 {
        client.begin(&ask("hi")).await;
        let mut exchange = backend.next_request().await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
            ANSWER.len()
        );
        exchange.write_raw(head.as_bytes()).await.unwrap();
        assert_eq!(client.head().await.status(), 200);
        client.rest().await.unwrap();
        exchange.close();
    }
}

#[tokio::test]
async fn connection_that_the_backend_closes_on_reuse_is_replaced_unseen() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend).set("server.workers", 1)).await;
    let mut client = proxy.client().await;
    client.begin(&ask("first")).await;
    let first = backend.next_request().await;
    let connection = first.request.connection;
    first.respond(Reply::json(200, ANSWER)).await.unwrap();
    assert_eq!(client.head().await.status(), 200);
    client.rest().await.unwrap();

    client.begin(&ask("second")).await;
    let stale = backend.next_request().await;
    assert_eq!(
        stale.request.connection, connection,
        "the connection is reused"
    );
    stale.close();
    let fresh = backend.next_request().await;
    assert_ne!(fresh.request.connection, connection);
    assert!(fresh.request.text().contains("second"));
    fresh.respond(Reply::json(200, ANSWER)).await.unwrap();
    assert_eq!(client.head().await.status(), 200);
}

#[tokio::test]
async fn connection_with_connection_close_is_not_reused() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend).set("server.workers", 1)).await;
    let mut client = proxy.client().await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        client.begin(&ask("hi")).await;
        let exchange = backend.next_request().await;
        seen.push(exchange.request.connection);
        let reply = Reply::json(200, ANSWER).header("connection", "close");
        exchange.respond(reply).await.unwrap();
        let head = client.head().await;
        assert_eq!(head.status(), 200);
        assert!(!head.closes(), "the client's connection is its own affair");
        client.rest().await.unwrap();
    }
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn backend_with_an_untrusted_certificate_gets_nothing() {
    let certificate = Certificate::new();
    let other = Certificate::new();
    let backend = Start::new("b").tls(&certificate).start().await;
    let mut pool = toml::Table::new();
    pool.insert("url".into(), backend.url().into());
    pool.insert(
        "ca_file".into(),
        other.folder().join("ca.pem").display().to_string().into(),
    );
    let pool = Pool::new("main").set("backends", vec![toml::Value::Table(pool)]);
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    let status = proxy.send(&ask("hi")).await.status;
    assert!([502, 503].contains(&status), "{status}");
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn clients_can_speak_tls() {
    let certificate = Certificate::new();
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .set(
            "server.tls.cert_file",
            certificate.folder().join("cert.pem").display().to_string(),
        )
        .set(
            "server.tls.key_file",
            certificate.folder().join("key.pem").display().to_string(),
        );
    let proxy = Proxy::start(&config).await;
    let mut client = proxy.tls_client(&certificate).await;
    for _ in 0..2 {
        client.send(&ask("hi")).await.expect_status(200);
    }
}
