//! The PROXY protocol: a balancer tells who the client is.

use std::net::SocketAddr;

use rustix::process::Signal;
use sluicegate_tests::{Backend, Certificate, Client, Config, Proxy, Request, ask, eventually};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
/// The same client, from port 4712.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x68\x01\xbb";

fn balancers(networks: &[&str]) -> toml::Value {
    networks.to_vec().into()
}

async fn after(address: SocketAddr, header: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(header).await.unwrap();
    tcp
}

#[tokio::test]
async fn access_log_names_the_client_that_the_balancer_names() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.proxy_protocol_from", balancers(&["127.0.0.1"]));
    let proxy = Proxy::start(&config).await;
    for (header, id, client) in [(V1, "one", "192.0.2.7:4711"), (V2, "two", "192.0.2.7:4712")] {
        let mut connection = proxy.client().await;
        connection.write_raw(header).await;
        // The connection's next requests have the same client.
        for id in [format!("{id}-a"), format!("{id}-b")] {
            let request = ask("hi").header("x-request-id", &id);
            connection.send(&request).await.expect_status(200);
            let line = proxy.access_line(&id).await;
            assert_eq!(line["client"], client, "{line}");
        }
    }
    // A balancer that asks for itself.
    let mut own = proxy.client().await;
    own.write_raw(b"PROXY UNKNOWN\r\n").await;
    let request = ask("hi").header("x-request-id", "own");
    own.send(&request).await.expect_status(200);
    let line = proxy.access_line("own").await;
    assert!(
        line["client"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
}

#[tokio::test]
async fn header_comes_before_the_tls_handshake() {
    let certificate = Certificate::new();
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .set("server.proxy_protocol_from", balancers(&["127.0.0.1"]))
        .set("server.tls.cert_file", certificate.file("cert.pem"))
        .set("server.tls.key_file", certificate.file("key.pem"));
    let proxy = Proxy::start(&config).await;
    let tcp = after(proxy.data(), V2).await;
    let mut client = Client::try_tls_over(tcp, &certificate).await.unwrap();
    let request = ask("hi").header("x-request-id", "tls");
    client.send(&request).await.expect_status(200);
    let line = proxy.access_line("tls").await;
    assert_eq!(line["client"], "192.0.2.7:4712", "{line}");
}

#[tokio::test]
async fn connection_of_a_balancer_without_a_whole_header_is_closed() {
    let backend = Backend::model("b").await;
    let config =
        Config::one(&backend).set("server.proxy_protocol_from", balancers(&["127.0.0.0/8"]));
    let proxy = Proxy::start(&config).await;
    for wrong in [
        Request::get("/livez").head_bytes().to_vec(),
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n".to_vec(),
    ] {
        let mut connection = proxy.client().await;
        connection.write_raw(&wrong).await;
        connection.closed().await;
    }
    proxy
        .reload_and_wait(&config.set("server.header_timeout", "300ms"))
        .await;
    let mut half = proxy.client().await;
    half.write_raw(b"PROXY TCP4 192.0.2.7 ").await;
    half.closed().await;
    proxy.client().await.closed().await;
    assert_eq!(backend.request_count(), 0);
    // A client may see the end before it is counted.
    eventually("the headers are counted", async || {
        let metrics = proxy.metrics().await;
        let count = |result| metrics.sum("sluicegate_proxy_headers_total", &[("result", result)]);
        let counts = ["failed", "timeout", "ok"].map(count);
        match counts == [2.0, 2.0, 0.0] {
            true => Ok(()),
            false => Err(counts),
        }
    })
    .await;
}

#[tokio::test]
async fn half_a_header_does_not_hold_a_stop() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .set("server.proxy_protocol_from", balancers(&["127.0.0.1"]))
        .set("server.header_timeout", "10m");
    let mut proxy = Proxy::start(&config).await;
    let mut half = proxy.client().await;
    half.write_raw(b"PROXY TCP4 192.0.2.7 ").await;
    proxy.signal(Signal::TERM);
    half.closed().await;
    assert!(proxy.exit().await.success());
}

#[tokio::test]
async fn header_of_a_stranger_is_refused_and_others_need_none() {
    let certificate = Certificate::new();
    let backend = Backend::model("b").await;
    let plain =
        Config::one(&backend).set("server.proxy_protocol_from", balancers(&["192.0.2.0/24"]));
    let tls = plain
        .clone()
        .set("server.tls.cert_file", certificate.file("cert.pem"))
        .set("server.tls.key_file", certificate.file("key.pem"));
    let proxy = Proxy::start(&plain).await;
    let mut own = proxy.client().await;
    let request = ask("hi").header("x-request-id", "own");
    own.send(&request).await.expect_status(200);
    let line = proxy.access_line("own").await;
    let client = line["client"].as_str().unwrap_or_default();
    assert!(client.starts_with("127.0.0.1:"), "{line}");
    for header in [V1, V2] {
        let mut liar = proxy.client().await;
        liar.write_raw(header).await;
        liar.write_raw(&Request::get("/livez").head_bytes()).await;
        assert_eq!(liar.head().await.status(), 400);
        liar.closed().await;
    }
    let proxy = Proxy::start(&tls).await;
    for header in [V1, V2] {
        let tcp = after(proxy.data(), header).await;
        let shaken = Client::try_tls_over(tcp, &certificate).await;
        assert!(shaken.is_err(), "{header:?}");
    }
    // Who is a balancer may change while running.
    let trusting = tls.set(
        "server.proxy_protocol_from",
        balancers(&["::1", "127.0.0.1"]),
    );
    proxy.reload_and_wait(&trusting).await;
    let tcp = after(proxy.data(), V1).await;
    assert!(Client::try_tls_over(tcp, &certificate).await.is_ok());
}
