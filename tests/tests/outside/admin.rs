//! The admin listener and its gate.

use sluicegate_tests::{Backend, Client, Config, Pool, Proxy, Request, ask};

#[tokio::test]
async fn admin_api_is_not_on_the_data_port() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for path in [
        "/metrics",
        "/admin/plugins",
        "/admin/config",
        "/admin/pools",
    ] {
        assert_eq!(proxy.send(&Request::get(path)).await.status, 404, "{path}");
        proxy.admin_get(path).await.expect_status(200);
    }
    for path in ["/cache/clear", "/admin/reload"] {
        assert_eq!(
            proxy.send(&Request::post(path, "")).await.status,
            404,
            "{path}"
        );
        proxy
            .admin_send(Request::post(path, ""))
            .await
            .expect_status(200);
    }
    assert_eq!(backend.request_count(), 0);
}

#[tokio::test]
async fn foreign_host_and_origin_are_403() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let ours = proxy.admin().to_string();
    let send = async |request: Request| Client::connect(proxy.admin()).await.send(&request).await;
    for path in ["/admin/config", "/metrics", "/admin/plugins"] {
        let foreign = Request::get(path).header("host", "evil.example");
        assert_eq!(send(foreign).await.status, 403, "{path}");
        let rebound =
            Request::get(path).header("host", &format!("evil.example:{}", proxy.admin().port()));
        assert_eq!(send(rebound).await.status, 403, "{path}");
        let page = Request::get(path)
            .header("host", &ours)
            .header("origin", "https://evil.example");
        assert_eq!(send(page).await.status, 403, "{path}");
        send(Request::get(path).header("host", &ours))
            .await
            .expect_status(200);
    }
    let page = Request::post("/admin/reload", "")
        .header("host", &ours)
        .header("origin", "null");
    assert_eq!(send(page).await.status, 403);
}

#[tokio::test]
async fn token_guards_all_but_the_probes() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("admin.token", "${ADMIN_TOKEN}");
    let proxy = Proxy::start_with(&config, &[("ADMIN_TOKEN", "open-sesame")]).await;
    assert_eq!(proxy.admin_get("/admin/config").await.status, 401);
    assert_eq!(
        proxy
            .admin_send(Request::get("/metrics").bearer("wrong"))
            .await
            .status,
        401
    );
    proxy
        .admin_send(Request::get("/metrics").bearer("open-sesame"))
        .await
        .expect_status(200);
    proxy.admin_get("/readyz").await.expect_status(200);
}

#[tokio::test]
async fn plugins_are_listed_with_what_an_operator_asks_for() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    for _ in 0..3 {
        proxy.send(&ask("hi")).await.expect_status(200);
    }
    let plugins = proxy.plugins().await;
    assert_eq!(plugins.len(), 3, "the bundled ones: {plugins:?}");
    for plugin in &plugins {
        for field in [
            "slot",
            "kind",
            "name",
            "version",
            "source",
            "sha256",
            "loaded_at",
            "state",
        ] {
            assert!(!plugin.0[field].is_null(), "{field} in {plugin:?}");
        }
        assert_eq!(plugin.text("sha256").len(), 64);
        assert!(plugin.text("source").starts_with("builtin:"), "{plugin:?}");
        assert!(plugin.generation() >= 1);
    }
    let classifier = plugins
        .iter()
        .find(|plugin| plugin.text("source").contains("keyword"));
    assert_eq!(classifier.unwrap().0["calls"], 3);
}

#[tokio::test]
async fn pools_are_listed_by_name_with_their_health() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main").backend(&backend).named("first").health();
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    let pools = proxy.admin_get("/admin/pools").await.expect_status(200);
    let text = pools.text();
    assert!(
        text.contains("\"main\"") && text.contains("\"first\""),
        "{text}"
    );
}
