//! What the benchmarks of `benches/` measure: the same calls that the pipeline makes, without the
//! network. Not part of the library's face.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::api::request::{self, Changes, Request};
use crate::api::{self, Endpoint};
use crate::config::{self, Config, Overrides};
use crate::plugin::{self, Budget, CallContext, Host, Plugin, Summary};
use crate::telemetry::Metrics;

/// The three bundled plugins, loaded as a default config loads them, and one chat request.
pub struct Stages {
    request: Request,
    classifier: Arc<Plugin>,
    compressor: Arc<Plugin>,
    policy: Arc<Plugin>,
    headers: HeaderMap,
    runtime: tokio::runtime::Runtime,
}

impl Stages {
    /// Loads the plugins; `prompt_bytes` is about the size of the request's text.
    ///
    /// # Errors
    /// When a plugin does not load.
    pub fn load(prompt_bytes: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let config = config()?;
        let pipeline = &config.pipeline;
        let metrics = Arc::new(Metrics::new()?);
        let host = Host::new(
            pipeline,
            1,
            metrics,
            runtime.handle().clone(),
            api::tokens::estimate,
        )?;
        let load = |slot: &Arc<config::Slot>| {
            runtime.block_on(host.load(Arc::clone(slot), Duration::from_secs(60)))
        };
        let missing = || anyhow::anyhow!("the default config has no such slot");
        let classifier = load(pipeline.classify.first().ok_or_else(missing)?)?;
        let compressor = load(pipeline.compress.first().ok_or_else(missing)?)?;
        let policy = load(pipeline.cache_policy.as_ref().ok_or_else(missing)?)?;
        Ok(Self {
            request: request::parse(Endpoint::Chat, chat(prompt_bytes))
                .map_err(|error| anyhow::anyhow!(error.message))?,
            classifier,
            compressor,
            policy,
            headers: HeaderMap::new(),
            runtime,
        })
    }

    /// Classifies, compresses and decides once, as one request does.
    ///
    /// # Errors
    /// When a plugin gives no result.
    pub fn call(&self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let call = CallContext {
                prompt: &self.request.prompt,
                request_id: "bench",
                tenant: "bench",
                session: None,
                route_hint: None,
                draw: 0.5,
                explain: false,
                headers: &self.headers,
            };
            let none = || anyhow::anyhow!("no result");
            plugin::classify(&self.classifier, &call)
                .await?
                .ok_or_else(none)?;
            plugin::compress(&self.compressor, &call, &Budget::default())
                .await?
                .ok_or_else(none)?;
            plugin::decide(&self.policy, &call, &Summary::default())
                .await?
                .ok_or_else(none)?;
            Ok(())
        })
    }

    /// Parses and renders the request with another model name, as the rest of the path does.
    ///
    /// # Errors
    /// When the request does not parse.
    pub fn parse_and_render(&self) -> anyhow::Result<Bytes> {
        let request = request::parse(Endpoint::Chat, self.request.body.clone())
            .map_err(|error| anyhow::anyhow!(error.message))?;
        Ok(request.render(&Changes {
            model: Some("renamed".to_owned()),
            ..Changes::default()
        }))
    }
}

fn config() -> anyhow::Result<Arc<Config>> {
    let text = "[auth]\nmode = \"open\"\n[[pools]]\nname = \"p\"\n[[pools.backends]]\nurl = \"http://127.0.0.1:9\"\n";
    let loaded = config::load_str(text, Path::new("bench.toml"), &Overrides::default())
        .map_err(|problems| anyhow::anyhow!("{problems}"))?;
    Ok(loaded.config)
}

/// A conversation of a system prompt, two earlier turns and a question.
fn chat(bytes: usize) -> Bytes {
    let sentence = "The scheduler moves a task to another worker when its queue is empty. ";
    let part = sentence.repeat((bytes / 4 / sentence.len()).max(1));
    let message = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    let body = serde_json::json!({
        "model": "auto",
        "messages": [
            message("system", &part),
            message("user", &part),
            message("assistant", &part),
            message("user", &format!("Please write a function that does this in Rust. {part}")),
        ],
        "temperature": 0.7,
    });
    Bytes::from(body.to_string())
}
