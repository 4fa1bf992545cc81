//! A record as one line of the access log.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::telemetry::record::{Record, Stage};
use crate::telemetry::timestamp::rfc3339;

/// Bytes kept of a text that a client or an upstream chose.
pub(super) const TEXT_BYTES: usize = 256;

/// What a line says, in this order. What does not apply is left out.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: Cow<'a, str>,
    client: &'a str,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    status: u16,
    outcome: &'static str,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_ms: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_model: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    attempts: u32,
    cache: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_age_seconds: Option<u64>,
    stream: bool,
    prompt_tokens: u32,
    completion_tokens: u32,
    tokens_saved: u32,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    changed: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    reasons: &'a [String],
    body_bytes_in: u64,
    body_bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_detail: Option<Cow<'a, str>>,
    stages_ms: Stages<'a>,
}

impl<'a> Line<'a> {
    fn new(ended: SystemTime, record: &'a Record) -> Self {
        Self {
            time: rfc3339(ended),
            request_id: cut(&record.request_id),
            client: &record.client,
            method: cut(&record.method),
            path: cut(&record.path),
            status: record.status,
            outcome: record.outcome.as_str(),
            duration_ms: millis(record.duration),
            ttft_ms: record.ttft.map(millis),
            endpoint: record.endpoint,
            tenant: record.tenant.as_ref().map(|tenant| tenant.as_str()),
            key: record.key.as_deref(),
            model: record.model.as_deref().map(cut),
            upstream_model: record.upstream_model.as_deref().map(cut),
            label: record.label.as_ref().map(|label| label.as_str()),
            confidence: record.confidence,
            route: record.route.as_deref(),
            pool: record.pool.as_ref().map(|pool| pool.as_str()),
            backend: record.backend.as_ref().map(|backend| backend.as_str()),
            attempts: record.attempts,
            cache: record.cache.as_str(),
            cache_age_seconds: record.cache_age.map(|age| age.as_secs()),
            stream: record.stream,
            prompt_tokens: record.prompt_tokens,
            completion_tokens: record.completion_tokens,
            tokens_saved: record.tokens_saved,
            changed: &record.changed,
            reasons: &record.reasons,
            body_bytes_in: record.body_bytes_in,
            body_bytes_out: record.body_bytes_out,
            error: record.error,
            error_detail: record.error_detail.as_deref().map(cut),
            stages_ms: Stages(record),
        }
    }
}

/// The stages that were entered, as an object of milliseconds.
struct Stages<'a>(&'a Record);

impl Serialize for Stages<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entered = Stage::ALL
            .into_iter()
            .map(|stage| (stage.as_str(), self.0.stage(stage)))
            .filter(|(_, spent)| !spent.is_zero());
        serializer.collect_map(entered.map(|(stage, spent)| (stage, millis(spent))))
    }
}

/// Appends the line as one JSON object.
pub(super) fn json(out: &mut String, ended: SystemTime, record: &Record) {
    // Texts, numbers and one map with text keys: nothing here can fail to serialise.
    if let Ok(line) = serde_json::to_string(&Line::new(ended, record)) {
        out.push_str(&line);
    }
}

/// Appends the line for people: `name=value` with the essentials first, texts escaped where they
/// hold a space, a quote or a control character.
pub(super) fn text(out: &mut String, ended: SystemTime, record: &Record) {
    let line = Line::new(ended, record);
    out.push_str(&line.time);
    pair(out, "client", line.client);
    pair(out, "method", &line.method);
    pair(out, "path", &line.path);
    pair(out, "status", line.status);
    pair(out, "outcome", line.outcome);
    pair(out, "ms", line.duration_ms);
    maybe(out, "ttft_ms", line.ttft_ms);
    maybe(out, "label", line.label);
    maybe(out, "confidence", line.confidence);
    maybe(out, "route", line.route);
    maybe(out, "pool", line.pool);
    maybe(out, "backend", line.backend);
    pair(out, "attempts", line.attempts);
    maybe(out, "model", line.model);
    maybe(out, "upstream_model", line.upstream_model);
    pair(out, "cache", line.cache);
    maybe(out, "cache_age_seconds", line.cache_age_seconds);
    pair(out, "stream", line.stream);
    pair(
        out,
        "tokens",
        format!("{}/{}", line.prompt_tokens, line.completion_tokens),
    );
    pair(out, "tokens_saved", line.tokens_saved);
    pair(
        out,
        "bytes",
        format!("{}/{}", line.body_bytes_in, line.body_bytes_out),
    );
    if !line.reasons.is_empty() {
        pair(out, "reasons", line.reasons.join("; "));
    }
    if !line.changed.is_empty() {
        pair(out, "changed", line.changed.join(","));
    }
    maybe(out, "tenant", line.tenant);
    maybe(out, "key", line.key);
    maybe(out, "error", line.error);
    maybe(out, "error_detail", line.error_detail);
    pair(out, "request_id", &line.request_id);
}

fn pair(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let value = value.to_string();
    // Writing to a String cannot fail.
    let _ = if is_plain(&value) {
        write!(out, " {name}={value}")
    } else {
        write!(out, " {name}={value:?}")
    };
}

fn maybe(out: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        pair(out, name, value);
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

fn millis(duration: Duration) -> f64 {
    // One rounding alone: 11,791 µs show as `11.791` and not as `11.790999999999999`.
    duration.as_micros() as f64 / 1000.0
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_BYTES {
        return text.into();
    }
    let mut cut: String = text
        .char_indices()
        .take_while(|(at, c)| at + c.len_utf8() <= TEXT_BYTES)
        .map(|(_, c)| c)
        .collect();
    cut.push('…');
    cut.into()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::config::{BackendName, Label, PoolName, Tenant};
    use crate::telemetry::{CacheResult, Outcome};

    fn record() -> Record {
        let mut record = Record {
            request_id: "r-1".into(),
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            endpoint: "chat",
            client: "127.0.0.1".into(),
            tenant: Some(Tenant::new("acme")),
            key: Some("ci".into()),
            model: Some("auto".into()),
            upstream_model: Some("small".into()),
            label: Some(Label::new("code")),
            label_known: true,
            confidence: Some(0.5),
            route: Some("code".into()),
            pool: Some(PoolName::new("fast")),
            backend: Some(BackendName::new("fast-1")),
            attempts: 1,
            cache: CacheResult::Miss,
            stream: true,
            status: 200,
            prompt_tokens: 40,
            completion_tokens: 7,
            tokens_saved: 5,
            changed: vec!["max_tokens=4096->1024".into()],
            body_bytes_in: 300,
            body_bytes_out: 900,
            ttft: Some(Duration::from_micros(20_100)),
            duration: Duration::from_millis(50),
            outcome: Outcome::Complete,
            ..Record::default()
        };
        *record.stages.get_mut(Stage::Parse) = Duration::from_micros(12);
        record
    }

    fn as_json(record: &Record) -> String {
        let mut out = String::new();
        json(&mut out, UNIX_EPOCH, record);
        out
    }

    fn as_text(record: &Record) -> String {
        let mut out = String::new();
        text(&mut out, UNIX_EPOCH, record);
        out
    }

    #[test]
    fn a_served_request_as_json() {
        insta::assert_snapshot!(as_json(&record()), @r#"{"time":"1970-01-01T00:00:00.000Z","request_id":"r-1","client":"127.0.0.1","method":"POST","path":"/v1/chat/completions","status":200,"outcome":"complete","duration_ms":50.0,"ttft_ms":20.1,"endpoint":"chat","tenant":"acme","key":"ci","model":"auto","upstream_model":"small","label":"code","confidence":0.5,"route":"code","pool":"fast","backend":"fast-1","attempts":1,"cache":"miss","stream":true,"prompt_tokens":40,"completion_tokens":7,"tokens_saved":5,"changed":["max_tokens=4096->1024"],"body_bytes_in":300,"body_bytes_out":900,"stages_ms":{"parse":0.012}}"#);
    }

    #[test]
    fn a_served_request_as_text() {
        insta::assert_snapshot!(as_text(&record()), @"1970-01-01T00:00:00.000Z client=127.0.0.1 method=POST path=/v1/chat/completions status=200 outcome=complete ms=50 ttft_ms=20.1 label=code confidence=0.5 route=code pool=fast backend=fast-1 attempts=1 model=auto upstream_model=small cache=miss stream=true tokens=40/7 tokens_saved=5 bytes=300/900 changed=max_tokens=4096->1024 tenant=acme key=ci request_id=r-1");
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let evil = "x\nstatus=200 \u{1b}[2J\u{9b}2J\"";
        let record = Record {
            request_id: evil.into(),
            model: Some(evil.into()),
            ..record()
        };
        for line in [as_json(&record), as_text(&record)] {
            assert!(!line.contains(['\n', '\u{1b}']), "{line}");
        }
        assert!(!as_text(&record).contains('\u{9b}'));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let record = Record {
            path: "é".repeat(5000),
            ..Record::default()
        };
        let line: serde_json::Value = serde_json::from_str(&as_json(&record)).unwrap();
        assert_eq!(
            line["path"].as_str().unwrap(),
            format!("{}…", "é".repeat(TEXT_BYTES / 2))
        );
    }

    #[test]
    fn what_did_not_happen_is_left_out() {
        let line = as_json(&Record {
            status: 401,
            ..Record::default()
        });
        for absent in ["pool", "ttft_ms", "tenant", "error", "changed"] {
            assert!(!line.contains(absent), "{absent} in {line}");
        }
    }
}
