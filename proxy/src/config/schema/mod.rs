//! The config file as a user types it: one struct per table, a file per section.
//!
//! Invariants: every struct refuses unknown fields; every field has a doc, which becomes its
//! description in the JSON Schema; a default exists once, in `Default` or in the function that
//! `#[serde(default)]` names. What a value means beyond its shape (does that pool exist, is that
//! file there) is checked by [`super::validate`].

mod admin;
mod auth;
mod cache;
mod pipeline;
mod pools;
mod routes;
mod server;
mod telemetry;
mod units;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use admin::Admin;
pub(crate) use auth::{Auth, AuthMode, Grant, Key};
pub(crate) use cache::Cache;
pub(crate) use pipeline::{Capability, OnFailure, Pipeline, Slot, Text, Word};
pub(crate) use pools::{Backend, Health, Model, Pool, Protocol};
pub(crate) use routes::{Commit, Match, Modality, OneOrMany, Route};
pub(crate) use server::{Server, Tls};
pub(crate) use telemetry::{Expose, LogFormat, Telemetry};
pub(crate) use units::{SIZE_FORMAT, Size, TIME_FORMAT, Time};

/// Config of Sluicegate. Times are strings such as `"120s"` or `"500ms"`; sizes are strings such as
/// `"32MiB"`, or plain numbers of bytes. In every string `${NAME}` stands for an environment
/// variable, `${file:/path}` for a file's text, and `$$` for a dollar sign. Relative paths start at
/// the config file's folder.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Sluicegate config")]
pub(crate) struct File {
    /// The listener for clients, and its limits.
    #[serde(default)]
    pub(crate) server: Server,
    /// Who may call.
    #[serde(default)]
    pub(crate) auth: Auth,
    /// What is known about models.
    #[serde(default)]
    pub(crate) models: Vec<Model>,
    /// Groups of backends that serve the same models. At least one. The first one gets the requests
    /// that no route matches.
    #[schemars(length(min = 1))]
    pub(crate) pools: Vec<Pool>,
    /// Which pool gets a request: the first route that matches wins. Behind the last one stands an
    /// implied route that sends everything to the first pool.
    #[serde(default)]
    pub(crate) routes: Vec<Route>,
    /// The plugins. Left out, the three bundled ones run with their defaults.
    #[serde(default)]
    pub(crate) pipeline: Pipeline,
    /// Answers kept in memory for equal requests.
    #[serde(default)]
    pub(crate) cache: Cache,
    /// The listener for operators.
    #[serde(default)]
    pub(crate) admin: Admin,
    /// Logs and metrics.
    #[serde(default)]
    pub(crate) telemetry: Telemetry,
}

/// The JSON Schema (2020-12) of [`File`].
pub(crate) fn json() -> Value {
    SchemaSettings::draft2020_12()
        .with_transform(ForToml)
        .into_generator()
        .into_root_schema_for::<File>()
        .to_value()
}

/// Fits a generated schema to TOML files: TOML has no null, and a number that the field's type
/// cannot hold must be an error of the schema, so that it is found together with all others.
#[derive(Clone)]
struct ForToml;

impl Transform for ForToml {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        drop_null(schema);
        let widest = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => Some(Value::from(u32::MAX)),
            Some("uint64" | "uint") => Some(Value::from(i64::MAX)),
            _ => None,
        };
        if let Some(widest) = widest
            && !schema.ensure_object().contains_key("maximum")
        {
            schema.insert("maximum".to_owned(), widest);
        }
    }
}

/// Takes null out of what an `Option` allows.
fn drop_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [single] = types.as_slice() {
            let single = single.clone();
            object.insert("type".to_owned(), single);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(single)] = choices.as_slice() {
            let single = single.clone();
            object.remove("anyOf");
            for (keyword, value) in single {
                object.entry(keyword).or_insert(value);
            }
        }
    }
}
