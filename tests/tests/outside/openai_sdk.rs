//! The OpenAI SDKs run unchanged.

use sluicegate_tests::{Backend, Config, Node, Pool, Proxy, Venv};

/// A proxy in front of a model, with one key.
async fn proxy(backend: &Backend) -> Proxy {
    let config = Config::new()
        .pool(Pool::new("main").backend(backend).models(&["m"]))
        .set("server.max_body_bytes", 200_000)
        .key("sdk", "sdk", "SDK_KEY");
    Proxy::start_with(&config, &[("SDK_KEY", "the-key")]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_python_sdk_runs_unchanged() {
    let backend = Backend::model("b").await;
    let proxy = proxy(&backend).await;
    let base = format!("http://{}/v1", proxy.data());
    let script = include_str!("openai_sdk.py");
    let run = move || Venv::with_openai().run(script, &[&base]);
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    eprintln!("{output}");
    assert!(output.trim_end().ends_with("all held"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_node_sdk_runs_unchanged() {
    let backend = Backend::model("b").await;
    let proxy = proxy(&backend).await;
    let base = format!("http://{}/v1", proxy.data());
    let module = include_str!("openai_sdk.mjs");
    let run = move || Some(Node::with_openai()?.run("openai_sdk.mjs", module, &[&base]));
    let Some(output) = tokio::task::spawn_blocking(run).await.unwrap() else {
        eprintln!("skipped: node is not installed (apt-get install nodejs npm)");
        return;
    };
    eprintln!("{output}");
    assert!(output.trim_end().ends_with("all held"), "{output}");
    // The stream that the script left was cancelled.
    proxy.await_idle().await;
}
