//! What a plugin says of itself, checked by the bounds of `lifecycle` and against the slot.

use http::HeaderName;

use super::error::LoadError;
use super::types::{MetricDeclaration, MetricKind, PluginInfo};
use crate::config::{Slot, TextWindow};

const NAME_BYTES: usize = 64;
const VERSION_BYTES: usize = 64;
const DESCRIPTION_BYTES: usize = 512;
const SCHEMA_BYTES: usize = 64 * 1024;
const HEADERS: usize = 32;
const METRICS: usize = 32;
const METRIC_NAME_BYTES: usize = 48;
const HELP_BYTES: usize = 256;
const BUCKETS: std::ops::RangeInclusive<usize> = 1..=24;
const WINDOW_BYTES: u32 = 1024 * 1024;

/// Checks the plugin's description.
///
/// # Errors
/// [`LoadError::Description`] with the first rule that it breaks, [`LoadError::NotGranted`].
pub(super) fn check(info: &PluginInfo, slot: &Slot) -> Result<(), LoadError> {
    let broken = |what: String| Err(LoadError::Description(what));
    let is_name = |text: &str, most: usize, extra: u8| {
        (1..=most).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == extra)
    };
    if !is_name(&info.name, NAME_BYTES, b'-') {
        return broken(format!(
            "`name` must be 1 to {NAME_BYTES} bytes of `a-z 0-9 -`"
        ));
    }
    let is_graphic = info.version.bytes().all(|byte| byte.is_ascii_graphic());
    if !(1..=VERSION_BYTES).contains(&info.version.len()) || !is_graphic {
        return broken(format!(
            "`version` must be 1 to {VERSION_BYTES} visible characters of ASCII"
        ));
    }
    if info.description.len() > DESCRIPTION_BYTES || info.description.contains(char::is_control) {
        return broken(format!(
            "`description` must be one line of at most {DESCRIPTION_BYTES} bytes"
        ));
    }
    if info.config_schema.len() > SCHEMA_BYTES {
        return broken(format!(
            "`config-schema` is larger than {SCHEMA_BYTES} bytes"
        ));
    }
    let is_header = |name: &String| {
        HeaderName::from_bytes(name.as_bytes()).is_ok_and(|parsed| parsed.as_str() == name)
    };
    if info.headers.len() > HEADERS || !info.headers.iter().all(is_header) {
        return broken(format!(
            "`headers` must be at most {HEADERS} lower-case header names"
        ));
    }
    if let TextWindow::Window { head, tail } = info.text
        && (head > WINDOW_BYTES || tail > WINDOW_BYTES)
    {
        return broken(format!(
            "`view.text`: head and tail must be at most {WINDOW_BYTES} bytes"
        ));
    }
    if info.metrics.len() > METRICS {
        return broken(format!("more than {METRICS} `metrics`"));
    }
    for (place, metric) in info.metrics.iter().enumerate() {
        if !is_name(&metric.name, METRIC_NAME_BYTES, b'_') {
            return broken(format!(
                "metric {place}: `name` must be 1 to {METRIC_NAME_BYTES} bytes of `a-z 0-9 _`"
            ));
        }
        if info
            .metrics
            .iter()
            .take(place)
            .any(|earlier| earlier.name == metric.name)
        {
            return broken(format!("metric `{}` twice", metric.name));
        }
        check_metric(metric)
            .map_err(|what| LoadError::Description(format!("metric `{}`: {what}", metric.name)))?;
    }
    if info.wants_clock && !slot.grant_clock {
        return Err(LoadError::NotGranted {
            capability: "clock",
        });
    }
    Ok(())
}

fn check_metric(metric: &MetricDeclaration) -> Result<(), String> {
    if metric.help.len() > HELP_BYTES || metric.help.contains(char::is_control) {
        return Err(format!(
            "`help` must be one line of at most {HELP_BYTES} bytes"
        ));
    }
    match &metric.kind {
        MetricKind::Counter => Ok(()),
        MetricKind::Histogram(bounds) => {
            let is_ascending = bounds.is_sorted_by(|low, high| low < high);
            let is_finite = bounds.iter().all(|bound| bound.is_finite());
            if BUCKETS.contains(&bounds.len()) && is_ascending && is_finite {
                Ok(())
            } else {
                Err("a histogram has 1 to 24 finite bounds, ascending".to_owned())
            }
        }
    }
}
