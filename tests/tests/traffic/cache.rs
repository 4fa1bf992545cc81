//! The exact cache: what is equal, what is kept, for whom, and how it is told again.

use serde_json::{Value, json};
use sluicegate_tests::{
    Answer, Backend, Config, Pool, Proxy, Request, Route, ask, ask_streaming, chat_with,
    ends_with_done, events, eventually, text_of,
};

fn state(answer: &Answer) -> &str {
    answer
        .header("x-sluicegate-cache")
        .expect("the header that says what the cache did")
}

/// Awaits that the cache has so many entries: storing happens off the path.
async fn await_entries(proxy: &Proxy, entries: f64) {
    eventually("the cache has the entries", async || {
        match proxy.metrics().await.sum("sluicegate_cache_entries", &[]) {
            now if (now - entries).abs() < 0.5 => Ok(()),
            now => Err(now),
        }
    })
    .await;
}

async fn cached_proxy(backend: &Backend) -> Proxy {
    Proxy::start(&Config::one(backend).cached()).await
}

#[tokio::test]
async fn plain_answer_is_told_again_byte_for_byte() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    let first = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(state(&first), "miss");
    await_entries(&proxy, 1.0).await;
    let second = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(state(&second), "hit");
    assert_eq!(second.body, first.body);
    assert_eq!(second.header("content-type"), first.header("content-type"));
    assert!(second.header("x-sluicegate-cache-age").is_some());
    assert_eq!(backend.request_count(), 1);
    eventually("both look-ups are counted", async || {
        let metrics = proxy.metrics().await;
        let count = |result| metrics.sum("sluicegate_cache_results_total", &[("result", result)]);
        match (count("hit"), count("miss")) {
            (1.0, 1.0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test]
async fn stream_is_told_again_as_a_stream_with_its_events() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    let first = proxy.send(&ask_streaming("hi")).await.expect_status(200);
    await_entries(&proxy, 1.0).await;
    let second = proxy.send(&ask_streaming("hi")).await.expect_status(200);
    assert_eq!((state(&first), state(&second)), ("miss", "hit"));
    assert_eq!(events(&second.body), events(&first.body));
    assert!(
        second
            .header("content-type")
            .unwrap()
            .starts_with("text/event-stream")
    );
    assert_eq!(backend.request_count(), 1);
}

#[tokio::test]
async fn stream_is_told_again_as_a_plain_answer() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    let first = proxy.send(&ask_streaming("hi")).await.expect_status(200);
    await_entries(&proxy, 1.0).await;
    let second = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(state(&second), "hit");
    let plain = second.json();
    assert_eq!(plain["object"], "chat.completion");
    assert_eq!(
        plain["choices"][0]["message"]["content"],
        text_of(&first.body)
    );
    assert_eq!(plain["choices"][0]["message"]["role"], "assistant");
    assert_eq!(plain["choices"][0]["finish_reason"], "stop");
    assert!(
        plain["usage"]["total_tokens"]
            .as_u64()
            .is_some_and(|total| total > 0),
        "{plain}"
    );
    assert_eq!(second.header("content-type"), Some("application/json"));
    assert_eq!(backend.request_count(), 1);
}

#[tokio::test]
async fn plain_answer_is_told_again_as_a_stream() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    let first = proxy.send(&ask("hi")).await.expect_status(200).json();
    await_entries(&proxy, 1.0).await;
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    for (request, counted) in [
        (ask_streaming("hi"), false),
        (chat_with("hi", &usage), true),
    ] {
        let second = proxy.send(&request).await.expect_status(200);
        assert_eq!(state(&second), "hit");
        assert!(
            second
                .header("content-type")
                .unwrap()
                .starts_with("text/event-stream")
        );
        assert_eq!(
            text_of(&second.body),
            first["choices"][0]["message"]["content"]
        );
        assert!(ends_with_done(&second.body));
        let usage = events(&second.body)
            .iter()
            .any(|event| event.contains("\"choices\":[]") && event.contains("\"total_tokens\":11"));
        assert_eq!(usage, counted, "{:?}", events(&second.body));
    }
    assert_eq!(backend.request_count(), 1);
}

#[tokio::test]
async fn stream_without_usage_is_told_again_with_a_count_of_ours() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    proxy.send(&ask_streaming("hi")).await.expect_status(200);
    assert!(
        backend.last_request().json()["stream_options"].is_null(),
        "nothing was added"
    );
    await_entries(&proxy, 1.0).await;
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    let second = proxy
        .send(&chat_with("hi", &usage))
        .await
        .expect_status(200);
    assert_eq!(state(&second), "hit");
    let all = events(&second.body);
    let chunk: Value = serde_json::from_str(&all[all.len() - 2]).unwrap();
    assert_eq!(chunk["choices"], json!([]));
    assert!(
        chunk["usage"]["completion_tokens"]
            .as_u64()
            .is_some_and(|n| n > 0),
        "{chunk}"
    );
}

#[tokio::test]
async fn tool_calls_survive_both_ways() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    let tools = json!([{"type": "function",
        "function": {"name": "weather", "parameters": {"type": "object"}}}]);
    let plain = |question: &str| chat_with(question, &json!({"tools": tools}));
    let streamed = |question: &str| chat_with(question, &json!({"tools": tools, "stream": true}));
    proxy.send(&streamed("one")).await.expect_status(200);
    proxy.send(&plain("two")).await.expect_status(200);
    await_entries(&proxy, 2.0).await;

    let joined = proxy.send(&plain("one")).await.expect_status(200);
    assert_eq!(state(&joined), "hit");
    let call = &joined.json()["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], r#"{"city":"Oslo"}"#);
    assert_eq!(
        (&call["id"], &call["function"]["name"]),
        (&json!("call_1"), &json!("weather"))
    );
    assert!(
        call["index"].is_null(),
        "an index belongs into streams alone: {call}"
    );

    let split = proxy.send(&streamed("two")).await.expect_status(200);
    assert_eq!(state(&split), "hit");
    let all = events(&split.body).join("\n");
    assert!(
        all.contains("weather") && all.contains("Oslo") && all.contains("tool_calls"),
        "{all}"
    );
}

#[tokio::test]
async fn every_field_but_the_stream_ones_tells_requests_apart() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    proxy.send(&ask("hi")).await.expect_status(200);
    await_entries(&proxy, 1.0).await;
    for other in [
        json!({"max_tokens": 5}),
        json!({"temperature": 0.5}),
        json!({"top_p": 0.5}),
        json!({"seed": 1}),
        json!({"stop": ["x"]}),
        json!({"response_format": {"type": "json_object"}}),
        json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
        json!({"logit_bias": {"1": 2}}),
        json!({"model": "other"}),
        json!({"unknown": {"deep": [1]}}),
        json!({"reasoning_effort": "low"}),
        json!({"messages": [{"role": "user", "content": "hi "}]}),
        json!({"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}]}),
    ] {
        let answer = proxy
            .send(&chat_with("hi", &other))
            .await
            .expect_status(200);
        assert_eq!(state(&answer), "miss", "{other}");
    }
}

#[tokio::test]
async fn order_and_spelling_of_json_do_not_matter() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    let one =
        r#"{"model":"m","temperature":1.0,"messages":[{"role":"user","content":"caf\u00e9"}]}"#;
    let two = "{ \"messages\" : [{\"content\":\"café\",\"role\":\"user\"}],\n\"temperature\":1.0,\"model\":\"m\",\"stream\":false}";
    proxy.send(&Request::chat(one)).await.expect_status(200);
    await_entries(&proxy, 1.0).await;
    assert_eq!(state(&proxy.send(&Request::chat(two)).await), "hit");
    // The order of a list is part of what was asked.
    let list = |a: &str, b: &str| {
        Request::chat(format!(
            r#"{{"model":"m","stop":["{a}","{b}"],"messages":[{{"role":"user","content":"x"}}]}}"#
        ))
    };
    proxy.send(&list("a", "b")).await.expect_status(200);
    await_entries(&proxy, 2.0).await;
    assert_eq!(state(&proxy.send(&list("b", "a")).await), "miss");
}

#[tokio::test]
async fn tenants_do_not_share_answers_and_keys_of_one_tenant_do() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .cached()
        .key("one", "a", "KEY_ONE")
        .key("two", "a", "KEY_TWO")
        .key("three", "b", "KEY_THREE");
    let keys = [("KEY_ONE", "k1"), ("KEY_TWO", "k2"), ("KEY_THREE", "k3")];
    let proxy = Proxy::start_with(&config, &keys).await;
    assert_eq!(state(&proxy.send(&ask("hi").bearer("k1")).await), "miss");
    await_entries(&proxy, 1.0).await;
    assert_eq!(state(&proxy.send(&ask("hi").bearer("k2")).await), "hit");
    assert_eq!(state(&proxy.send(&ask("hi").bearer("k3")).await), "miss");
}

#[tokio::test]
async fn clients_steer_the_cache_by_header() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    let send = async |value: &str| {
        proxy
            .send(&ask("hi").header("x-sluicegate-cache", value))
            .await
    };
    assert_eq!(
        send("only").await.status,
        504,
        "RFC 9111 §5.2.1.7: only-if-cached"
    );
    assert_eq!(state(&send("no-store").await), "miss");
    assert_eq!(state(&send("bypass").await), "bypass");
    assert_eq!(
        proxy.metrics().await.sum("sluicegate_cache_entries", &[]),
        0.0
    );
    assert_eq!(state(&proxy.send(&ask("hi")).await), "miss");
    await_entries(&proxy, 1.0).await;
    assert_eq!(state(&send("only").await), "hit");
    assert_ne!(state(&send("no-cache").await), "hit");
    assert_ne!(
        state(
            &proxy
                .send(&ask("hi").header("cache-control", "no-cache"))
                .await
        ),
        "hit"
    );
    assert_eq!(state(&proxy.send(&ask("hi")).await), "hit");

    let short = ask("short").header("x-sluicegate-cache", "ttl=1");
    proxy.send(&short).await.expect_status(200);
    await_entries(&proxy, 2.0).await;
    assert_eq!(state(&proxy.send(&ask("short")).await), "hit");
    eventually("the entry's second is over", async || {
        match state(
            &proxy
                .send(&ask("short").header("x-sluicegate-cache", "only"))
                .await,
        ) {
            "hit" => Err("hit"),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn clear_empties_the_cache() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    proxy.send(&ask("hi")).await.expect_status(200);
    await_entries(&proxy, 1.0).await;
    let clear = Request::new("POST", "/cache/clear", bytes::Bytes::new());
    let answer = proxy.admin_send(clear).await;
    assert!(answer.status == 200 || answer.status == 204, "{answer:?}");
    assert_eq!(state(&proxy.send(&ask("hi")).await), "miss");
}

#[tokio::test]
async fn errors_and_what_the_policy_excludes_are_not_stored() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    for members in [
        json!({"mock": {"status": 400}}),
        json!({"mock": {"status": 500}}),
        json!({"n": 2}),
        json!({"store": true}),
        json!({"modalities": ["text", "audio"], "audio": {"voice": "x", "format": "wav"}}),
    ] {
        for _ in 0..2 {
            let answer = proxy.send(&chat_with("hi", &members)).await;
            assert_ne!(
                answer.header("x-sluicegate-cache"),
                Some("hit"),
                "{members}"
            );
        }
    }
    assert_eq!(
        proxy.metrics().await.sum("sluicegate_cache_entries", &[]),
        0.0
    );
}

#[tokio::test]
async fn embeddings_and_completions_are_cached_too() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    for (entries, path, body) in [
        (1.0, "/v1/embeddings", r#"{"model":"m","input":["a","b"]}"#),
        (2.0, "/v1/completions", r#"{"model":"m","prompt":"a"}"#),
    ] {
        let first = proxy
            .send(&Request::post(path, body))
            .await
            .expect_status(200);
        await_entries(&proxy, entries).await;
        let second = proxy
            .send(&Request::post(path, body))
            .await
            .expect_status(200);
        assert_eq!((state(&first), state(&second)), ("miss", "hit"), "{path}");
        assert_eq!(first.body, second.body);
    }
}

#[tokio::test]
async fn route_and_switch_can_forbid_the_cache() {
    let backend = Backend::model("b").await;
    let config = Config::new()
        .cached()
        .pool(Pool::new("main").backend(&backend))
        .route(Route::to("main").set("cache", false));
    let proxy = Proxy::start(&config).await;
    for _ in 0..2 {
        assert_eq!(state(&proxy.send(&ask("hi")).await), "bypass");
    }
    assert_eq!(backend.request_count(), 2);
}

#[tokio::test]
async fn headers_that_go_upstream_keep_answers_apart() {
    let backend = Backend::model("b").await;
    let proxy = cached_proxy(&backend).await;
    let in_language = |language: &str| ask("hi").header("accept-language", language);
    proxy.send(&in_language("de")).await.expect_status(200);
    await_entries(&proxy, 1.0).await;
    let other = proxy.send(&in_language("fr")).await.expect_status(200);
    assert_eq!(state(&other), "miss");
    let same = proxy.send(&in_language("de")).await.expect_status(200);
    assert_eq!(state(&same), "hit");
}
