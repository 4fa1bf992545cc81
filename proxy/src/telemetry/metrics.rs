//! Every metric of the proxy: its name, its labels, and what bounds them.
//!
//! Labels come from closed sets: names of the config, stages, outcomes. A label, model or tenant
//! that the config does not name is `other`; no client string ever is a label. Names that the
//! config has no more are forgotten by [`super::forget`].

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::record::PerStage;

/// Seconds, from a millisecond to ten minutes.
const REQUEST_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

/// Seconds, from a microsecond to a second.
const STAGE_BUCKETS: &[f64] = &[
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.005,
    0.025,
    0.1,
    1.0,
];

/// All families, registered once per process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// `endpoint`, `label`, `pool`, `status` (class: `2xx` …; `aborted` when the client left,
    /// `upstream_failed` when the answer broke off after its head).
    pub(crate) requests: IntCounterVec,
    /// `code`: the OpenAI error code that the proxy gave.
    pub(crate) errors: IntCounterVec,
    /// `label`, `pool`.
    pub(crate) request_seconds: HistogramVec,
    /// `label`, `pool`: request to first content.
    pub(crate) ttft_seconds: HistogramVec,
    /// `stage`, each looked up once: a request feeds several.
    pub(crate) stage_seconds: PerStage<Histogram>,
    /// `result`: `hit`, `miss`, `bypass`.
    pub(crate) cache_results: IntCounterVec,
    pub(crate) cache_entries: IntGauge,
    pub(crate) cache_bytes: IntGauge,
    /// `slot`, `result`: `ok`, or the kind of failure.
    pub(crate) plugin_calls: IntCounterVec,
    /// `slot`.
    pub(crate) plugin_call_seconds: HistogramVec,
    /// `slot`: instances ready to be called.
    pub(crate) plugin_idle_instances: IntGaugeVec,
    /// `slot`: plugins of it in memory, each with its compiled code.
    pub(crate) plugin_pools: IntGaugeVec,
    /// `slot`: number of the running candidate, from 1.
    pub(crate) plugin_generation: IntGaugeVec,
    /// By `slot`: plugins that are off the path for their faults.
    pub(crate) plugin_quarantined: IntGaugeVec,
    /// `slot`: candidates that were refused.
    pub(crate) plugin_refused: IntCounterVec,
    /// `slot`, `reason`: log lines and metric writes of plugins that were dropped.
    pub(crate) plugin_dropped: IntCounterVec,
    /// `direction`: `in`, `out`, `saved`; `label`.
    pub(crate) tokens: IntCounterVec,
    /// `pool`, `backend`.
    pub(crate) upstream_in_flight: IntGaugeVec,
    /// `pool`, `backend`: 1 healthy, 0 not.
    pub(crate) upstream_healthy: IntGaugeVec,
    /// `pool`, `backend`, `result`.
    pub(crate) upstream_attempts: IntCounterVec,
    /// `pool`, `backend`: connections opened.
    pub(crate) upstream_connections: IntCounterVec,
    pub(crate) requests_in_flight: IntGauge,
    /// Bytes of requests and answers in memory, but for the last 16 KiB of each.
    pub(crate) buffered_bytes: IntGauge,
    /// Connections of clients that are served.
    pub(crate) client_connections: IntGauge,
    /// `how`: connections above the limit: `told` why, or `closed` at once.
    pub(crate) connections_refused: IntCounterVec,
    /// `result`: `ok`, `partial`, `refused`.
    pub(crate) reloads: IntCounterVec,
    /// Snapshots in memory.
    pub(crate) snapshots: IntGauge,
    /// Number of the running snapshot, from 1.
    pub(crate) config_generation: IntGauge,
    pub(crate) access_log_dropped: IntCounter,
    /// `result`: TLS handshakes of clients: `ok`, `failed`, `timeout`.
    pub(crate) tls_handshakes: IntCounterVec,
    /// `result`: PROXY protocol headers of balancers: `ok`, `failed`, `timeout`.
    pub(crate) proxy_headers: IntCounterVec,
    /// By `reason`: heads that were refused: `malformed`, `too_large`, `slow`.
    pub(crate) unreadable: IntCounterVec,
    /// `header`: request headers ignored because the caller's key does not grant them.
    pub(crate) ungranted_headers: IntCounterVec,
    pub(crate) panics: IntCounter,
}

impl Metrics {
    /// Registers every family.
    ///
    /// # Errors
    /// Only when two families share a name, which a test rules out.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let histograms = |name: &str, help: &str, buckets: &[f64], labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let family = HistogramVec::new(options, labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let stage_seconds = histograms(
            "sluicegate_stage_seconds",
            "Time that a request spent in a stage of the pipeline.",
            STAGE_BUCKETS,
            &["stage"],
        )?;
        Ok(Self {
            stage_seconds: PerStage::new(|stage| {
                stage_seconds.with_label_values(&[stage.as_str()])
            }),
            requests: counters(
                "sluicegate_requests_total",
                "Requests by endpoint, label, pool and class of status.",
                &["endpoint", "label", "pool", "status"],
            )?,
            errors: counters(
                "sluicegate_errors_total",
                "Errors that the proxy itself answered, by OpenAI error code.",
                &["code"],
            )?,
            request_seconds: histograms(
                "sluicegate_request_seconds",
                "Time from a request's head to the last byte of its answer.",
                REQUEST_BUCKETS,
                &["label", "pool"],
            )?,
            ttft_seconds: histograms(
                "sluicegate_ttft_seconds",
                "Time from a request's head to the first content of its answer.",
                REQUEST_BUCKETS,
                &["label", "pool"],
            )?,
            cache_results: counters(
                "sluicegate_cache_results_total",
                "Cache look-ups by result.",
                &["result"],
            )?,
            cache_entries: gauge("sluicegate_cache_entries", "Answers in the cache.")?,
            cache_bytes: gauge(
                "sluicegate_cache_bytes",
                "Bytes of the answers in the cache.",
            )?,
            plugin_calls: counters(
                "sluicegate_plugin_calls_total",
                "Calls of plugins by slot and result.",
                &["slot", "result"],
            )?,
            plugin_call_seconds: histograms(
                "sluicegate_plugin_call_seconds",
                "Wall time of plugin calls.",
                STAGE_BUCKETS,
                &["slot"],
            )?,
            plugin_idle_instances: gauges(
                "sluicegate_plugin_idle_instances",
                "Plugin instances that wait for a call.",
                &["slot"],
            )?,
            plugin_pools: gauges(
                "sluicegate_plugin_pools",
                "Plugins of a slot in memory: the running one, and older ones in use by requests.",
                &["slot"],
            )?,
            plugin_generation: gauges(
                "sluicegate_plugin_generation",
                "Generation of the plugin that a slot runs.",
                &["slot"],
            )?,
            plugin_quarantined: gauges(
                "sluicegate_plugin_quarantined",
                "Plugins that are off the path for their faults.",
                &["slot"],
            )?,
            plugin_refused: counters(
                "sluicegate_plugin_refused_total",
                "Plugin candidates that were refused.",
                &["slot"],
            )?,
            plugin_dropped: counters(
                "sluicegate_plugin_dropped_total",
                "Log lines and metric writes of plugins that were dropped.",
                &["slot", "reason"],
            )?,
            tokens: counters(
                "sluicegate_tokens_total",
                "Tokens of prompts, of answers, and saved by compression.",
                &["direction", "label"],
            )?,
            upstream_in_flight: gauges(
                "sluicegate_upstream_in_flight",
                "Attempts that have begun and not ended.",
                &["pool", "backend"],
            )?,
            upstream_healthy: gauges(
                "sluicegate_upstream_healthy",
                "1 when a backend is healthy, else 0.",
                &["pool", "backend"],
            )?,
            upstream_attempts: counters(
                "sluicegate_upstream_attempts_total",
                "Attempts by backend and result.",
                &["pool", "backend", "result"],
            )?,
            upstream_connections: counters(
                "sluicegate_upstream_connections_total",
                "Connections opened to backends.",
                &["pool", "backend"],
            )?,
            requests_in_flight: gauge(
                "sluicegate_requests_in_flight",
                "Requests that have begun and not ended.",
            )?,
            buffered_bytes: gauge(
                "sluicegate_buffered_bytes",
                "Bytes of requests and answers in memory.",
            )?,
            client_connections: gauge(
                "sluicegate_client_connections",
                "Connections of clients that are served.",
            )?,
            connections_refused: counters(
                "sluicegate_client_connections_refused_total",
                "Connections of clients above the limit.",
                &["how"],
            )?,
            reloads: counters(
                "sluicegate_reloads_total",
                "Reloads of config and plugins by result.",
                &["result"],
            )?,
            snapshots: gauge(
                "sluicegate_snapshots",
                "Snapshots in memory: the running one, and older ones that requests decide on.",
            )?,
            config_generation: gauge(
                "sluicegate_config_generation",
                "Generation of the running snapshot.",
            )?,
            tls_handshakes: counters(
                "sluicegate_tls_handshakes_total",
                "TLS handshakes of clients, by result.",
                &["result"],
            )?,
            proxy_headers: counters(
                "sluicegate_proxy_headers_total",
                "PROXY protocol headers of balancers, by result.",
                &["result"],
            )?,
            unreadable: counters(
                "sluicegate_unreadable_heads_total",
                "Heads of requests that were refused, by reason.",
                &["reason"],
            )?,
            access_log_dropped: counter(
                "sluicegate_access_log_dropped_total",
                "Access log records dropped because the writer was behind.",
            )?,
            ungranted_headers: counters(
                "sluicegate_ungranted_headers_total",
                "Request headers ignored for want of a grant.",
                &["header"],
            )?,
            panics: counter("sluicegate_panics_total", "Requests ended by a panic.")?,
            registry,
        })
    }

    /// The registry, for metrics that plugins declare.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When a family is malformed.
    pub(crate) fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::proto::MetricType;

    use super::super::record::Stage;
    use super::*;

    /// Touches every family with labels, so that the registry shows it.
    fn all_touched() -> Metrics {
        let m = Metrics::new().unwrap();
        for (family, labels) in [
            (&m.requests, 4),
            (&m.errors, 1),
            (&m.cache_results, 1),
            (&m.plugin_calls, 2),
            (&m.plugin_refused, 1),
            (&m.plugin_dropped, 2),
            (&m.tokens, 2),
            (&m.upstream_attempts, 3),
            (&m.upstream_connections, 2),
            (&m.reloads, 1),
            (&m.tls_handshakes, 1),
            (&m.proxy_headers, 1),
            (&m.unreadable, 1),
            (&m.ungranted_headers, 1),
            (&m.connections_refused, 1),
        ] {
            family.with_label_values(&vec!["x"; labels]).inc();
        }
        for (family, labels) in [
            (&m.plugin_idle_instances, 1),
            (&m.plugin_pools, 1),
            (&m.plugin_generation, 1),
            (&m.plugin_quarantined, 1),
            (&m.upstream_in_flight, 2),
            (&m.upstream_healthy, 2),
        ] {
            family.with_label_values(&vec!["x"; labels]).inc();
        }
        for (family, labels) in [
            (&m.request_seconds, 2),
            (&m.ttft_seconds, 2),
            (&m.plugin_call_seconds, 1),
        ] {
            family.with_label_values(&vec!["x"; labels]).observe(0.1);
        }
        m
    }

    #[test]
    fn every_family_registers_under_a_name_with_its_unit() {
        let metrics = all_touched();
        let families = metrics.registry().gather();
        assert_eq!(families.len(), 34, "families of `Metrics`, counted by hand");
        for family in families {
            let name = family.name();
            let rest = name
                .strip_prefix("sluicegate_")
                .unwrap_or_else(|| panic!("{name}"));
            assert!(
                rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            assert!(!family.help().is_empty(), "{name}");
            match family.get_field_type() {
                MetricType::COUNTER => assert!(name.ends_with("_total"), "{name}"),
                MetricType::HISTOGRAM => assert!(name.ends_with("_seconds"), "{name}"),
                _ => assert!(!name.ends_with("_total"), "{name}"),
            }
        }
    }

    #[test]
    fn buckets_rise() {
        for buckets in [REQUEST_BUCKETS, STAGE_BUCKETS] {
            assert!(buckets.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn every_stage_is_shown_from_the_start() {
        let text = Metrics::new().unwrap().text().unwrap();
        for stage in Stage::ALL {
            let line = format!(
                "sluicegate_stage_seconds_count{{stage=\"{}\"}} 0",
                stage.as_str()
            );
            assert!(text.contains(&line), "{line}");
        }
    }
}
