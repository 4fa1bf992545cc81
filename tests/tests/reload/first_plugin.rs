//! The author's first plugin, as the README has it.

use sluicegate_tests::{
    Backend, Config, Guest, Proxy, Slot, Snippet, ask, build_component, snippets,
};

const FILE: &str = "first.wasm";

/// The blocks of the README that make a plugin project.
fn project() -> Vec<Snippet> {
    let mut files = snippets("README.md");
    files.retain(|block| block.file == "Cargo.toml" || block.file.starts_with("src/"));
    assert_eq!(files.len(), 2, "a manifest and its code: {files:?}");
    files
}

#[tokio::test]
async fn documented_classifier_is_short_builds_and_serves_without_a_restart() {
    let files = project();
    let lines = files[1].text.lines().count();
    assert!(lines < 30, "the classifier has {lines} lines");
    let component = Guest(build_component("documented", &files));

    let backend = Backend::model("b").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), &Guest::marked().0).unwrap();
    let config = Config::one(&backend).slot(Slot::classify("first", FILE));
    let proxy = Proxy::start_in(folder, &config, &[]).await;
    let mut client = proxy.client().await;
    let mut label = async |text: &str| {
        let answer = client.send(&ask(text)).await.expect_status(200);
        answer.header("x-sluicegate-label").map(str::to_owned)
    };
    let question = "what became of TICKET-12?";
    assert_eq!(label(question).await.as_deref(), Some("marked-000"));

    let generation = proxy.generation().await;
    proxy.put_file(FILE, &component.0);
    proxy.await_generation_after(generation).await;
    assert_eq!(label(question).await.as_deref(), Some("ticket"));
    assert_ne!(
        label("what became of it?").await.as_deref(),
        Some("marked-000")
    );
    assert_eq!(
        proxy.plugin("first").await.text("sha256"),
        component.sha256()
    );
}
