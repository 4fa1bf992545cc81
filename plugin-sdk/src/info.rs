//! How a plugin introduces itself.

use crate::bindings::base::exports::sluicegate::plugin::lifecycle::PluginInfo;
use crate::{Capability, Metric, MetricKind, TextWish, ViewWish};

/// What a plugin is and what it wants: the named arguments of the export macros, each a method of
/// this type. Bounds are the contract's, see the interface `lifecycle`.
#[derive(Debug, Clone, PartialEq)]
pub struct Info(PluginInfo);

impl Info {
    /// Name, version and description of a plugin that has no config schema, wants nothing, and sees the
    /// whole request. The macros fill in what the plugin's `Cargo.toml` says.
    #[must_use]
    pub fn new(name: &str, version: &str, description: &str) -> Self {
        Self(PluginInfo {
            name: name.to_owned(),
            version: version.to_owned(),
            description: description.to_owned(),
            config_schema: String::new(),
            wants: Vec::new(),
            headers: Vec::new(),
            view: ViewWish {
                last_messages: None,
                text: TextWish::All,
            },
            metrics: Vec::new(),
        })
    }

    /// 1 to 64 bytes of `a-z 0-9 -`. Default: the package's name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.0.name);
        self
    }

    /// Semantic version. Default: the package's.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.0.version);
        self
    }

    /// One sentence, at most 512 bytes. Default: the package's description.
    #[must_use]
    pub fn description(mut self, description: &str) -> Self {
        description.clone_into(&mut self.0.description);
        self
    }

    /// JSON Schema (2020-12) of the config table, at most 64 KiB, for example by `include_str!`. The
    /// operator's table is validated with it before the plugin sees it, with all faults at once.
    /// Default: none; then any table passes, and `type Config` and `new` find what is wrong with it:
    /// let the type refuse unknown fields, or a misspelt one goes unnoticed.
    #[must_use]
    pub fn config_schema(mut self, schema: &str) -> Self {
        schema.clone_into(&mut self.0.config_schema);
        self
    }

    /// Capabilities without which the plugin does not work; the slot must grant each.
    #[must_use]
    pub fn wants(mut self, wants: impl IntoIterator<Item = Capability>) -> Self {
        self.0.wants = wants.into_iter().collect();
        self
    }

    /// Request headers that it would like to see, lower case; the slot's `headers` decides.
    #[must_use]
    pub fn headers<'a>(mut self, headers: impl IntoIterator<Item = &'a str>) -> Self {
        self.0.headers = headers.into_iter().map(str::to_owned).collect();
        self
    }

    /// So many of the last messages, besides all system and developer messages. Default: all. Ask
    /// for little: a message costs about 0.3 µs a call.
    #[must_use]
    pub fn last_messages(mut self, last_messages: u32) -> Self {
        self.0.view.last_messages = Some(last_messages);
        self
    }

    /// How much of each text. Default: all of it.
    #[must_use]
    pub fn text(mut self, text: TextWish) -> Self {
        self.0.view.text = text;
        self
    }

    /// The metrics that it will write, made by [`counter`] and [`histogram`]: a metric is written by
    /// its place in this list.
    #[must_use]
    pub fn metrics(mut self, metrics: impl IntoIterator<Item = Metric>) -> Self {
        self.0.metrics = metrics.into_iter().collect();
        self
    }

    /// The record that `describe` returns.
    #[must_use]
    pub fn into_record(self) -> PluginInfo {
        self.0
    }
}

/// Declares a counter. `name`: 1 to 48 bytes of `a-z 0-9 _`, without `_total`.
#[must_use]
pub fn counter(name: &str, help: &str) -> Metric {
    Metric {
        name: name.to_owned(),
        help: help.to_owned(),
        kind: MetricKind::Counter,
    }
}

/// Declares a histogram with the upper bounds of its buckets, ascending: 1 to 24.
#[must_use]
pub fn histogram(name: &str, help: &str, bounds: &[f64]) -> Metric {
    Metric {
        name: name.to_owned(),
        help: help.to_owned(),
        kind: MetricKind::Histogram(bounds.to_vec()),
    }
}
