//! One change at a time: each way of being wrong, each way of asking.

use sluicegate_tests::{
    Backend, Config, Guest, Pool, Proxy, Request, Route, Slot, ask, ask_streaming, ends_with_done,
    eventually,
};

const FILE: &str = "marked.wasm";

fn config(backend: &Backend) -> Config {
    Config::one(backend).slot(Slot::classify("marked", FILE))
}

async fn start(guest: &Guest, config: &Config) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), &guest.0).unwrap();
    Proxy::start_in(folder, config, &[]).await
}

async fn label(proxy: &Proxy) -> String {
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    answer
        .header("x-sluicegate-label")
        .unwrap_or("none")
        .to_owned()
}

#[tokio::test]
async fn bad_plugin_is_refused_with_its_reason_and_the_old_one_goes_on() {
    let guest = Guest::marked();
    let backend = Backend::model("b").await;
    let proxy = start(&guest, &config(&backend)).await;
    let before = proxy.plugin("marked").await;
    proxy.put_file(FILE, b"no component at all");
    let refused = eventually("the candidate is refused", async || {
        let plugin = proxy.plugin("marked").await;
        if plugin.0["refused_candidate"].is_null() {
            Err(plugin)
        } else {
            Ok(plugin)
        }
    })
    .await;
    let reason = refused.0["refused_candidate"]["error"].to_string();
    assert!(reason.contains("WebAssembly"), "{reason}");
    assert_eq!(refused.text("sha256"), before.text("sha256"));
    assert_eq!(refused.generation(), before.generation());
    assert_eq!(label(&proxy).await, "marked-000");
    assert!(proxy.refused_reloads().await >= 1.0);
    proxy.await_line("plugin candidate refused").await;

    let (good, good_label) = guest.with_label(4);
    proxy.put_file(FILE, &good.0);
    proxy.await_component("marked", &good.sha256()).await;
    assert_eq!(label(&proxy).await, good_label);
}

#[tokio::test]
async fn component_with_another_hash_than_asked_is_refused() {
    let guest = Guest::marked();
    let backend = Backend::model("b").await;
    let slot = Slot::classify("marked", FILE).set("sha256", guest.sha256());
    let proxy = start(&guest, &Config::one(&backend).slot(slot)).await;
    let (other, _) = guest.with_label(5);
    proxy.put_file(FILE, &other.0);
    eventually("the candidate is refused", async || {
        let refused = proxy.refused_reloads().await;
        if refused >= 1.0 { Ok(()) } else { Err(refused) }
    })
    .await;
    assert_eq!(label(&proxy).await, "marked-000");
}

#[tokio::test]
async fn bad_config_is_refused_whole_and_the_old_one_goes_on() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend);
    let proxy = Proxy::start(&config).await;
    let generation = proxy.generation().await;
    for (bad, said) in [
        (
            config.clone().set("server.max_body_bites", 5).to_toml(),
            "max_body_bytes",
        ),
        (
            config.clone().route(Route::to("nowhere")).to_toml(),
            "nowhere",
        ),
        (
            config.clone().set("server.listen", "127.0.0.1:1").to_toml(),
            "listen",
        ),
        (config.clone().set("server.workers", 7).to_toml(), "workers"),
        ("[server\n".to_owned(), "sluicegate.toml"),
    ] {
        let before = proxy.refused_reloads().await;
        proxy.put_file("sluicegate.toml", bad.as_bytes());
        eventually("the config is refused", async || {
            let refused = proxy.refused_reloads().await;
            if refused > before {
                Ok(())
            } else {
                Err(refused)
            }
        })
        .await;
        proxy.await_line(said).await;
        proxy.send(&ask("hi")).await.expect_status(200);
    }
    assert_eq!(proxy.generation().await, generation);
}

#[tokio::test]
async fn one_edited_config_value_is_used_by_the_next_request() {
    let guest = Guest::marked();
    let backend = Backend::model("b").await;
    let proxy = start(&guest, &config(&backend)).await;
    assert_eq!(label(&proxy).await, "marked-000");
    let slot = Slot::classify("marked", FILE).set("config.suffix", "-edited");
    proxy
        .reload_and_wait(&Config::one(&backend).slot(slot))
        .await;
    assert_eq!(label(&proxy).await, "marked-000-edited");
}

#[tokio::test]
async fn requests_in_flight_finish_on_what_they_began_with() {
    let (old, new) = (Backend::model("old").await, Backend::model("new").await);
    let proxy = Proxy::start(&Config::one(&old)).await;
    old.hold();
    let mut client = proxy.client().await;
    client.begin(&ask_streaming("hi")).await;
    eventually("the request waits at the old backend", async || {
        match old.request_count() {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    proxy
        .reload_and_wait(&Config::new().pool(Pool::new("main").backend(&new)))
        .await;
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    assert!(answer.text().contains("new t1"));
    old.release();
    assert_eq!(client.head().await.status(), 200);
    let body = client.rest().await.unwrap();
    assert!(ends_with_done(&body) && String::from_utf8_lossy(&body).contains("\"old\""));
}

#[tokio::test]
async fn hangup_signal_and_admin_call_reload_too() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend);
    let proxy = Proxy::start(&config).await;
    let reload = || Request::new("POST", "/admin/reload", bytes::Bytes::new());

    let generation = proxy.generation().await;
    proxy.put_config(
        &config
            .clone()
            .route(Route::to("main").set("name", "by-hand")),
    );
    proxy.admin_send(reload()).await.expect_status(200);
    let by_hand = proxy.generation().await;
    assert!(
        by_hand > generation,
        "the answer comes when the new snapshot runs"
    );

    proxy.put_config(
        &config
            .clone()
            .route(Route::to("main").set("name", "by-signal")),
    );
    proxy.signal(rustix::process::Signal::HUP);
    proxy.await_generation_after(by_hand).await;
    proxy.send(&ask("hi")).await.expect_status(200);

    proxy.put_file("sluicegate.toml", b"nonsense = [");
    let refused = proxy.admin_send(reload()).await;
    assert!((400..500).contains(&refused.status), "{refused:?}");
    assert!(refused.text().contains("sluicegate.toml"), "{refused:?}");
}
