//! Forgets the series of names that the config no longer has.
//!
//! Slots, pools, backends and labels are named by the config, and their names are label values: a
//! config that is edited for ever under ever new names would grow the exposition for ever. Gauges
//! of what is gone go at the next reload. Counters and histograms stay, since what happened,
//! happened, and a counter that comes back at zero reads as a restart; but no more than
//! [`KEPT`] series of a family, and then all of them go.

use std::collections::{HashMap, HashSet};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::proto::LabelPair;

use super::metrics::Metrics;
use super::observe::{NONE, OTHER};

/// Series of gone names that a family of counters or histograms keeps.
pub(crate) const KEPT: usize = 64;

/// The names that are in use: by the running config, or by what still runs of older ones.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) slots: HashSet<String>,
    pub(crate) pools: HashSet<String>,
    /// Each with its pool.
    pub(crate) backends: HashSet<(String, String)>,
    pub(crate) labels: HashSet<String>,
}

impl Names {
    /// True when the labels of a series name what is not in use.
    pub(crate) fn lack(&self, labels: &[LabelPair]) -> bool {
        let value = |name: &str| {
            let found = labels.iter().find(|label| label.name() == name);
            found.map(LabelPair::value)
        };
        let gone = |name: &str, known: &HashSet<String>| {
            value(name)
                .is_some_and(|value| value != NONE && value != OTHER && !known.contains(value))
        };
        let backend = value("pool").zip(value("backend"));
        gone("slot", &self.slots)
            || gone("pool", &self.pools)
            || gone("label", &self.labels)
            || backend.is_some_and(|(pool, backend)| {
                !self
                    .backends
                    .contains(&(pool.to_owned(), backend.to_owned()))
            })
    }
}

/// Removes the series of gone names from a family, if there are more than `kept`. Blocks for the
/// time of a scrape: for the control plane alone.
pub(crate) fn forget<B: MetricVecBuilder>(family: &MetricVec<B>, kept: usize, names: &Names) {
    let families = family.collect();
    let series = families.iter().flat_map(|family| family.get_metric());
    let gone: Vec<_> = series
        .map(|series| series.get_label())
        .filter(|labels| names.lack(labels))
        .collect();
    if gone.len() <= kept {
        return;
    }
    for labels in gone {
        let labels: HashMap<&str, &str> = labels
            .iter()
            .map(|label| (label.name(), label.value()))
            .collect();
        // An error says that the series is not there, which is what is wanted.
        let _ = family.remove(&labels);
    }
}

impl Metrics {
    /// Forgets the series of names that are no longer in use. The gauges of backends are not
    /// among them: their registry sees to those.
    pub(crate) fn forget_gone(&self, names: &Names) {
        for gauges in [
            &self.plugin_idle_instances,
            &self.plugin_pools,
            &self.plugin_generation,
            &self.plugin_quarantined,
        ] {
            forget(gauges, 0, names);
        }
        for counters in [
            &self.requests,
            &self.tokens,
            &self.plugin_calls,
            &self.plugin_refused,
            &self.plugin_dropped,
            &self.upstream_attempts,
            &self.upstream_connections,
        ] {
            forget(counters, KEPT, names);
        }
        for histograms in [
            &self.request_seconds,
            &self.ttft_seconds,
            &self.plugin_call_seconds,
        ] {
            forget(histograms, KEPT, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::proto::MetricFamily;

    use super::*;

    /// A number of series of gone names in each family that names something of the config.
    fn fill(metrics: &Metrics, number: usize) {
        let text = number.to_string();
        let name = text.as_str();
        for (family, labels) in [
            (&metrics.requests, &["chat", name, name, "2xx"][..]),
            (&metrics.tokens, &["in", name]),
            (&metrics.plugin_calls, &[name, "ok"]),
            (&metrics.plugin_refused, &[name]),
            (&metrics.plugin_dropped, &[name, "log"]),
            (&metrics.upstream_attempts, &[name, name, "2xx"]),
            (&metrics.upstream_connections, &[name, name]),
        ] {
            family.with_label_values(labels).inc();
        }
        for family in [&metrics.request_seconds, &metrics.ttft_seconds] {
            family.with_label_values(&[name, name]).observe(0.1);
        }
        metrics
            .plugin_call_seconds
            .with_label_values(&[name])
            .observe(0.1);
        for family in [
            &metrics.plugin_idle_instances,
            &metrics.plugin_pools,
            &metrics.plugin_generation,
            &metrics.plugin_quarantined,
        ] {
            family.with_label_values(&[name]).set(1);
        }
    }

    fn named(families: &[MetricFamily]) -> Vec<(&str, usize)> {
        let of_names = |family: &&MetricFamily| {
            let labels = family.get_metric().first().map(|one| one.get_label());
            labels.is_some_and(|labels| {
                labels
                    .iter()
                    .any(|label| ["slot", "pool", "label"].contains(&label.name()))
            })
        };
        families
            .iter()
            .filter(of_names)
            .map(|family| (family.name(), family.get_metric().len()))
            .collect()
    }

    fn used(number: usize) -> Names {
        let name = number.to_string();
        let set = || HashSet::from([name.clone()]);
        Names {
            slots: set(),
            pools: set(),
            backends: HashSet::from([(name.clone(), name.clone())]),
            labels: set(),
        }
    }

    #[test]
    fn every_family_is_bounded_however_names_change() {
        let metrics = Metrics::new().unwrap();
        for number in 0..10 * KEPT {
            fill(&metrics, number);
            metrics.forget_gone(&used(number));
        }
        let families = metrics.registry().gather();
        let named = named(&families);
        assert_eq!(named.len(), 14, "families that name something: {named:?}");
        for (name, series) in named {
            assert!(series <= KEPT + 1, "{name} has {series} series");
        }
    }

    #[test]
    fn what_is_in_use_or_just_gone_keeps_its_counts_and_only_gauges_go() {
        let metrics = Metrics::new().unwrap();
        fill(&metrics, 1);
        fill(&metrics, 2);
        metrics
            .requests
            .with_label_values(&["chat", NONE, NONE, "2xx"])
            .inc();
        metrics
            .requests
            .with_label_values(&["chat", OTHER, "2", "2xx"])
            .inc();
        metrics.forget_gone(&used(2));
        let text = metrics.text().unwrap();
        for kept in [
            r#"sluicegate_plugin_calls_total{result="ok",slot="1"} 1"#,
            r#"sluicegate_plugin_calls_total{result="ok",slot="2"} 1"#,
            r#"sluicegate_plugin_pools{slot="2"} 1"#,
            r#"label="none",pool="none""#,
            r#"label="other",pool="2""#,
        ] {
            assert!(text.contains(kept), "{kept}\n{text}");
        }
        assert!(
            !text.contains(r#"sluicegate_plugin_pools{slot="1"}"#),
            "{text}"
        );
    }
}
