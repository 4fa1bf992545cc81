//! Why the host does not start, and why a candidate is refused: each text tells its reader what to
//! do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::aot::FolderError;
use super::failure::Failure;
use super::text::escape_control;
use super::types::ConfigIssue;
use crate::api::text::cut;

/// Names, or issues, that one message holds.
const LISTED: usize = 16;

/// Longest name that a message holds.
const NAME_BYTES: usize = 128;

/// Why the plugin host does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The compile cache is open to others.
    #[error(transparent)]
    CompileCache(#[from] FolderError),
    /// Mostly: too little address space for the instances.
    #[error(
        "cannot set up the plugin engine for {max_instances} instances of {max_memory_bytes} bytes \
         (lower `[pipeline] max_instances`, or raise the limit of address space): {detail}"
    )]
    Engine {
        max_instances: u32,
        max_memory_bytes: usize,
        detail: String,
    },
}

/// Why a candidate is refused. What ran in its slot goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no `builtin:{name}`; there are: {}", known.join(", "))]
    UnknownBuiltin {
        name: String,
        known: Vec<&'static str>,
    },
    #[error(
        "`{}` is larger than the slot's max_component_bytes = {limit}; build it with --release, or \
         raise the limit",
        path.display()
    )]
    TooLarge { path: PathBuf, limit: u64 },
    #[error(
        "its SHA-256 is {found}, and the slot's sha256 asks for {expected}; if this file is meant, \
         write its hash there"
    )]
    Sha256 { expected: String, found: String },
    #[error("the file is empty")]
    Empty,
    #[error(
        "the file is no WebAssembly; a plugin is a component: build it with \
         `cargo build --release --target wasm32-wasip2`"
    )]
    NotWasm,
    #[error(
        "the file is a core module, not a component; build it for wasm32-wasip2 (not \
         wasm32-unknown-unknown or wasm32-wasip1), or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    #[error("the component is cut off, damaged, or uses a feature that is off here: {detail}")]
    Malformed { detail: String },
    #[error(
        "it exports nothing of `sluicegate:plugin`, so it is no plugin (its exports: {}); export \
         one with the plugin SDK's macro",
        list(exports)
    )]
    NoContract { exports: Vec<String> },
    #[error(
        "it was built for contract {found}, and this proxy serves {served}; build it with that \
         version of the SDK, or update the proxy"
    )]
    UnknownVersion { found: String, served: &'static str },
    #[error(
        "it is a plugin for {}, and the slot is one for `{wanted}`; move it to such a slot",
        list(found)
    )]
    WrongKind {
        wanted: &'static str,
        found: Vec<String>,
    },
    #[error(
        "it exports no `sluicegate:plugin/lifecycle`, which every plugin must; export the whole \
         world, as the SDK's macro does"
    )]
    NoLifecycle,
    #[error(
        "it imports `{import}`, and plugins get no network: take out what uses it (in Python \
         build with `--stub-wasi`, in JavaScript disable `http` and `fetch-event`)"
    )]
    ForbiddenImport { import: String },
    #[error("it imports `{import}`, which this proxy does not have")]
    UnknownImport { import: String },
    #[error(
        "its functions do not have the contract's types ({detail}); build it against the \
         contract that this proxy was built with"
    )]
    Contract { detail: String },
    #[error("it cannot be instantiated: {0}")]
    Instantiate(#[source] Failure),
    #[error(
        "no room for its instances ({detail}); raise `[pipeline] max_instances` and restart, or \
         lower `spares`"
    )]
    NoRoom { detail: String },
    #[error("`describe` failed: {0}")]
    Describe(#[source] Failure),
    #[error("`describe` breaks the contract: {0}")]
    Description(String),
    #[error(
        "it needs `{capability}`, which the slot does not grant; grant it, or use another plugin"
    )]
    NotGranted { capability: &'static str },
    #[error("its config schema is no JSON Schema: {0}")]
    ConfigSchema(String),
    #[error("its config is not valid: {}", issue_list(issues))]
    Config { issues: Vec<ConfigIssue> },
    #[error("`configure` failed: {0}")]
    Configure(#[source] Failure),
    #[error("it failed on the built-in request: {0}")]
    Smoke(#[source] Failure),
    #[error("its metric `{name}` is refused: {detail}")]
    Metric { name: String, detail: String },
    #[error(
        "it is still being compiled after {}; it is taken as soon as that is done",
        format_args!("{waited:?}")
    )]
    Compiling { waited: Duration },
    #[error("no thread could be started to compile it")]
    NoThread {
        #[source]
        source: io::Error,
    },
    #[error("looking at it ended in a panic, which is a bug of this proxy: please report it")]
    Panicked,
    #[error("the proxy is stopping")]
    Stopping,
}

impl LoadError {
    /// Whether the same file may be whole a moment later: someone may be writing it.
    pub(super) fn may_be_half_written(&self) -> bool {
        matches!(
            self,
            Self::Read { .. }
                | Self::Sha256 { .. }
                | Self::Empty
                | Self::NotWasm
                | Self::Malformed { .. }
        )
    }
}

/// The first names of a list that a stranger wrote.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let (first, rest) = names.split_at(names.len().min(LISTED));
    let shown: Vec<String> = first
        .iter()
        .map(|name| format!("`{}`", escape_control(cut(name, NAME_BYTES))))
        .collect();
    let mut text = shown.join(", ");
    if !rest.is_empty() {
        text.push_str(&format!(" and {} more", rest.len()));
    }
    text
}

/// The first issues of a config: a plugin may name as many as fit its output.
fn issue_list(issues: &[ConfigIssue]) -> String {
    let issue = |issue: &ConfigIssue| match issue.pointer.as_str() {
        "" => issue.message.clone(),
        pointer => format!("`{pointer}`: {}", issue.message),
    };
    let (first, rest) = issues.split_at(issues.len().min(LISTED));
    let mut text = first.iter().map(issue).collect::<Vec<_>>().join("; ");
    if !rest.is_empty() {
        text.push_str(&format!("; and {} more", rest.len()));
    }
    text
}
