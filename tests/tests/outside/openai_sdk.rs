//! The OpenAI Python SDK runs unchanged.

use sluicegate_tests::{Backend, Config, Pool, Proxy, Venv};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_python_sdk_runs_unchanged() {
    let backend = Backend::model("b").await;
    let config = Config::new()
        .pool(Pool::new("main").backend(&backend).models(&["m"]))
        .set("server.max_body_bytes", 200_000)
        .key("sdk", "sdk", "SDK_KEY");
    let proxy = Proxy::start_with(&config, &[("SDK_KEY", "the-key")]).await;
    let base = format!("http://{}/v1", proxy.data());
    let script = include_str!("openai_sdk.py");
    let run = move || Venv::with_openai().run(script, &[&base]);
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    eprintln!("{output}");
    assert!(output.trim_end().ends_with("all held"), "{output}");
}
