//! What crosses the proxy, and what does not.

use sluicegate_tests::{ANSWER, Backend, Config, Pool, Proxy, Reply, Request, ask};

/// What a client may send along, none of which is a backend's business.
const PRIVATE: [(&str, &str); 22] = [
    ("authorization", "Bearer callers-own"),
    ("cookie", "session=callers-own"),
    ("proxy-authorization", "Basic callers-own"),
    ("x-api-key", "callers-own"),
    ("api-key", "callers-own"),
    ("x-forwarded-for", "198.51.100.7"),
    ("x-forwarded-host", "inside.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-prefix", "/inside"),
    ("x-real-ip", "198.51.100.7"),
    ("forwarded", "for=198.51.100.7"),
    ("via", "1.1 inside"),
    ("x-original-url", "/admin/config"),
    ("x-rewrite-url", "/admin/config"),
    ("keep-alive", "timeout=5"),
    ("te", "trailers"),
    ("trailer", "x-later"),
    ("proxy-connection", "keep-alive"),
    ("x-listed", "callers-own"),
    ("connection", "keep-alive, x-listed, accept"),
    ("accept", "callers/own"),
    ("openai-organization", "org-callers-own"),
];

/// What a backend may send along, none of which is a client's business.
const INTERNAL: [(&str, &str); 14] = [
    ("set-cookie", "backend=inside"),
    ("server", "uvicorn-inside"),
    ("via", "1.1 inside"),
    ("x-powered-by", "inside"),
    ("x-served-by", "10.0.0.7"),
    ("x-upstream-address", "10.0.0.7:8000"),
    ("x-envoy-upstream-service-time", "inside"),
    ("x-forwarded-for", "10.0.0.7"),
    ("openai-organization", "org-inside"),
    ("strict-transport-security", "max-age=1; inside"),
    ("x-sluicegate-backend", "inside"),
    ("connection", "x-listed"),
    ("x-listed", "inside"),
    ("keep-alive", "timeout=5, inside"),
];

fn with_private(mut request: Request) -> Request {
    for (name, value) in PRIVATE {
        request = request.header(name, value);
    }
    request
}

#[tokio::test]
async fn nothing_of_the_callers_own_reaches_a_backend() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main")
        .backend(&backend)
        .set("api_key", "${POOL_KEY}");
    let config = Config::new().pool(pool);
    let proxy = Proxy::start_with(&config, &[("POOL_KEY", "pools-own")]).await;
    for request in [
        ask("hi"),
        Request::post("/v1/files", "{}"),
        Request::get("/v1/files"),
    ] {
        proxy.send(&with_private(request)).await;
        let head = backend.last_request().head;
        let raw = String::from_utf8_lossy(&head.raw).to_lowercase();
        assert!(
            !raw.contains("own\r\n") || raw.matches("own\r\n").count() == 1,
            "{raw}"
        );
        assert_eq!(head.header("authorization"), Some("Bearer pools-own"));
        for (name, value) in PRIVATE {
            let sent = head.header(name);
            assert!(sent != Some(value), "{name}: {value} reached the backend");
        }
        assert!(
            !raw.contains("198.51.100.7") && !raw.contains("inside"),
            "{raw}"
        );
    }
}

#[tokio::test]
async fn a_pool_gets_the_headers_that_its_config_names_and_never_credentials() {
    let backend = Backend::model("b").await;
    let names = vec!["x-forwarded-for".to_owned(), "x-listed".to_owned()];
    let pool = Pool::new("main")
        .backend(&backend)
        .set("forward_headers", names);
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    proxy
        .send(&with_private(ask("hi")))
        .await
        .expect_status(200);
    let head = backend.last_request().head;
    assert_eq!(head.header("x-forwarded-for"), Some("198.51.100.7"));
    assert_eq!(head.header("x-listed"), None, "listed in `connection`");
    for name in [
        "authorization",
        "cookie",
        "proxy-authorization",
        "connection",
    ] {
        let sent = head.header(name).unwrap_or_default();
        assert!(!sent.contains("own"), "{name}: {sent}");
    }
}

#[tokio::test]
async fn nothing_internal_reaches_a_client() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend).cached()).await;
    for request in [ask("hi"), Request::get("/v1/files")] {
        let mut client = proxy.client().await;
        client.begin(&request).await;
        let mut reply = Reply::json(200, ANSWER).header("x-kept", "yes");
        for (name, value) in INTERNAL {
            reply = reply.header(name, value);
        }
        backend.next_request().await.respond(reply).await.unwrap();
        let head = client.head().await;
        client.rest().await.unwrap();
        assert_eq!(head.header("x-kept"), Some("yes"));
        let raw = String::from_utf8_lossy(&head.raw).into_owned();
        for inside in ["inside", "10.0.0.7"] {
            assert!(!raw.contains(inside), "{raw}");
        }
    }
    // From the cache too.
    let hit = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(hit.header("x-sluicegate-cache"), Some("hit"));
    let raw = String::from_utf8_lossy(&hit.head.raw).into_owned();
    assert!(!raw.contains("inside"), "{raw}");
}

#[tokio::test]
async fn a_pool_may_show_and_hide_headers_of_answers() {
    let backend = Backend::scripted("b").await;
    let pool = Pool::new("main")
        .backend(&backend)
        .set(
            "show_headers",
            vec!["Set-Cookie".to_owned(), "server".to_owned()],
        )
        .set("hide_headers", vec!["x-kept".to_owned()]);
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    let mut client = proxy.client().await;
    client.begin(&ask("hi")).await;
    let mut reply = Reply::json(200, ANSWER).header("x-kept", "yes");
    for (name, value) in INTERNAL {
        reply = reply.header(name, value);
    }
    backend.next_request().await.respond(reply).await.unwrap();
    let head = client.head().await;
    assert_eq!(head.header("set-cookie"), Some("backend=inside"));
    assert_eq!(head.header("server"), Some("uvicorn-inside"));
    for hidden in [
        "x-kept",
        "via",
        "x-served-by",
        "openai-organization",
        "x-listed",
    ] {
        assert_eq!(head.header(hidden), None, "{hidden}");
    }
}

#[tokio::test]
async fn error_bodies_show_no_address_path_or_cause() {
    let (dead, _socket) = Backend::refusing();
    let broken = Backend::scripted("broken").await;
    let config = Config::new()
        .pool(
            Pool::new("dead")
                .url(format!("http://{dead}/base-path"))
                .models(&["dead"]),
        )
        .pool(Pool::new("broken").backend(&broken).models(&["broken"]))
        .pool(
            Pool::new("unknown")
                .url("http://nowhere.invalid:1")
                .models(&["unknown"]),
        );
    let proxy = Proxy::start(&config).await;
    let body = |model: &str| {
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
    };
    let mut answers = Vec::new();
    for model in ["dead", "unknown"] {
        answers.push(proxy.send(&Request::chat(body(model))).await);
    }
    for garbage in [
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        let mut client = proxy.client().await;
        client.begin(&Request::chat(body("broken"))).await;
        let mut exchange = broken.next_request().await;
        exchange.write_raw(garbage.as_bytes()).await.unwrap();
        exchange.close();
        let head = client.head().await;
        let text = client.rest().await.unwrap();
        let status = head.status();
        answers.push(sluicegate_tests::Answer {
            status,
            head,
            body: text,
            head_at: std::time::Instant::now(),
        });
    }
    let folder = proxy.folder().display().to_string();
    let backend = broken.address().to_string();
    for answer in answers {
        assert!((500..=504).contains(&answer.status), "{}", answer.status);
        assert!(!answer.error_code().is_empty());
        let raw = String::from_utf8_lossy(&answer.head.raw).into_owned() + answer.text();
        for secret in [
            dead.to_string().as_str(),
            &dead.port().to_string(),
            &backend,
            "127.0.0.1",
            "nowhere",
            "base-path",
            "garbage",
            "os error",
            "refused",
            "pingora",
            ".rs:",
            &folder,
        ] {
            assert!(!raw.to_lowercase().contains(secret), "{secret}: {raw}");
        }
    }
}
