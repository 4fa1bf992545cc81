//! Which pool and model a request gets, and what a route adds or lowers.

use serde_json::json;
use sluicegate_tests::{Backend, Config, Pool, Proxy, Request, Route, ask, chat_with};

/// Two pools, `code` for the label of that name and `chat` for the rest.
fn two_pools(code: &Backend, chat: &Backend) -> Config {
    Config::new()
        .pool(
            Pool::new("chat")
                .backend(chat)
                .models(&["chat-m", "chat-l"]),
        )
        .pool(Pool::new("code").backend(code).models(&["code-m"]))
        .route(Route::to("code").labels(&["code"]))
        .route(Route::to("chat"))
}

const CODE: &str = "Write a Rust function that parses a TOML file and returns a compile error.";

#[tokio::test]
async fn bundled_classifier_sends_auto_and_unknown_models_by_their_label() {
    let (code, chat) = (Backend::model("code").await, Backend::model("chat").await);
    let proxy = Proxy::start(&two_pools(&code, &chat)).await;
    for model in ["auto", "no-such-model"] {
        let answer = proxy.send(&chat_with(CODE, &json!({"model": model}))).await;
        let answer = answer.expect_status(200);
        assert_eq!(answer.header("x-sluicegate-label"), Some("code"));
        assert_eq!(answer.header("x-sluicegate-pool"), Some("code"));
        assert_eq!(code.last_request().json()["model"], "code-m");
    }
    let answer = proxy
        .send(&chat_with(
            "Hello, how are you today?",
            &json!({"model": "auto"}),
        ))
        .await;
    assert_eq!(answer.header("x-sluicegate-pool"), Some("chat"));
    assert_eq!(chat.last_request().json()["model"], "chat-m");
}

#[tokio::test]
async fn known_model_name_wins_unless_the_route_overrides_it() {
    let (code, chat) = (Backend::model("code").await, Backend::model("chat").await);
    let proxy = Proxy::start(&two_pools(&code, &chat)).await;
    let request = chat_with(CODE, &json!({"model": "chat-l"}));
    proxy.send(&request).await.expect_status(200);
    assert_eq!(chat.last_request().json()["model"], "chat-l");

    let config = Config::new()
        .pool(
            Pool::new("chat")
                .backend(&chat)
                .models(&["chat-m", "chat-l"]),
        )
        .pool(Pool::new("code").backend(&code).models(&["code-m"]))
        .route(
            Route::to("code")
                .labels(&["code"])
                .set("override_model", true),
        );
    proxy.reload_and_wait(&config).await;
    proxy.send(&request).await.expect_status(200);
    assert_eq!(code.last_request().json()["model"], "code-m");
}

#[tokio::test]
async fn picture_goes_to_the_multimodal_route() {
    let (see, chat) = (Backend::model("see").await, Backend::model("chat").await);
    let config = Config::new()
        .pool(Pool::new("chat").backend(&chat).models(&["chat-m"]))
        .pool(Pool::new("see").backend(&see).models(&["see-m"]))
        .route(Route::to("see").labels(&["multimodal"]));
    let proxy = Proxy::start(&config).await;
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}]});
    let answer = proxy
        .send(&Request::chat(body.to_string()))
        .await
        .expect_status(200);
    assert_eq!(answer.header("x-sluicegate-label"), Some("multimodal"));
    assert_eq!(answer.header("x-sluicegate-pool"), Some("see"));
}

#[tokio::test]
async fn label_is_forced_only_with_the_grant() {
    let (code, chat) = (Backend::model("code").await, Backend::model("chat").await);
    let config = two_pools(&code, &chat)
        .key("plain", "a", "KEY_A")
        .key("steering", "b", "KEY_B")
        .grants(&["route", "cache"]);
    let keys = [("KEY_A", "key-a"), ("KEY_B", "key-b")];
    let proxy = Proxy::start_with(&config, &keys).await;
    let by_header =
        chat_with("Hello there", &json!({"model": "auto"})).header("x-sluicegate-route", "code");
    let by_model = chat_with("Hello there", &json!({"model": "sluicegate/code"}));
    for request in [&by_header, &by_model] {
        let answer = proxy
            .send(&request.clone().bearer("key-b"))
            .await
            .expect_status(200);
        assert_eq!(answer.header("x-sluicegate-pool"), Some("code"));
        assert_eq!(code.last_request().json()["model"], "code-m");
    }
    let answer = proxy
        .send(&by_header.clone().bearer("key-a"))
        .await
        .expect_status(200);
    assert_eq!(answer.header("x-sluicegate-pool"), Some("chat"));
    let ignored = proxy.metrics().await;
    assert!(ignored.sum("sluicegate_ungranted_headers_total", &[]) >= 1.0);
}

#[tokio::test]
async fn defaults_fill_silence_and_caps_lower_wishes_and_the_log_says_so() {
    let backend = Backend::model("b").await;
    let route = Route::to("main")
        .set("defaults.temperature", 0.25)
        .set("defaults.max_tokens", 64)
        .set("caps.max_tokens", 128);
    let proxy = Proxy::start(&Config::one(&backend).route(route)).await;

    let silent = ask("hi").header("x-request-id", "silent");
    proxy.send(&silent).await.expect_status(200);
    let body = backend.last_request().json();
    assert_eq!(
        (&body["temperature"], &body["max_tokens"]),
        (&json!(0.25), &json!(64))
    );
    let line = proxy.access_line("silent").await;
    assert!(
        line["changed"].to_string().contains("temperature"),
        "{line}"
    );

    let greedy = r#"{"model":"m","temperature":1.0,"top_k":40,"max_tokens":4096,"messages":[{"role":"user","content":"hi"}]}"#;
    let request = Request::chat(greedy).header("x-request-id", "greedy");
    proxy.send(&request).await.expect_status(200);
    assert_eq!(backend.last_request().text(), greedy.replace("4096", "128"));
    let line = proxy.access_line("greedy").await;
    let changed = line["changed"].to_string();
    assert!(
        changed.contains("max_tokens") && changed.contains("128"),
        "{line}"
    );
    assert!(!changed.contains("temperature"), "{line}");

    let modest = r#"{"model":"m","temperature":1.0,"max_completion_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    proxy.send(&Request::chat(modest)).await.expect_status(200);
    assert_eq!(backend.last_request().text(), modest);
}

#[tokio::test]
async fn models_are_those_of_the_pools() {
    let (code, chat) = (Backend::model("code").await, Backend::model("chat").await);
    let proxy = Proxy::start(&two_pools(&code, &chat)).await;
    let list = proxy
        .send(&Request::get("/v1/models"))
        .await
        .expect_status(200)
        .json();
    assert_eq!(list["object"], "list");
    let mut names: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    for name in ["chat-l", "chat-m", "code-m"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(list["data"][0]["object"] == "model" && list["data"][0]["owned_by"].is_string());
    assert_eq!(
        chat.request_count() + code.request_count(),
        0,
        "the list comes from the config"
    );
}

#[tokio::test]
async fn base_path_and_allowed_headers_reach_the_backend() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main")
        .url(format!("{}/prefix/v1", backend.url()))
        .set("forward_headers", vec!["x-team"]);
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    proxy
        .send(&ask("hi").header("x-team", "blue").header("x-other", "red"))
        .await
        .expect_status(200);
    let head = backend.last_request().head;
    assert_eq!(head.target(), "/prefix/v1/chat/completions");
    assert_eq!(head.header("x-team"), Some("blue"));
    assert_eq!(head.header("x-other"), None);
}

#[tokio::test]
async fn request_id_is_kept_or_made() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let answer = proxy
        .send(&ask("hi").header("x-request-id", "mine-1"))
        .await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    let (one, two) = (proxy.send(&ask("hi")).await, proxy.send(&ask("hi")).await);
    let (one, two) = (one.header("x-request-id"), two.header("x-request-id"));
    assert!(
        one.is_some_and(|id| !id.is_empty()) && one != two,
        "{one:?} {two:?}"
    );
}
