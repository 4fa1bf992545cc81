//! The export macros: from a type that implements a trait to a component.
//!
//! Exports exist under `cfg(target_family = "wasm")` alone, so that the same crate builds and tests
//! natively. `configure` makes the plugin once and keeps it in a thread-local cell: a component's
//! instance has one thread and serves one call at a time.

use std::cell::OnceCell;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::{ConfigIssue, Failure, issue};

/// Reads the config, makes the plugin, keeps it.
///
/// # Errors
/// What the config's type, or the plugin itself, finds wrong.
pub fn configure<P, C: DeserializeOwned>(
    slot: &OnceCell<P>,
    config: &str,
    new: fn(C) -> Result<P, Vec<ConfigIssue>>,
) -> Result<(), Vec<ConfigIssue>> {
    let config = read(config).map_err(|issue| vec![issue])?;
    slot.set(new(config)?)
        .map_err(|_| vec![issue("", "an instance is configured once")])
}

/// Calls the plugin that [`configure`] made.
///
/// # Errors
/// The plugin's own failure, or that it was never configured.
pub fn with<P, T>(
    slot: &OnceCell<P>,
    call: impl FnOnce(&P) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match slot.get() {
        Some(plugin) => call(plugin),
        None => Err(Failure::Internal("called before `configure`".to_owned())),
    }
}

fn read<C: DeserializeOwned>(config: &str) -> Result<C, ConfigIssue> {
    let mut json = serde_json::Deserializer::from_str(config);
    let config = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| issue(pointer(error.path()), error.inner().to_string()))?;
    json.end()
        .map_err(|error| issue("", error.to_string()))
        .map(|()| config)
}

/// A path as JSON Pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Exports a [`Classifier`](crate::Classifier): `classifier!(Type, name: "…", …)`. Named arguments
/// are the methods of [`Info`](crate::Info), in any order; name, version and description default
/// to the package's own. Makes a function `plugin_info()` for tests.
#[macro_export]
macro_rules! classifier {
    ($plugin:ty $(, $field:ident : $value:expr)* $(,)?) => {
        $crate::__lifecycle!($plugin, $crate::Classifier $(, $field: $value)*);

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::__private::{ComponentHost, bindings, with};

            impl bindings::classifier::exports::sluicegate::plugin::classify::Guest
                for __SluicegateExport
            {
                fn classify(request: $crate::Request) -> Result<$crate::Opinion, $crate::Failure> {
                    __SLUICEGATE_PLUGIN.with(|slot| {
                        with(slot, |plugin: &$plugin| {
                            $crate::Classifier::classify(plugin, &request, &ComponentHost)
                        })
                    })
                }
            }

            bindings::classifier::export_classify!(
                __SluicegateExport with_types_in $crate::__private::bindings::classifier
            );
        };
    };
}

/// Exports a [`Compressor`](crate::Compressor): `compressor!(Type, name: "…", …)`. Named arguments
/// are the methods of [`Info`](crate::Info), in any order; name, version and description default
/// to the package's own. Makes a function `plugin_info()` for tests.
#[macro_export]
macro_rules! compressor {
    ($plugin:ty $(, $field:ident : $value:expr)* $(,)?) => {
        $crate::__lifecycle!($plugin, $crate::Compressor $(, $field: $value)*);

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::__private::{ComponentHost, bindings, with};

            impl bindings::compressor::exports::sluicegate::plugin::compress::Guest
                for __SluicegateExport
            {
                fn compress(
                    request: $crate::Request,
                    budget: $crate::Budget,
                ) -> Result<Vec<$crate::Edit>, $crate::Failure> {
                    __SLUICEGATE_PLUGIN.with(|slot| {
                        with(slot, |plugin: &$plugin| {
                            $crate::Compressor::compress(plugin, &request, &budget, &ComponentHost)
                        })
                    })
                }
            }

            bindings::compressor::export_compress!(
                __SluicegateExport with_types_in $crate::__private::bindings::compressor
            );
        };
    };
}

/// Exports a [`CachePolicy`](crate::CachePolicy): `cache_policy!(Type, name: "…", …)`. Named
/// arguments are the methods of [`Info`](crate::Info), in any order; name, version and description
/// default to the package's own. Makes a function `plugin_info()` for tests.
#[macro_export]
macro_rules! cache_policy {
    ($plugin:ty $(, $field:ident : $value:expr)* $(,)?) => {
        $crate::__lifecycle!($plugin, $crate::CachePolicy $(, $field: $value)*);

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::__private::{ComponentHost, bindings, with};

            impl bindings::cache_policy::exports::sluicegate::plugin::cache::Guest
                for __SluicegateExport
            {
                fn decide(
                    request: $crate::Request,
                    summary: $crate::Summary,
                ) -> Result<$crate::Decision, $crate::Failure> {
                    __SLUICEGATE_PLUGIN.with(|slot| {
                        with(slot, |plugin: &$plugin| {
                            $crate::CachePolicy::decide(plugin, &request, &summary, &ComponentHost)
                        })
                    })
                }

                fn admit(answer: $crate::Answer) -> Result<bool, $crate::Failure> {
                    __SLUICEGATE_PLUGIN.with(|slot| {
                        with(slot, |plugin: &$plugin| {
                            $crate::CachePolicy::admit(plugin, &answer, &ComponentHost)
                        })
                    })
                }
            }

            bindings::cache_policy::export_cache!(
                __SluicegateExport with_types_in $crate::__private::bindings::cache_policy
            );
        };
    };
}

/// What the three macros share: `plugin_info()`, the cell, and the interface `lifecycle`.
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle {
    ($plugin:ty, $trait:path $(, $field:ident : $value:expr)*) => {
        /// How this plugin introduces itself to the host.
        pub fn plugin_info() -> $crate::Info {
            $crate::Info::new(
                env!("CARGO_PKG_NAME"),
                env!("CARGO_PKG_VERSION"),
                env!("CARGO_PKG_DESCRIPTION"),
            )
            $(.$field($value))*
        }

        // A plugin that misses its trait is told so natively, too.
        const _: fn() = || {
            fn implements<P: $trait>() {}
            implements::<$plugin>();
        };

        #[cfg(target_family = "wasm")]
        thread_local! {
            static __SLUICEGATE_PLUGIN: $crate::__private::OnceCell<$plugin> =
                const { $crate::__private::OnceCell::new() };
        }

        #[cfg(target_family = "wasm")]
        struct __SluicegateExport;

        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::__private::bindings::base::exports::sluicegate::plugin::lifecycle;

            impl lifecycle::Guest for __SluicegateExport {
                fn describe() -> lifecycle::PluginInfo {
                    plugin_info().into_record()
                }

                fn configure(config: String) -> Result<(), Vec<$crate::ConfigIssue>> {
                    __SLUICEGATE_PLUGIN.with(|slot| {
                        $crate::__private::configure(slot, &config, <$plugin as $trait>::new)
                    })
                }
            }

            $crate::__private::bindings::base::export_lifecycle!(
                __SluicegateExport with_types_in $crate::__private::bindings::base
            );
        };
    };
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[expect(dead_code, reason = "only its type is looked at")]
        labels: std::collections::BTreeMap<String, Vec<u32>>,
    }

    fn fault(config: &str) -> ConfigIssue {
        configure(&OnceCell::new(), config, |config: Config| Ok(config))
            .unwrap_err()
            .remove(0)
    }

    #[test]
    fn a_config_issue_points_at_its_value() {
        let issue = fault(r#"{"labels": {"a/b": [1, "two"]}}"#);
        assert_eq!(issue.path, "/labels/a~1b/1");
        assert!(issue.message.contains("expected u32"), "{}", issue.message);
        assert_eq!(fault(r#"{"labels": {}} trailing"#).path, "");
        assert!(fault("{}").message.contains("labels"));
    }

    #[test]
    fn an_instance_is_configured_once_and_first() {
        let slot = OnceCell::new();
        let new = |config: Config| Ok(config);
        assert!(matches!(with(&slot, |_| Ok(())), Err(Failure::Internal(_))));
        assert!(configure(&slot, r#"{"labels": {}}"#, new).is_ok());
        assert!(with(&slot, |_| Ok(())).is_ok());
        assert!(configure(&slot, r#"{"labels": {}}"#, new).is_err());
    }
}
