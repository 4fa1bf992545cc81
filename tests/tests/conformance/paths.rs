//! Targets and methods: nothing leads out of `/v1`, and nothing to the admin API.

use sluicegate_tests::{Backend, Config, Proxy, Request};

use crate::raw::tell;

/// Every way that we know to write `/admin/config` so that somebody might take it for `/v1/…`.
const ADMIN: [&str; 24] = [
    "/admin/config",
    "//admin/config",
    "/./admin/config",
    "/v1/../admin/config",
    "/v1/./../admin/config",
    "/v1/..;/admin/config",
    "/v1/%2e%2e/admin/config",
    "/v1/%2E%2E%2Fadmin/config",
    "/v1/.%2e/admin/config",
    "/v1/..%2fadmin/config",
    "/v1%2f..%2fadmin/config",
    "/v1/%252e%252e/admin/config",
    "/v1/..\\admin\\config",
    "/v1/..%5cadmin/config",
    "/v1//../admin/config",
    "//v1/../admin/config",
    "/v1/x/../../admin/config",
    "/%61dmin/config",
    "/admin%2fconfig",
    "/admin/config?/v1/",
    "/V1/../admin/config",
    "/v1/..%00/admin/config",
    "/v1/%c0%ae%c0%ae/admin/config",
    "*",
];

#[tokio::test]
async fn the_admin_api_is_never_reachable_on_the_data_port() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let real = proxy.admin_get("/admin/config").await.expect_status(200);
    assert!(real.text().contains("generation"));
    let absolute = |path: &str| format!("http://{}{path}", proxy.admin());
    for path in ADMIN {
        for target in [path.to_owned(), absolute(path)] {
            for method in ["GET", "POST", "HEAD", "OPTIONS"] {
                let host = match target.starts_with("http") {
                    true => proxy.admin().to_string(),
                    false => "a".to_owned(),
                };
                let head = format!(
                    "{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
                );
                let told = tell(proxy.data(), head).await;
                let status = told.only_status();
                // Some of them are names below /v1, and stay there.
                let below_v1 = ["/v1/..;/", "/v1/%252e", "/v1/..%00", "/v1/%c0"];
                let stays = below_v1.iter().any(|begin| path.starts_with(begin));
                let expected = if stays { 200..500 } else { 400..500 };
                assert!(
                    expected.contains(&status),
                    "{method} {target}: {}",
                    told.text
                );
                assert!(!told.text.contains("generation"), "{method} {target}");
            }
        }
    }
    for received in backend.requests() {
        let target = received.head.target();
        assert!(target.starts_with("/v1/"), "{target}");
    }
    let mut h2 = proxy.h2_client().await;
    for path in [
        "/admin/config",
        "/v1/../admin/config",
        "/v1/%2e%2e/admin",
        "/metrics",
    ] {
        let answer = h2.send(&Request::get(path)).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn other_spellings_of_the_prefix_are_404() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for path in [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/v1/./chat/completions",
        "/v1/chat%2fcompletions",
        "/v1/x/../chat/completions",
        "/v10/chat/completions",
        "/v1",
    ] {
        let answer = proxy.send(&Request::post(path, "{}")).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.error_code(), "not_found");
    }
    // The one path below /v1/models that is passed on.
    let climbing = Request::new("DELETE", "/v1/models/../../admin", bytes::Bytes::new());
    proxy.send(&climbing).await.expect_status(404);
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn methods_that_nobody_should_use_are_405() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for method in ["TRACE", "TRACK", "OPTIONS", "PROPFIND", "post", "DEBUG"] {
        for path in ["/v1/chat/completions", "/v1/files"] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\nx-secret: s3cret\r\nconnection: close\r\n\r\n"
            );
            let told = tell(proxy.data(), head).await;
            assert_eq!(told.refused(405), "method_not_allowed", "{method} {path}");
            assert!(!told.text.contains("s3cret"), "{}", told.text);
            assert!(
                told.text.to_lowercase().contains("\r\nallow: "),
                "{}",
                told.text
            );
        }
    }
    for target in ["b.example:443", "127.0.0.1:9090", "/v1/files", "*"] {
        let host = if target.contains(':') { target } else { "a" };
        let head =
            format!("CONNECT {target} HTTP/1.1\r\nhost: {host}\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        let told = tell(proxy.data(), head).await;
        assert_eq!(told.refused(400), "malformed_request", "{target}");
    }
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn a_method_in_a_header_is_only_a_header() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let names = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ];
    let mut request = Request::post("/v1/files?_method=DELETE", "{}");
    for name in names {
        request = request.header(name, "DELETE");
    }
    proxy.send(&request).await;
    let received = backend.last_request();
    assert_eq!(received.head.method(), "POST");
    for name in names {
        assert_eq!(received.head.header(name), None, "{name}");
    }
    let refused = Request::get("/v1/chat/completions").header(names[0], "POST");
    proxy.send(&refused).await.expect_status(405);
}
