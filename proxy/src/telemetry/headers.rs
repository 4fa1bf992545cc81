//! Response headers that tell the client what was decided: names of the config, never addresses.

use std::fmt::Write as _;

use http::header::{HeaderName, HeaderValue};

use super::record::{Record, Stage};

/// Headers for a response whose record is filled as far as the request has come. With `expose_all`
/// also pool, backend and the time of each stage that was entered.
///
/// A value that no header may carry (a request id with control characters) is left out.
pub(crate) fn response(record: &Record, expose_all: bool) -> Vec<(HeaderName, HeaderValue)> {
    let mut out = Headers(Vec::with_capacity(8));
    out.text("x-request-id", &record.request_id);
    if let Some(label) = &record.label {
        out.text("x-sluicegate-label", label.as_str());
    }
    if record.is_model_call() {
        out.text("x-sluicegate-cache", record.cache.as_str());
    }
    if let Some(age) = record.cache_age {
        out.number("x-sluicegate-cache-age", age.as_secs());
    }
    // Zero tells that compression ran and found nothing; no header, that it did not run.
    if record.tokens_saved > 0 || !record.stage(Stage::Compress).is_zero() {
        out.number("x-sluicegate-tokens-saved", u64::from(record.tokens_saved));
    }
    if expose_all {
        if let Some(pool) = &record.pool {
            out.text("x-sluicegate-pool", pool.as_str());
        }
        if let Some(backend) = &record.backend {
            out.text("x-sluicegate-backend", backend.as_str());
        }
        out.text("server-timing", &server_timing(record));
    }
    out.0
}

struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    fn text(&mut self, name: &'static str, value: &str) {
        if value.is_empty() {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.push((HeaderName::from_static(name), value));
        }
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0
            .push((HeaderName::from_static(name), HeaderValue::from(value)));
    }
}

/// `STAGE;dur=MILLISECONDS`, in the order of the pipeline (W3C Server Timing).
fn server_timing(record: &Record) -> String {
    let mut out = String::with_capacity(192);
    for stage in Stage::ALL {
        let spent = record.stage(stage);
        if spent.is_zero() {
            continue;
        }
        let separator = if out.is_empty() { "" } else { ", " };
        let micros = spent.as_micros();
        let (whole, thousandths) = (micros / 1000, micros % 1000);
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{separator}{};dur={whole}.{thousandths:03}",
            stage.as_str()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{BackendName, Label, PoolName};
    use crate::telemetry::CacheResult;

    fn record() -> Record {
        let mut record = Record {
            request_id: "r-1".into(),
            endpoint: "chat",
            label: Some(Label::new("code")),
            cache: CacheResult::Hit,
            cache_age: Some(Duration::from_millis(61_900)),
            tokens_saved: 12,
            pool: Some(PoolName::new("fast")),
            backend: Some(BackendName::new("fast-1")),
            ..Record::default()
        };
        *record.stages.get_mut(Stage::Parse) = Duration::from_micros(12);
        *record.stages.get_mut(Stage::CacheLookup) = Duration::from_micros(1_503);
        record
    }

    fn shown(record: &Record, expose_all: bool) -> Vec<String> {
        response(record, expose_all)
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn all_headers_in_order() {
        assert_eq!(
            shown(&record(), true),
            [
                "x-request-id: r-1",
                "x-sluicegate-label: code",
                "x-sluicegate-cache: hit",
                "x-sluicegate-cache-age: 61",
                "x-sluicegate-tokens-saved: 12",
                "x-sluicegate-pool: fast",
                "x-sluicegate-backend: fast-1",
                "server-timing: parse;dur=0.012, cache-lookup;dur=1.503",
            ]
        );
    }

    #[test]
    fn names_and_timings_stay_inside_unless_exposed() {
        let shown = shown(&record(), false).join("\n");
        for hidden in ["pool", "backend", "server-timing"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }

    #[test]
    fn what_did_not_happen_has_no_header() {
        let relayed = Record {
            request_id: "r-2".into(),
            endpoint: "other",
            ..Record::default()
        };
        assert_eq!(shown(&relayed, true), ["x-request-id: r-2"]);
    }

    #[test]
    fn compression_without_effect_says_zero() {
        let mut record = Record {
            endpoint: "chat",
            ..Record::default()
        };
        *record.stages.get_mut(Stage::Compress) = Duration::from_micros(3);
        assert!(shown(&record, false).contains(&"x-sluicegate-tokens-saved: 0".to_owned()));
    }

    #[test]
    fn an_id_that_would_split_the_head_is_left_out() {
        let record = Record {
            request_id: "a\r\nset-cookie: x".into(),
            ..Record::default()
        };
        assert!(response(&record, true).is_empty());
    }
}
