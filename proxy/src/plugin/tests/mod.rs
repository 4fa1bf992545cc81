//! The whole room on real components: loading, calling, failing, replacing.

mod calls;
mod guest;
mod hostile;
mod hostile_edits;
mod hostile_files;
mod loading;
mod quarantine;
mod view;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use tempfile::TempDir;

use super::plugin::PluginStatus;
use super::{CallContext, Host, Plugin};
use crate::api::prompt::{Endpoint, Message, Origin, Parameters, Part, Prompt, Role, Text};
use crate::config::{OnFailure, Pipeline, Secrets, Slot, SlotKind, SlotName, Source};
use crate::telemetry::Metrics;
use guest::Guest;

/// A host with a folder for plugins and one for compiled code.
struct Bench {
    folder: TempDir,
    metrics: Arc<Metrics>,
    host: Arc<Host>,
}

/// No component of these tests compiles for long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Worker threads that the host is told of, and spares: three instances a plugin.
const WORKERS: usize = 1;
const SPARES: u32 = 2;
const INSTANCES: usize = 3;

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let pipeline = Pipeline {
            classify: Vec::new(),
            compress: Vec::new(),
            cache_policy: None,
            max_instances: 12,
            max_memory_bytes: 64 << 20,
            compile_cache: folder.path().join("compiled"),
            compile_cache_bytes: 1 << 30,
        };
        let control = tokio::runtime::Handle::current();
        let host = Host::new(&pipeline, WORKERS, Arc::clone(&metrics), control, estimate).unwrap();
        Self {
            folder,
            metrics,
            host,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a guest into the folder and gives a slot for it.
    fn slot(&self, guest: &Guest) -> Slot {
        let path = self.path("guest.wasm");
        fs::write(&path, guest.build()).unwrap();
        slot(&path)
    }

    /// Loads a plugin and makes it its slot's, as a reload does.
    async fn take(&self, slot: Arc<Slot>) -> Result<Arc<Plugin>, super::LoadError> {
        let plugin = self.host.load(slot, PATIENCE).await?;
        self.host.adopt(&plugin);
        Ok(plugin)
    }

    async fn load(&self, guest: &Guest) -> Arc<Plugin> {
        self.take(Arc::new(self.slot(guest))).await.unwrap()
    }

    /// Loads bytes and gives the error's text.
    async fn refusal(&self, bytes: &[u8]) -> String {
        let path = self.path("refused.wasm");
        fs::write(&path, bytes).unwrap();
        self.take(Arc::new(slot(&path)))
            .await
            .err()
            .expect("refused")
            .to_string()
    }

    /// Refused candidates, as the metrics say.
    fn refused(&self) -> u64 {
        self.metrics
            .plugin_refused
            .with_label_values(&["test"])
            .get()
    }

    /// Calls with a result, as the metrics say.
    fn counted(&self, result: &str) -> u64 {
        self.metrics
            .plugin_calls
            .with_label_values(&["test", result])
            .get()
    }
}

fn estimate(text: &str) -> u32 {
    u32::try_from(text.len() / 4).unwrap()
}

pub(super) fn slot(path: &Path) -> Slot {
    Slot {
        kind: SlotKind::Classify,
        name: SlotName::new("test"),
        source: Source::File(path.to_owned()),
        sha256: None,
        config: serde_json::json!({}),
        on_failure: OnFailure::Skip,
        cpu_time: Duration::from_millis(5),
        memory_bytes: 8 << 20,
        max_output_bytes: 1 << 20,
        max_component_bytes: 64 << 20,
        spares: SPARES,
        max_calls: 1_000_000,
        quarantine_after: 1000,
        configure_timeout: Duration::from_secs(10),
        last_messages: None,
        text: None,
        max_messages: 4096,
        read_bytes: 16 << 20,
        headers: Vec::new(),
        grant_clock: false,
        max_edits: 4096,
        edit_last_user: false,
        edit_tool_results: false,
        may_ignore: Vec::new(),
        answer_bytes: 0,
        secrets: Secrets::default(),
    }
}

fn text(text: &str) -> Part {
    Part::Text(Text {
        text: text.to_owned(),
        origin: Origin::Message,
        literal: None,
        source: None,
    })
}

pub(super) fn message(role: Role, words: &str) -> Message {
    Message {
        role,
        parts: vec![text(words)],
        tokens: 1,
        group: None,
        source: None,
    }
}

pub(super) fn prompt(model: &str, messages: Vec<Message>) -> Arc<Prompt> {
    let last_user = messages
        .iter()
        .rposition(|message| message.role == Role::User);
    let text_bytes = messages
        .iter()
        .flat_map(|message| &message.parts)
        .map(|part| match part {
            Part::Text(text) => text.text.len(),
            _ => 0,
        })
        .sum();
    Arc::new(Prompt {
        endpoint: Endpoint::Chat,
        model: model.to_owned(),
        messages,
        last_user,
        inserted: None,
        tools: Vec::new(),
        parameters: Parameters {
            choices: 1,
            ..Parameters::default()
        },
        user: None,
        prompt_tokens: 1,
        text_bytes,
    })
}

/// Asks a classifier about a request whose model's first letter is a command to the guest.
async fn ask(plugin: &Plugin, command: &str) -> Result<Option<super::Opinion>, super::Denied> {
    let prompt = prompt(command, vec![message(Role::User, "Hello")]);
    let headers = HeaderMap::new();
    super::classify(plugin, &context(&prompt, &headers)).await
}

pub(super) fn context<'a>(prompt: &'a Arc<Prompt>, headers: &'a HeaderMap) -> CallContext<'a> {
    CallContext {
        prompt,
        request_id: "req-1",
        tenant: "acme",
        session: None,
        route_hint: None,
        draw: 0.25,
        explain: true,
        headers,
    }
}

/// Waits until the plugin's pool is full and idle again.
async fn full(plugin: &Plugin) -> PluginStatus {
    eventually("the pool is full again", || {
        let status = plugin.status();
        match status.state == "ready" && status.idle_instances == INSTANCES {
            true => Ok(status),
            false => Err(format!("{status:?}")),
        }
    })
    .await
}

/// Polls until `look` gives a value, for at most 20 s.
async fn eventually<T, S: Debug>(claim: &str, mut look: impl FnMut() -> Result<T, S>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{claim}, last: {seen:?}"
            ),
        }
        #[expect(clippy::disallowed_methods, reason = "this is the polling")]
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
