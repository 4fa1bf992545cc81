//! Feeds the metrics of one finished request from its record.

use super::metrics::Metrics;
use super::record::{Outcome, Record, Stage};

/// Label value for what is absent: no label, no pool.
pub(super) const NONE: &str = "none";
/// Label value for what the config does not name.
pub(super) const OTHER: &str = "other";

/// Counts and measures one finished request. Called once for every record, however it ended.
pub(crate) fn observe(metrics: &Metrics, record: &Record) {
    let label = label(record);
    let pool = record.pool.as_ref().map_or(NONE, |pool| pool.as_str());
    let endpoint = if record.endpoint.is_empty() {
        OTHER
    } else {
        record.endpoint
    };

    metrics
        .requests
        .with_label_values(&[endpoint, label, pool, status(record)])
        .inc();
    if let Some(code) = record.error {
        metrics.errors.with_label_values(&[code]).inc();
    }
    metrics
        .request_seconds
        .with_label_values(&[label, pool])
        .observe(record.duration.as_secs_f64());
    if let Some(ttft) = record.ttft {
        metrics
            .ttft_seconds
            .with_label_values(&[label, pool])
            .observe(ttft.as_secs_f64());
    }
    for stage in Stage::ALL {
        let spent = record.stage(stage);
        if !spent.is_zero() {
            let histogram = metrics.stage_seconds.get(stage);
            histogram.observe(spent.as_secs_f64());
        }
    }
    // Before its route is known a request was refused, which says nothing about the cache.
    if record.is_model_call() && record.route.is_some() {
        metrics
            .cache_results
            .with_label_values(&[record.cache.as_str()])
            .inc();
    }
    for (direction, tokens) in [
        ("in", record.prompt_tokens),
        ("out", record.completion_tokens),
        ("saved", record.tokens_saved),
    ] {
        if tokens > 0 {
            metrics
                .tokens
                .with_label_values(&[direction, label])
                .inc_by(u64::from(tokens));
        }
    }
}

/// The label as a metric label: a classifier may say anything, the config names a closed set.
fn label(record: &Record) -> &str {
    match &record.label {
        None => NONE,
        Some(label) if record.label_known => label.as_str(),
        Some(_) => OTHER,
    }
}

fn status(record: &Record) -> &'static str {
    match record.outcome {
        Outcome::Aborted | Outcome::UpstreamFailed => record.outcome.as_str(),
        Outcome::Complete => match record.status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => OTHER,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Label, PoolName};
    use crate::telemetry::CacheResult;

    fn served() -> Record {
        let mut record = Record {
            endpoint: "chat",
            label: Some(Label::new("code")),
            label_known: true,
            route: Some("code".into()),
            pool: Some(PoolName::new("fast")),
            cache: CacheResult::Miss,
            status: 200,
            prompt_tokens: 40,
            completion_tokens: 7,
            tokens_saved: 5,
            ttft: Some(Duration::from_millis(20)),
            duration: Duration::from_millis(50),
            outcome: Outcome::Complete,
            ..Record::default()
        };
        *record.stages.get_mut(Stage::Parse) = Duration::from_micros(2);
        record
    }

    #[test]
    fn one_record_feeds_every_family_once() {
        let metrics = Metrics::new().unwrap();
        observe(&metrics, &served());
        let text = metrics.text().unwrap();
        for line in [
            r#"sluicegate_requests_total{endpoint="chat",label="code",pool="fast",status="2xx"} 1"#,
            r#"sluicegate_request_seconds_count{label="code",pool="fast"} 1"#,
            r#"sluicegate_request_seconds_sum{label="code",pool="fast"} 0.05"#,
            r#"sluicegate_ttft_seconds_sum{label="code",pool="fast"} 0.02"#,
            r#"sluicegate_stage_seconds_count{stage="parse"} 1"#,
            r#"sluicegate_stage_seconds_count{stage="compress"} 0"#,
            r#"sluicegate_cache_results_total{result="miss"} 1"#,
            r#"sluicegate_tokens_total{direction="in",label="code"} 40"#,
            r#"sluicegate_tokens_total{direction="out",label="code"} 7"#,
            r#"sluicegate_tokens_total{direction="saved",label="code"} 5"#,
        ] {
            assert!(text.contains(line), "{line}\nnot in\n{text}");
        }
        assert!(!text.contains("sluicegate_errors_total{"));
    }

    #[test]
    fn unknown_label_is_other_and_absent_label_is_none() {
        let metrics = Metrics::new().unwrap();
        observe(
            &metrics,
            &Record {
                label_known: false,
                ..served()
            },
        );
        observe(
            &metrics,
            &Record {
                label: None,
                pool: None,
                ..served()
            },
        );
        let text = metrics.text().unwrap();
        assert!(
            text.contains(r#"label="other",pool="fast",status="2xx"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"label="none",pool="none",status="2xx"} 1"#),
            "{text}"
        );
        assert!(!text.contains(r#"label="code""#));
    }

    #[test]
    fn endings_are_told_apart() {
        let metrics = Metrics::new().unwrap();
        observe(
            &metrics,
            &Record {
                outcome: Outcome::Aborted,
                ..served()
            },
        );
        observe(
            &metrics,
            &Record {
                outcome: Outcome::UpstreamFailed,
                ..served()
            },
        );
        observe(
            &metrics,
            &Record {
                status: 503,
                error: Some("no_backend"),
                ..served()
            },
        );
        let text = metrics.text().unwrap();
        for ending in ["aborted", "upstream_failed", "5xx"] {
            assert!(
                text.contains(&format!(r#"status="{ending}"}} 1"#)),
                "{ending}\n{text}"
            );
        }
        assert!(text.contains(r#"sluicegate_errors_total{code="no_backend"} 1"#));
    }

    #[test]
    fn a_refused_request_and_a_relayed_one_have_no_cache_result() {
        let metrics = Metrics::new().unwrap();
        observe(
            &metrics,
            &Record {
                route: None,
                status: 401,
                ..served()
            },
        );
        observe(
            &metrics,
            &Record {
                endpoint: "other",
                ..served()
            },
        );
        assert!(
            !metrics
                .text()
                .unwrap()
                .contains("sluicegate_cache_results_total{")
        );
    }
}
