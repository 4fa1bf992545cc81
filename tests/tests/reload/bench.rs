//! A proxy with one plugin, under traffic that sees what serves and that nothing fails.

use std::path::PathBuf;
use std::time::Duration;

use sluicegate_tests::{Backend, Config, Guest, Proxy, Slot, Traffic, eventually};
use tempfile::TempDir;

/// The component's file.
pub(crate) const FILE: &str = "marked.wasm";

/// What the log says of a bad config, or of one whose files are missing.
pub(crate) const REFUSED_CONFIG: &str = "reload refused, nothing changed";

pub(crate) struct Bench {
    pub(crate) guest: Guest,
    pub(crate) proxy: Proxy,
    backend: Backend,
    traffic: Traffic,
    /// Every config but for its slot.
    base: Config,
}

impl Bench {
    /// Starts with the component beside the config.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), Guest::marked().0).unwrap();
        Self::start_in(folder, FILE, |config| config).await
    }

    /// Starts from a folder that holds the component at `source`, with more in the config.
    pub(crate) async fn start_in(
        folder: TempDir,
        source: &str,
        more: impl FnOnce(Config) -> Config,
    ) -> Self {
        let guest = Guest::marked();
        let backend = Backend::model("b").await;
        backend.forget_bodies();
        backend.behave(|behaviour| behaviour.delay = Duration::from_millis(2));
        let base = more(Config::one(&backend));
        let proxy = Proxy::start_in(folder, &with_slot(&base, source, ""), &[]).await;
        let traffic = Traffic::start(&proxy, 1, "b t1 t2 t3").await;
        let bench = Self {
            guest,
            proxy,
            backend,
            traffic,
            base,
        };
        bench.serves("marked-000").await;
        bench
    }

    /// The component's path.
    pub(crate) fn plugin(&self) -> PathBuf {
        self.proxy.folder().join(FILE)
    }

    /// The component that gives the label `marked-` and this number.
    pub(crate) fn component(&self, number: usize) -> Vec<u8> {
        self.guest.with_label(number).0.0
    }

    /// The config whose labels end in `suffix`.
    pub(crate) fn config(&self, suffix: &str) -> String {
        self.config_from(FILE, suffix)
    }

    /// The same with the component at `source`.
    pub(crate) fn config_from(&self, source: &str, suffix: &str) -> String {
        with_slot(&self.base, source, suffix).to_toml()
    }

    /// Awaits that a request is given this label.
    pub(crate) async fn serves(&self, label: &str) {
        self.traffic.await_label(label).await;
    }

    /// Awaits that so many rounds were refused.
    pub(crate) async fn refuses(&self, rounds: usize) {
        eventually("a reload is refused", async || {
            let refused = refused(&self.proxy).await;
            match refused >= rounds as f64 {
                true => Ok(()),
                false => Err(refused),
            }
        })
        .await;
    }

    /// Rounds of reloading so far.
    pub(crate) async fn rounds(&self) -> f64 {
        let metrics = self.proxy.metrics().await;
        metrics.sum("sluicegate_reloads_total", &[])
    }

    /// Holds that no request failed, that these labels were given and no others, and that nothing
    /// was logged or counted as wrong but `expected`, each of which was.
    pub(crate) async fn finish(self, labels: &[&str], expected: &[&str]) {
        let end = self.end().await;
        assert_eq!(end.labels, labels, "labels given");
        if expected.is_empty() {
            assert_eq!(end.refused, 0.0, "refused rounds");
        }
        end.assert_logged_nothing_but(expected);
        for text in expected {
            let logged = end.log.iter().any(|line| line.contains(text));
            assert!(logged, "{text}: {:#?}", end.log);
        }
    }

    /// Holds that no request and no call of a plugin failed, and tells the rest.
    pub(crate) async fn end(self) -> End {
        let Self {
            proxy,
            traffic,
            backend,
            ..
        } = self;
        let outcome = traffic.stop().await;
        outcome.assert_whole(&backend);
        proxy.await_idle().await;

        let metrics = proxy.metrics().await;
        let calls = |labels: &[(&str, &str)]| metrics.sum("sluicegate_plugin_calls_total", labels);
        assert_eq!(calls(&[]), calls(&[("result", "ok")]), "calls of plugins");
        for wrong in ["sluicegate_errors_total", "sluicegate_panics_total"] {
            assert_eq!(metrics.sum(wrong, &[]), 0.0, "{wrong}");
        }
        End {
            labels: outcome.labels.into_keys().collect(),
            refused: refused(&proxy).await,
            log: proxy.severe_lines(),
        }
    }
}

/// What a test leaves behind.
pub(crate) struct End {
    /// Labels that were given.
    pub(crate) labels: Vec<String>,
    /// Rounds that refused something.
    pub(crate) refused: f64,
    /// Warnings and errors.
    pub(crate) log: Vec<String>,
}

impl End {
    /// Holds that each warning and error has one of these texts in it.
    pub(crate) fn assert_logged_nothing_but(&self, texts: &[&str]) {
        let is_known = |line: &&String| texts.iter().any(|text| line.contains(text));
        let strange: Vec<&String> = self.log.iter().filter(|line| !is_known(line)).collect();
        assert!(strange.is_empty(), "logged: {strange:#?}");
    }
}

fn with_slot(base: &Config, source: &str, suffix: &str) -> Config {
    let slot = Slot::classify("marked", source).set("config.suffix", suffix);
    // The run fails with any call that does. On a virtual machine, what the host takes of a core is
    // charged to the call that runs on it.
    let patient = |slot: Slot| slot.set("cpu_time", "100ms");
    base.clone()
        .slot(patient(slot))
        .slot(patient(Slot::compress(
            "compress",
            "builtin:topk-compressor",
        )))
        .slot(patient(Slot::cache_policy(
            "policy",
            "builtin:default-cache-policy",
        )))
}

/// Rounds that refused something.
async fn refused(proxy: &Proxy) -> f64 {
    let metrics = proxy.metrics().await;
    let rounds = |result| metrics.sum("sluicegate_reloads_total", &[("result", result)]);
    rounds("refused") + rounds("partial")
}
