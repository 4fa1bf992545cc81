//! Compression: what goes, what stays, and what never reaches the upstream.

use serde_json::{Value, json};
use sluicegate_tests::{Answer, Backend, Config, Proxy, Request, Route, eventually};

fn compressing(backend: &Backend) -> Config {
    Config::one(backend).route(Route::to("main").set("compress", true))
}

const QUESTION: &str = "What does photosynthesis do in a chloroplast?";

/// A request with many terms and passages, a few of which the question is about.
fn with_fields() -> Value {
    let mut terms: Vec<Value> = (0..40)
        .map(|n| json!({"term": format!("widget{n}"), "definition": format!("a part numbered {n} of the old press")}))
        .collect();
    terms.insert(
        20,
        json!({"term": "chloroplast",
        "definition": "the organelle of a plant cell where photosynthesis happens"}),
    );
    let mut context: Vec<Value> = (0..12)
        .map(|n| {
            json!(format!(
                "Passage {n}: the harbour of town {n} was enlarged for fishing boats."
            ))
        })
        .collect();
    context.insert(
        6,
        json!("Photosynthesis turns light into sugar inside of the chloroplast."),
    );
    json!({
        "model": "m", "temperature": 1.0,
        "messages": [
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": QUESTION},
        ],
        "sluicegate": {"terms": terms, "context": context},
    })
}

fn saved(answer: &Answer) -> u64 {
    let header = answer.header("x-sluicegate-tokens-saved");
    header.map_or(0, |tokens| tokens.parse().expect("a number"))
}

#[tokio::test]
async fn extension_fields_become_one_message_of_the_most_relevant_entries() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&compressing(&backend)).await;
    let answer = proxy
        .send(&Request::chat(with_fields().to_string()))
        .await
        .expect_status(200);
    assert!(saved(&answer) > 100, "{:?}", answer.head.headers);
    let sent = backend.last_request();
    assert!(!sent.text().contains("\"sluicegate\""), "{}", sent.text());
    let messages = sent.json()["messages"].as_array().unwrap().clone();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(messages[0]["content"], "Answer briefly.");
    assert_eq!(messages[1]["role"], "system");
    assert_eq!(messages[2], json!({"role": "user", "content": QUESTION}));
    let inserted = messages[1]["content"].to_string();
    assert!(
        inserted.contains("chloroplast: the organelle"),
        "{inserted}"
    );
    assert!(
        inserted.contains("Photosynthesis turns light"),
        "{inserted}"
    );
    assert!(
        inserted.matches("widget").count() <= 14,
        "top 15 terms: {inserted}"
    );
    assert!(
        inserted.matches("Passage").count() <= 2,
        "top 3 chunks: {inserted}"
    );
    eventually("the saved tokens are counted", async || {
        let metrics = proxy.metrics().await;
        let saved = metrics.sum("sluicegate_tokens_total", &[("direction", "saved")]);
        if saved > 100.0 {
            Ok(())
        } else {
            Err(metrics.lines("sluicegate_tokens"))
        }
    })
    .await;
}

#[tokio::test]
async fn without_compression_every_entry_is_rendered() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let body = with_fields().to_string();
    let answer = proxy
        .send(&Request::chat(body.clone()))
        .await
        .expect_status(200);
    assert_eq!(saved(&answer), 0);
    let sent = backend.last_request();
    assert!(!sent.text().contains("\"sluicegate\""));
    assert_eq!(sent.text().matches("widget").count(), 40);
    assert_eq!(sent.text().matches("Passage").count(), 12);

    let proxy = Proxy::start(&compressing(&backend)).await;
    let request = Request::chat(body).header("x-sluicegate-compress", "bypass");
    let answer = proxy.send(&request).await.expect_status(200);
    assert_eq!(saved(&answer), 0);
    assert_eq!(backend.last_request().text().matches("widget").count(), 40);
}

#[tokio::test]
async fn old_history_goes_and_the_last_question_stays() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&compressing(&backend)).await;
    let filler = "The committee met again and spoke at length about the budget of the library. ";
    let mut messages = vec![json!({"role": "system", "content": "Be brief."})];
    for turn in 0..30 {
        messages.push(
            json!({"role": "user", "content": format!("question {turn}? {}", filler.repeat(4))}),
        );
        messages.push(
            json!({"role": "assistant", "content": format!("answer {turn}. {}", filler.repeat(4))}),
        );
    }
    messages.push(json!({"role": "user", "content": QUESTION}));
    let body = json!({"model": "m", "messages": messages, "seed": 18_446_744_073_709_551_615_u64});
    let answer = proxy
        .send(&Request::chat(body.to_string()))
        .await
        .expect_status(200);
    assert!(saved(&answer) > 500, "{:?}", answer.head.headers);
    let sent = backend.last_request().json();
    let kept = sent["messages"].as_array().unwrap();
    assert!(kept.len() <= 12, "{} messages", kept.len());
    assert_eq!(kept[0]["content"], "Be brief.");
    assert_eq!(kept[kept.len() - 1]["content"], QUESTION);
    // What is kept, is kept as the client wrote it and in its order.
    let mut originals = messages.iter();
    for message in kept {
        assert!(originals.any(|original| original == message), "{message}");
    }
    assert_eq!(sent["seed"], json!(18_446_744_073_709_551_615_u64));
}

#[tokio::test]
async fn tool_calls_keep_their_results_and_pictures_stay() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&compressing(&backend)).await;
    let mut messages = Vec::new();
    for turn in 0..15 {
        let id = format!("call_{turn}");
        messages.push(json!({"role": "user", "content": format!("look up {turn}")}));
        messages.push(
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": id,
            "type": "function", "function": {"name": "look", "arguments": "{}"}}]}),
        );
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "found ".repeat(80)}));
    }
    let picture = json!({"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "text", "text": QUESTION}]});
    messages.push(picture.clone());
    let body = json!({"model": "m", "messages": messages});
    proxy
        .send(&Request::chat(body.to_string()))
        .await
        .expect_status(200);
    let sent = backend.last_request().json();
    let kept = sent["messages"].as_array().unwrap();
    assert_eq!(kept.last(), Some(&picture));
    let ids = |field: &dyn Fn(&Value) -> Value| -> Vec<String> {
        kept.iter()
            .map(field)
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect()
    };
    let called = ids(&|message| message["tool_calls"][0]["id"].clone());
    let answered = ids(&|message| message["tool_call_id"].clone());
    assert_eq!(
        called, answered,
        "a call without its result, or the other way round"
    );
}
