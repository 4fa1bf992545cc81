//! The PROXY protocol: a balancer tells who the client is.

use std::net::SocketAddr;

use sluicegate_tests::{Backend, Certificate, Client, Config, Proxy, Request, ask};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
/// The same client, from port 4712.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x68\x01\xbb";

async fn after(address: SocketAddr, header: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(header).await.unwrap();
    tcp
}

#[tokio::test]
async fn access_log_names_the_client_that_the_balancer_names() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.proxy_protocol", true);
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
        .set("server.proxy_protocol", true)
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
async fn connection_without_a_header_is_closed() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .set("server.proxy_protocol", true)
        .set("server.header_timeout", "300ms");
    let proxy = Proxy::start(&config).await;
    let mut plain = proxy.client().await;
    plain.write_raw(&Request::get("/livez").head_bytes()).await;
    plain.closed().await;
    let mut endless = proxy.client().await;
    endless.write_raw(b"PROXY TCP4 192.0.2.7 ").await;
    endless.closed().await;
    assert_eq!(backend.request_count(), 0);
}
