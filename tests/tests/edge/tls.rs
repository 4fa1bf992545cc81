//! Certificates: chosen by name, renewed while running; and handshakes that do not end.

use std::io;

use sluicegate_tests::{
    Backend, Certificate, Client, Config, H2Client, Proxy, Request, ask, eventually, start_refused,
    within,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use toml::{Table, Value};

fn files(certificate: &Certificate) -> Value {
    let mut table = Table::new();
    for (field, file) in [("cert_file", "cert.pem"), ("key_file", "key.pem")] {
        table.insert(field.into(), certificate.file(file).into());
    }
    Value::Table(table)
}

fn with(config: Config, certificates: &[&Certificate]) -> Config {
    let list = certificates.iter().map(|one| files(one)).collect();
    config.set("server.tls.certificates", Value::Array(list))
}

const H1: &[&str] = &["http/1.1"];

/// A handshake of a client that asks for a name and trusts one authority.
async fn shake(
    proxy: &Proxy,
    name: &str,
    trusted: &Certificate,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(proxy.data()).await.unwrap();
    within("a handshake", trusted.handshake(tcp, name, protocols)).await
}

/// Awaits that so many handshakes came to this: a client may see the end before it is counted.
async fn await_handshakes(proxy: &Proxy, result: &str, expected: f64) {
    eventually("the handshakes are counted", async || {
        let metrics = proxy.metrics().await;
        let count = metrics.sum("sluicegate_tls_handshakes_total", &[("result", result)]);
        match (count - expected).abs() < 0.5 {
            true => Ok(()),
            false => Err(count),
        }
    })
    .await;
}

async fn assert_served(proxy: &Proxy, name: &str, trusted: &Certificate) {
    let shaken = shake(proxy, name, trusted, H1).await;
    let stream = shaken.expect(name);
    let mut client = Client::over_tls(stream);
    client
        .send(&Request::get("/livez"))
        .await
        .expect_status(200);
}

#[tokio::test]
async fn client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let [first, second, wild] = [
        Certificate::for_names(&["first.test", "127.0.0.1"]),
        Certificate::for_names(&["second.test", "x.wild.test"]),
        Certificate::for_names(&["*.wild.test"]),
    ];
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&with(Config::one(&backend), &[&first, &second, &wild])).await;
    // Each authority signed one certificate: the client's trust shows which one came.
    for (host, trusted) in [
        ("first.test", &first),
        ("second.test", &second),
        ("x.wild.test", &second),
        ("y.wild.test", &wild),
        // No name is sent for an address.
        ("127.0.0.1", &first),
    ] {
        assert_served(&proxy, host, trusted).await;
    }
    let unknown = shake(&proxy, "unknown.test", &first, H1).await.unwrap_err();
    assert!(
        unknown.to_string().contains("not valid for name"),
        "{unknown}"
    );
}

#[tokio::test]
async fn alpn_chooses_between_http2_and_http1() {
    let certificate = Certificate::new();
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&with(Config::one(&backend), &[&certificate])).await;
    for (offered, chosen) in [
        (&["http/1.1", "h2"][..], Some("h2")),
        (H1, Some("http/1.1")),
        (&[], None),
    ] {
        let stream = shake(&proxy, "localhost", &certificate, offered).await;
        let stream = stream.unwrap();
        let protocol = stream.get_ref().1.alpn_protocol();
        assert_eq!(protocol, chosen.map(str::as_bytes), "{offered:?}");
        let alive = Request::get("/livez");
        match chosen {
            Some("h2") => H2Client::over(stream).await.send(&alive).await,
            _ => Client::over_tls(stream).send(&alive).await,
        }
        .expect_status(200);
    }
    let none = shake(&proxy, "localhost", &certificate, &["spdy/3"]).await;
    assert!(none.is_err(), "no protocol in common");
    await_handshakes(&proxy, "ok", 3.0).await;
    await_handshakes(&proxy, "failed", 1.0).await;
}

/// Puts a certificate where the config says, the key first.
fn put(proxy: &Proxy, certificate: &Certificate) {
    for file in ["key.pem", "cert.pem"] {
        let bytes = std::fs::read(certificate.file(file)).unwrap();
        proxy.put_file(file, &bytes);
    }
}

/// A proxy whose certificate lies in its config's folder.
async fn renewable(backend: &Backend, certificate: &Certificate) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    for file in ["cert.pem", "key.pem"] {
        std::fs::copy(certificate.file(file), folder.path().join(file)).unwrap();
    }
    let config = Config::one(backend)
        .set("server.tls.cert_file", "cert.pem")
        .set("server.tls.key_file", "key.pem");
    Proxy::start_in(folder, &config, &[]).await
}

async fn trusts(proxy: &Proxy, certificate: &Certificate) -> bool {
    let tcp = TcpStream::connect(proxy.data()).await.unwrap();
    Client::try_tls_over(tcp, certificate).await.is_ok()
}

#[tokio::test]
async fn renewed_certificate_is_taken_while_open_connections_live_on() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let backend = Backend::model("b").await;
    let proxy = renewable(&backend, &old).await;
    let mut open = proxy.tls_client(&old).await;
    open.send(&ask("before")).await.expect_status(200);
    let generation = proxy.generation().await;

    put(&proxy, &new);
    proxy.await_generation_after(generation).await;
    proxy
        .tls_client(&new)
        .await
        .send(&ask("new"))
        .await
        .expect_status(200);
    assert!(!trusts(&proxy, &old).await, "the old certificate is gone");
    open.send(&ask("after")).await.expect_status(200);
}

#[tokio::test]
async fn bad_new_certificate_is_refused_and_shown_and_the_old_one_goes_on() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let backend = Backend::model("b").await;
    let proxy = renewable(&backend, &old).await;
    for (bytes, complaint) in [
        (b"-----BEGIN CERTIFICATE-----\nno\n".to_vec(), "PEM"),
        (
            std::fs::read(new.file("cert.pem")).unwrap(),
            "this key does not belong to the certificate",
        ),
    ] {
        let before = proxy.refused_reloads().await;
        proxy.put_file("cert.pem", &bytes);
        eventually("the certificate is refused", async || {
            let refused = proxy.refused_reloads().await;
            if refused > before {
                Ok(())
            } else {
                Err(refused)
            }
        })
        .await;
        let config = proxy.admin_get("/admin/config").await.json();
        let shown = config["last_reload_error"].as_str().unwrap_or_default();
        assert!(shown.contains(complaint), "{shown}");
        assert!(trusts(&proxy, &old).await, "the old certificate goes on");
    }
    put(&proxy, &new);
    eventually("the mended pair is taken", async || {
        if trusts(&proxy, &new).await {
            Ok(())
        } else {
            Err(())
        }
    })
    .await;
    let config = proxy.admin_get("/admin/config").await.json();
    assert!(config["last_reload_error"].is_null(), "{config}");
}

#[tokio::test]
async fn certificates_may_be_added_while_running_but_tls_stays() {
    let (one, two) = (
        Certificate::for_names(&["one.test"]),
        Certificate::for_names(&["two.test"]),
    );
    let backend = Backend::model("b").await;
    let config = Config::one(&backend);
    let proxy = Proxy::start(&with(config.clone(), &[&one])).await;
    proxy
        .reload_and_wait(&with(config.clone(), &[&one, &two]))
        .await;
    assert_served(&proxy, "one.test", &one).await;
    assert_served(&proxy, "two.test", &two).await;

    proxy.put_config(&config);
    proxy.await_line("from TLS to plain HTTP").await;
    assert_served(&proxy, "one.test", &one).await;
}

#[tokio::test]
async fn expired_certificate_is_served_and_warned_of() {
    let (good, expired) = (Certificate::new(), Certificate::expired());
    let backend = Backend::model("b").await;
    let proxy = renewable(&backend, &good).await;
    put(&proxy, &expired);
    proxy.await_line("the certificate has expired").await;
    eventually("it is served", async || {
        match shake(&proxy, "localhost", &expired, H1).await {
            Err(error) if error.to_string().contains("expired") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[test]
fn bad_certificates_at_the_start_are_named_with_their_field() {
    let certificate = Certificate::new();
    let config = Config::new().pool(sluicegate_tests::Pool::new("main").url("http://127.0.0.1:9"));
    let half = config
        .clone()
        .set("server.tls.cert_file", certificate.file("cert.pem"));
    let said = start_refused(&half);
    assert!(
        said.contains("`cert_file` without its `key_file`"),
        "{said}"
    );
    let swapped = half
        .set("server.tls.cert_file", certificate.file("key.pem"))
        .set("server.tls.key_file", certificate.file("cert.pem"));
    let said = start_refused(&swapped);
    for complaint in ["has no certificate in PEM form", "has no private key"] {
        assert!(said.contains(complaint), "{said}");
    }
}

#[tokio::test]
async fn handshakes_that_do_not_end_are_ended() {
    let certificate = Certificate::new();
    let backend = Backend::model("b").await;
    let config = with(Config::one(&backend), &[&certificate]).set("server.header_timeout", "200ms");
    let proxy = Proxy::start(&config).await;
    let mut silent = proxy.client().await;
    let mut half = proxy.client().await;
    // A record's header that promises a client hello.
    half.write_raw(b"\x16\x03\x01\x02\x00\x01").await;
    silent.closed().await;
    half.closed().await;
    await_handshakes(&proxy, "timeout", 2.0).await;
    // Told from one that is slow, however long the machine takes.
    proxy
        .reload_and_wait(&config.set("server.header_timeout", "1m"))
        .await;
    let mut plain = proxy.client().await;
    plain.write_raw(&Request::get("/livez").head_bytes()).await;
    plain.closed().await;
    await_handshakes(&proxy, "failed", 1.0).await;
    await_handshakes(&proxy, "timeout", 2.0).await;
}
