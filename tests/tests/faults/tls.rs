//! Backends whose certificate proves nothing.

use sluicegate_tests::{Backend, Certificate, Config, Pool, Proxy, Start, ask};

/// A proxy whose only backend is this one, trusting the authority in `ca` or the system's.
async fn proxy(backend: &Backend, ca: Option<&Certificate>) -> Proxy {
    let mut entry = toml::Table::new();
    entry.insert("url".into(), backend.url().into());
    if let Some(ca) = ca {
        let file = ca.folder().join("ca.pem").display().to_string();
        entry.insert("ca_file".into(), file.into());
    }
    let pool = Pool::new("main").set("backends", vec![toml::Value::Table(entry)]);
    Proxy::start(&Config::new().pool(pool)).await
}

#[tokio::test]
async fn certificate_that_proves_nothing_is_503_and_no_request_is_sent() {
    let good = Certificate::new();
    for (what, certificate, ca) in [
        ("expired", Certificate::expired(), true),
        (
            "another name",
            Certificate::for_names(&["other.test"]),
            true,
        ),
        ("self-signed", Certificate::self_signed(), false),
        ("an unknown authority", good.clone(), false),
    ] {
        let backend = Start::new("b").tls(&certificate).start().await;
        let proxy = proxy(&backend, ca.then_some(&certificate)).await;
        let answer = proxy
            .send(&ask("secret").header("x-request-id", "tls"))
            .await;
        let answer = answer.expect_status(503);
        assert_eq!(answer.error_code(), "upstream_unreachable", "{what}");
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{what}");
        for leak in ["certificate", "127.0.0.1", "localhost", "UnknownIssuer"] {
            assert!(!answer.text().contains(leak), "{what}: {}", answer.text());
        }
        let line = proxy.access_line("tls").await;
        assert!(
            line["error_detail"].to_string().contains("TLS"),
            "{what}: {line}"
        );
        assert_eq!(line["attempts"], 2, "{what}");
        let failed = [("result", "tls_failed")];
        let metrics = proxy.metrics().await;
        assert_eq!(
            metrics.sum("sluicegate_upstream_attempts_total", &failed),
            2.0,
            "{what}"
        );
        assert_eq!(backend.request_count(), 0, "{what}: the prompt was sent");
    }
}

#[tokio::test]
async fn self_signed_certificate_is_trusted_where_the_config_names_it() {
    let certificate = Certificate::self_signed();
    let backend = Start::new("b").tls(&certificate).start().await;
    let proxy = proxy(&backend, Some(&certificate)).await;
    proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(backend.request_count(), 1);
}
