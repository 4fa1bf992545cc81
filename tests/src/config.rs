//! Configs of the proxy, written in one place.
//!
//! [`Config::new`] is the least that starts: free ports, open mode, two workers, JSON logs, no answer
//! cache, and a compile cache that all tests share. Tests add pools, routes and slots to it; without
//! slots the bundled plugins run.

use std::fmt::Display;
use std::path::PathBuf;

use toml::{Table, Value};

use crate::backend::Backend;
use crate::proxy::target_dir;

/// A config under construction.
#[derive(Debug, Clone)]
pub struct Config {
    table: Table,
}

impl Config {
    /// Without pools.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a config without pools is not a valid one"
    )]
    pub fn new() -> Self {
        Self {
            table: Table::new(),
        }
        .set("server.listen", "127.0.0.1:0")
        .set("server.workers", 2)
        .set("admin.listen", "127.0.0.1:0")
        .set("auth.mode", "open")
        .set("telemetry.log_format", "json")
        .set("cache.enabled", false)
        .set("pipeline.compile_cache", text(compile_cache().display()))
    }

    /// One pool, `main`, with this backend, that takes any model name; no health checks.
    #[must_use]
    pub fn one(backend: &Backend) -> Self {
        Self::new().pool(Pool::new("main").backend(backend))
    }

    /// With the answer cache on.
    #[must_use]
    pub fn cached(self) -> Self {
        self.set("cache.enabled", true)
    }

    /// Sets a value by its path of table names; tables on the way are made.
    ///
    /// # Panics
    /// When something on the way is not a table.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        set(&mut self.table, path, value.into());
        self
    }

    /// Takes a value out again.
    ///
    /// # Panics
    /// When something on the way is not a table.
    #[must_use]
    pub fn unset(mut self, path: &str) -> Self {
        let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut table = &mut self.table;
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            table = table[parent].as_table_mut().expect("a table");
        }
        table.remove(name);
        self
    }

    /// Adds one of `[[pools]]`.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        push(&mut self.table, "pools", pool.0);
        self
    }

    /// Adds one of `[[routes]]`.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        push(&mut self.table, "routes", route.0);
        self
    }

    /// Adds a plugin slot.
    #[must_use]
    pub fn slot(mut self, slot: Slot) -> Self {
        let pipeline = table(&mut self.table, "pipeline");
        match slot.stage {
            "cache_policy" => {
                pipeline.insert(slot.stage.into(), Value::Table(slot.table));
            }
            stage => push(pipeline, stage, slot.table),
        }
        self
    }

    /// Demands keys, and adds one of `[[auth.keys]]` whose key is in the environment variable.
    #[must_use]
    pub fn key(mut self, name: &str, tenant: &str, variable: &str) -> Self {
        let auth = table(&mut self.table, "auth");
        auth.insert("mode".into(), "keys".into());
        let mut key = Table::new();
        key.insert("name".into(), name.into());
        key.insert("tenant".into(), tenant.into());
        key.insert("key".into(), text(format!("${{{variable}}}")).into());
        push(auth, "keys", key);
        self
    }

    /// Grants the last key exactly these.
    ///
    /// # Panics
    /// When there is no key.
    #[must_use]
    pub fn grants(mut self, grants: &[&str]) -> Self {
        let keys = table(&mut self.table, "auth")
            .get_mut("keys")
            .and_then(Value::as_array_mut);
        let key = keys
            .and_then(|keys| keys.last_mut())
            .and_then(Value::as_table_mut);
        key.expect("a key").insert("grants".into(), list(grants));
        self
    }

    /// As TOML.
    ///
    /// # Panics
    /// Never: every table can be written.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.table).expect("tables can be written")
    }
}

/// One of `[[pools]]`.
#[derive(Debug, Clone)]
pub struct Pool(Table);

impl Pool {
    /// Without backends.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut table = Table::new();
        table.insert("name".into(), name.into());
        Self(table)
    }

    /// Adds a mock backend, as it is to be spoken to.
    #[must_use]
    pub fn backend(mut self, backend: &Backend) -> Self {
        let mut entry = Table::new();
        entry.insert("url".into(), backend.url().into());
        if backend.http2 {
            entry.insert("protocol".into(), "h2".into());
        }
        if let Some(certificate) = &backend.certificate {
            let ca = certificate.folder().join("ca.pem");
            entry.insert("ca_file".into(), text(ca.display()).into());
        }
        push(&mut self.0, "backends", entry);
        self
    }

    /// Adds a backend by its URL.
    #[must_use]
    pub fn url(mut self, url: impl Display) -> Self {
        let mut entry = Table::new();
        entry.insert("url".into(), text(url).into());
        push(&mut self.0, "backends", entry);
        self
    }

    /// Names the last backend.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        let backends = self.0.get_mut("backends").and_then(Value::as_array_mut);
        let backend = backends
            .and_then(|all| all.last_mut())
            .and_then(Value::as_table_mut);
        backend
            .expect("a backend")
            .insert("name".into(), name.into());
        self
    }

    /// The names that clients may ask for.
    #[must_use]
    pub fn models(self, models: &[&str]) -> Self {
        self.set("models", list(models))
    }

    /// Checks the backends' health ten times a second.
    #[must_use]
    pub fn health(self) -> Self {
        self.set("health.path", "/health")
            .set("health.interval", "100ms")
            .set("health.unhealthy_after", 2)
    }

    /// Sets any other value.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, path, value.into());
        self
    }
}

/// One of `[[routes]]`.
#[derive(Debug, Clone)]
pub struct Route(Table);

impl Route {
    /// A route without conditions.
    #[must_use]
    pub fn to(pool: &str) -> Self {
        let mut table = Table::new();
        table.insert("pool".into(), pool.into());
        Self(table)
    }

    /// Matches any of these labels.
    #[must_use]
    pub fn labels(self, labels: &[&str]) -> Self {
        self.set("match.label", list(labels))
    }

    /// Falls back to these pools.
    #[must_use]
    pub fn fallback(self, pools: &[&str]) -> Self {
        self.set("fallback", list(pools))
    }

    /// Sets any other value.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, path, value.into());
        self
    }
}

/// A plugin slot.
#[derive(Debug, Clone)]
pub struct Slot {
    stage: &'static str,
    table: Table,
}

impl Slot {
    /// One of `[[pipeline.classify]]`.
    #[must_use]
    pub fn classify(name: &str, source: impl Display) -> Self {
        Self::new("classify", name, source)
    }

    /// One of `[[pipeline.compress]]`.
    #[must_use]
    pub fn compress(name: &str, source: impl Display) -> Self {
        Self::new("compress", name, source)
    }

    /// `[pipeline.cache_policy]`
    #[must_use]
    pub fn cache_policy(name: &str, source: impl Display) -> Self {
        Self::new("cache_policy", name, source)
    }

    fn new(stage: &'static str, name: &str, source: impl Display) -> Self {
        let mut table = Table::new();
        table.insert("name".into(), name.into());
        table.insert("source".into(), text(source).into());
        Self { stage, table }
    }

    /// Sets any other value.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        set(&mut self.table, path, value.into());
        self
    }
}

/// Compiled components, shared by all tests so that each is compiled once.
fn compile_cache() -> PathBuf {
    target_dir().join("test-compile-cache")
}

fn text(value: impl Display) -> String {
    value.to_string()
}

fn list(items: &[&str]) -> Value {
    Value::Array(items.iter().map(|item| Value::from(*item)).collect())
}

fn table<'a>(parent: &'a mut Table, name: &str) -> &'a mut Table {
    let entry = parent
        .entry(name)
        .or_insert_with(|| Value::Table(Table::new()));
    entry.as_table_mut().expect("a table")
}

fn push(parent: &mut Table, name: &str, entry: Table) {
    let list = parent
        .entry(name)
        .or_insert_with(|| Value::Array(Vec::new()));
    list.as_array_mut()
        .expect("a list")
        .push(Value::Table(entry));
}

fn set(parent: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            parent.insert(path.into(), value);
        }
        Some((name, rest)) => set(table(parent, name), rest, value),
    }
}
