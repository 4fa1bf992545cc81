//! The author's first plugin, as the documentation has it.

use sluicegate_tests::{Backend, Config, Guest, Proxy, Slot, ask, build_component, snippets};

const README: &str = "plugin-sdk/README.md";
const FILE: &str = "first.wasm";

#[tokio::test]
async fn documented_classifier_is_short_builds_and_serves_without_a_restart() {
    let files = snippets(README);
    let code = files
        .iter()
        .find(|file| file.file == "src/lib.rs")
        .expect("the plugin's code");
    let lines = code.text.lines().count();
    assert!(lines < 30, "the classifier has {lines} lines");
    let component = Guest(build_component("documented", &files));

    let backend = Backend::model("b").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), &Guest::marked().0).unwrap();
    let config = |slot: Slot| Config::one(&backend).slot(slot);
    let proxy = Proxy::start_in(folder, &config(Slot::classify("first", FILE)), &[]).await;
    let label = async |text: &str| {
        let answer = proxy.send(&ask(text)).await.expect_status(200);
        answer.header("x-sluicegate-label").map(str::to_owned)
    };
    assert_eq!(label("hi").await.as_deref(), Some("marked-000"));

    let generation = proxy.generation().await;
    proxy.put_file(FILE, &component.0);
    proxy.await_generation_after(generation).await;
    let plugin = proxy.plugin("first").await;
    assert_eq!(plugin.text("sha256"), component.sha256());
    let _ = label;
}
