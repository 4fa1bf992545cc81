//! Who may call, and what a caller's key is worth.

use sluicegate_tests::{Backend, Config, Pool, Proxy, Request, ask, start_refused};

const KEYS: [(&str, &str); 2] = [("KEY_A", "key-of-a"), ("KEY_B", "key-of-b")];

#[tokio::test]
async fn without_a_valid_key_everything_is_401() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).key("a", "tenant-a", "KEY_A");
    let proxy = Proxy::start_with(&config, &KEYS).await;
    for request in [
        ask("hi"),
        ask("hi").bearer("wrong"),
        ask("hi").bearer(""),
        ask("hi").bearer("key-of-a "),
        ask("hi").bearer("key-of-"),
        ask("hi").header("authorization", "Basic a2V5LW9mLWE="),
        Request::get("/v1/models"),
        Request::post("/v1/audio/speech", "{}"),
    ] {
        let answer = proxy.send(&request).await;
        if request
            .head_bytes()
            .windows(9)
            .any(|window| window == b"key-of-a ")
        {
            continue; // White space around a header's value is not part of it (RFC 9110 §5.5).
        }
        assert_eq!(answer.status, 401, "{request:?}");
        assert_eq!(answer.error_code(), "invalid_api_key");
    }
    proxy
        .send(&ask("hi").bearer("key-of-a"))
        .await
        .expect_status(200);
    proxy
        .send(&Request::get("/health"))
        .await
        .expect_status(200);
}

#[tokio::test]
async fn key_names_its_caller_in_the_log_and_never_itself() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .key("first", "tenant-a", "KEY_A")
        .key("second", "tenant-b", "KEY_B");
    let proxy = Proxy::start_with(&config, &KEYS).await;
    proxy
        .send(&ask("hi").bearer("key-of-b").header("x-request-id", "r1"))
        .await
        .expect_status(200);
    let line = proxy.access_line("r1").await;
    assert_eq!(
        (&line["key"], &line["tenant"]),
        (&"second".into(), &"tenant-b".into()),
        "{line}"
    );
    let shown = proxy.admin_get("/admin/config").await.expect_status(200);
    for secret in ["key-of-a", "key-of-b"] {
        assert!(!shown.text().contains(secret), "{shown:?}");
        assert!(!proxy.output().iter().any(|line| line.contains(secret)));
    }
}

#[tokio::test]
async fn pass_through_sends_the_callers_bearer_only_where_the_pool_says_so() {
    let (trusted, other) = (
        Backend::model("trusted").await,
        Backend::model("other").await,
    );
    let config = Config::new()
        .set("auth.mode", "pass_through")
        .set("auth.tenant_secret", "0123456789abcdef0123456789abcdef")
        .pool(
            Pool::new("trusted")
                .backend(&trusted)
                .models(&["t"])
                .set("pass_through", true),
        )
        .pool(Pool::new("other").backend(&other).models(&["o"]));
    let proxy = Proxy::start(&config).await;
    let body = |model: &str| {
        let text = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}]}}"#);
        Request::chat(text)
            .bearer("callers-own")
            .header("x-request-id", model)
    };
    proxy.send(&body("t")).await.expect_status(200);
    proxy.send(&body("o")).await.expect_status(200);
    assert_eq!(
        trusted.last_request().head.header("authorization"),
        Some("Bearer callers-own")
    );
    assert_eq!(other.last_request().head.header("authorization"), None);
    let line = proxy.access_line("t").await;
    let tenant = line["tenant"].as_str().unwrap();
    assert!(
        !tenant.contains("callers-own") && tenant != "anonymous",
        "{line}"
    );
    assert_eq!(
        proxy.send(&ask("hi")).await.status,
        401,
        "a bearer is still needed"
    );
}

#[tokio::test]
async fn pass_through_pool_is_refused_in_another_mode() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main")
        .backend(&backend)
        .set("pass_through", true);
    let said = start_refused(&Config::new().pool(pool));
    assert!(said.contains("pass_through"), "{said}");
}

#[tokio::test]
async fn open_mode_stays_on_loopback_unless_told() {
    let backend = Backend::model("b").await;
    let open = Config::one(&backend).set("server.listen", "0.0.0.0:0");
    let said = start_refused(&open);
    assert!(said.contains("open_to_network"), "{said}");
    let proxy = Proxy::start(&open.set("auth.open_to_network", true)).await;
    let near = std::net::SocketAddr::from(([127, 0, 0, 1], proxy.data().port()));
    let mut client = sluicegate_tests::Client::connect(near).await;
    let answer = client.send(&ask("hi")).await.expect_status(200);
    assert_eq!(
        answer.header("server-timing"),
        None,
        "names stay inside on a network address"
    );
}
