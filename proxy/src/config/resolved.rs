//! The config as the program uses it: checked, defaults filled in, names resolved.
//!
//! Built once by [`super::load()`] from the file as typed; immutable from then on. Nothing outside
//! `config/` sees the other form.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Defines a name as a type of its own, cheap to clone.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) struct $name(Arc<str>);

        impl $name {
            /// Wraps a name that the config has checked.
            pub(crate) fn new(name: &str) -> Self {
                Self(name.into())
            }

            /// The name as typed.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Name of a pool: 1 to 64 bytes of `a-z 0-9 - _ .`.
    PoolName
}
name! {
    /// Name of a backend, unique in its pool: as typed, else `POOL-1`, `POOL-2`, …
    BackendName
}
name! {
    /// What a classifier says and routes match: 1 to 64 bytes of `a-z 0-9 - _`.
    Label
}
name! {
    /// Who pays: 1 to 128 bytes. `anonymous` in open mode.
    Tenant
}
name! {
    /// Name of a plugin slot, unique in the config: 1 to 64 bytes of `a-z 0-9 -`.
    SlotName
}

/// A value that must never be printed: its `Debug` is `[redacted]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret value.
    pub(crate) fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that must send it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A whole config.
#[derive(Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) auth: Auth,
    pub(crate) models: Vec<Model>,
    /// In the file's order.
    pub(crate) pools: Vec<Arc<Pool>>,
    /// In the file's order: the first that matches wins. Never empty; the last one may be the
    /// implied catch-all to the first pool.
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) pipeline: Pipeline,
    pub(crate) cache: Cache,
    pub(crate) admin: Admin,
    pub(crate) telemetry: Telemetry,
}

/// `[server]`: the data plane's listener. Addresses, workers and TLS files cannot change live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
    /// Worker threads, each with its own connections; default: the number of cores.
    pub(crate) workers: usize,
    /// Largest request body; default 32 MiB. Above it: 413.
    pub(crate) max_body_bytes: usize,
    /// From a request's first byte to the end of its body; default 60 s.
    pub(crate) body_timeout: Duration,
    /// How long an idle client connection stays; default 60 s.
    pub(crate) keepalive_timeout: Duration,
    /// How long a stop waits for requests in flight; default 30 s.
    pub(crate) drain_timeout: Duration,
}

/// Certificate chain and private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

/// `[auth]`: who may call.
#[derive(Debug, PartialEq)]
pub(crate) struct Auth {
    pub(crate) mode: AuthMode,
    pub(crate) keys: Vec<ApiKey>,
    /// What callers without a key of their own may use (modes `open` and `pass_through`).
    pub(crate) grants: Grants,
    /// HMAC key that turns a passed-through bearer into a tenant. Present in mode `pass_through`.
    pub(crate) tenant_secret: Option<Secret>,
    /// Allows mode `open` on an address that is not loopback.
    pub(crate) open_to_network: bool,
}

/// How callers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMode {
    /// One of `[[auth.keys]]`, else 401.
    Keys,
    /// Everybody, as tenant `anonymous`.
    Open,
    /// Any bearer, unverified; sent on only to pools with `pass_through = true`.
    PassThrough,
}

/// One of `[[auth.keys]]`.
#[derive(Debug, PartialEq)]
pub(crate) struct ApiKey {
    pub(crate) name: String,
    pub(crate) tenant: Tenant,
    /// SHA-256 of the key.
    pub(crate) hash: [u8; 32],
    pub(crate) grants: Grants,
}

/// Which request headers a caller may use; ungranted ones are ignored and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grants {
    /// `x-sluicegate-cache` and `Cache-Control`.
    pub(crate) cache: bool,
    /// `x-sluicegate-compress`.
    pub(crate) compress: bool,
    /// `x-session-id`.
    pub(crate) session: bool,
    /// `x-sluicegate-route` and `model: "sluicegate/LABEL"`.
    pub(crate) route: bool,
    /// `x-sluicegate-explain`.
    pub(crate) explain: bool,
}

/// One of `[[models]]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// In tokens.
    pub(crate) context_length: Option<u32>,
    /// For example `chat`, `vision`, `tools`, `embeddings`.
    pub(crate) capabilities: Vec<String>,
}

/// One of `[[pools]]`: backends that serve the same models.
#[derive(Debug, PartialEq)]
pub(crate) struct Pool {
    pub(crate) name: PoolName,
    /// Never empty.
    pub(crate) backends: Vec<Backend>,
    /// Model names that clients may ask for and this pool serves, in the file's order. The first is
    /// what `auto` becomes; empty: the client's model name is sent as it is.
    pub(crate) models: Vec<String>,
    /// Client's model name to the name that the backends know, where they differ.
    pub(crate) model_map: BTreeMap<String, String>,
    /// Sent as `Authorization: Bearer`.
    pub(crate) api_key: Option<Secret>,
    /// Sends the caller's own bearer; only in auth mode `pass_through`.
    pub(crate) pass_through: bool,
    /// Client headers that are sent on besides the ones that every pool gets; lower case.
    pub(crate) forward_headers: Vec<http::HeaderName>,
    /// Health checks; none: only traffic tells.
    pub(crate) health: Option<HealthCheck>,
}

/// One of `[[pools.backends]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) name: BackendName,
    pub(crate) identity: BackendIdentity,
}

/// What makes two backends the same across reloads: where they are and how they are spoken to.
/// Health, in-flight counts and connections are kept by this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BackendIdentity {
    pub(crate) tls: bool,
    /// Host name or address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// In front of `/v1/…`; empty or `/prefix`, without a slash at the end.
    pub(crate) base_path: String,
    pub(crate) protocol: Protocol,
    /// Server name for TLS and certificate check; default: `host`.
    pub(crate) server_name: String,
    /// PEM bundle that replaces the system's roots for this backend.
    pub(crate) ca_file: Option<PathBuf>,
}

/// What is spoken to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.1, the default.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    Http2,
}

/// Active health check of a pool's backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    /// Default `/health`; 2xx is healthy.
    pub(crate) path: String,
    /// Default 5 s.
    pub(crate) interval: Duration,
    /// Default 2 s.
    pub(crate) timeout: Duration,
    /// Failures in a row that make a backend unhealthy; default 3.
    pub(crate) unhealthy_after: u32,
    /// Successes in a row that make it healthy again; default 1.
    pub(crate) healthy_after: u32,
}

/// One of `[[routes]]`.
#[derive(Debug, PartialEq)]
pub(crate) struct Route {
    /// As typed, else `route-1`, `route-2`, …
    pub(crate) name: String,
    pub(crate) matches: RouteMatch,
    pub(crate) pool: PoolName,
    /// Pools to go to, in order, when `pool` fails before the commit point.
    pub(crate) fallback: Vec<PoolName>,
    /// A 429 of a pool goes to the next pool of the chain; default: it is passed on.
    pub(crate) fallback_on_429: bool,
    /// The route's pool and its first model win over a known model name in the request.
    pub(crate) override_model: bool,
    /// Used where the request is silent.
    pub(crate) defaults: Defaults,
    /// Most that a request may ask for.
    pub(crate) max_tokens_cap: Option<u32>,
    /// Runs the compressors; default false.
    pub(crate) compress: bool,
    /// Allows look-up and storage; default true.
    pub(crate) cache: bool,
    /// Attempts in each pool of the chain; default 2.
    pub(crate) attempts: u32,
    /// Retries when a connection broke after the request was sent and before any byte came back.
    /// None: by endpoint, on for chat, completions and embeddings.
    pub(crate) retry_ambiguous: Option<bool>,
    pub(crate) commit: Commit,
    pub(crate) timeouts: Timeouts,
}

/// What a route asks of a request; every condition that is present must hold.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RouteMatch {
    /// Any of these.
    pub(crate) labels: Vec<Label>,
    /// Any of these model names, as the client wrote them; `*` at the end matches any rest.
    pub(crate) models: Vec<String>,
    /// Prefix of the request's path.
    pub(crate) path: Option<String>,
    /// All of these, name and exact value.
    pub(crate) headers: Vec<(http::HeaderName, String)>,
    pub(crate) tenants: Vec<Tenant>,
    /// Any of `text`, `image`, `audio`, `video`, `embedding`.
    pub(crate) modalities: Vec<String>,
    /// 0 to 1; a request of unknown complexity does not match.
    pub(crate) complexity_at_least: Option<f32>,
    /// Whether the request offers tools.
    pub(crate) tools: Option<bool>,
}

/// Sampling parameters for a silent client. Each as the JSON text to insert.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Defaults {
    pub(crate) max_tokens: Option<u32>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) stop: Vec<String>,
}

/// When the client gets the head of a streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// With the first event that carries content, reasoning or a tool call.
    Content,
    /// As soon as the upstream's head is there.
    Head,
}

/// Time-outs of a route's upstream exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// TCP and TLS; default 2 s.
    pub(crate) connect: Duration,
    /// From the request's last byte to the first content; default 120 s.
    pub(crate) first_token: Duration,
    /// Between two reads after that; default 60 s.
    pub(crate) between_bytes: Duration,
    /// The whole request with all its attempts; default 600 s.
    pub(crate) total: Duration,
}

/// `[pipeline]`: the plugin slots.
#[derive(Debug, PartialEq)]
pub(crate) struct Pipeline {
    /// In order; the first label wins.
    pub(crate) classify: Vec<Arc<Slot>>,
    /// In order; each sees the prompt as the one before left it.
    pub(crate) compress: Vec<Arc<Slot>>,
    pub(crate) cache_policy: Option<Arc<Slot>>,
    /// Instances that the allocator has room for; fixed at start.
    pub(crate) max_instances: u32,
    /// Linear memory that one instance may ever have, in bytes; fixed at start. Default 64 MiB;
    /// slots may ask for less.
    pub(crate) max_memory_bytes: usize,
    /// Folder of compiled components; default `$XDG_CACHE_HOME/sluicegate` or
    /// `~/.cache/sluicegate`.
    pub(crate) compile_cache: PathBuf,
    /// Bytes that folder may hold; default 1 GiB.
    pub(crate) compile_cache_bytes: u64,
}

impl Pipeline {
    /// Every slot, in the order of the stages.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        let policy = self.cache_policy.iter();
        self.classify.iter().chain(&self.compress).chain(policy)
    }

    /// Instances that all slots may have at once: one for each worker and the spares, twice, since
    /// a swap holds the old and the new ones.
    pub(crate) fn instances_needed(&self, workers: usize) -> u64 {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX);
        self.slots()
            .map(|slot| workers.saturating_add(slot.spares.into()).saturating_mul(2))
            .fold(0, u64::saturating_add)
    }
}

/// Which stage a slot belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SlotKind {
    /// `[[pipeline.classify]]`
    Classify,
    /// `[[pipeline.compress]]`
    Compress,
    /// `[pipeline.cache_policy]`
    CachePolicy,
}

/// One plugin slot. Two equal slots with equal component bytes share an instance pool across
/// reloads.
#[derive(Clone, PartialEq)]
pub(crate) struct Slot {
    pub(crate) kind: SlotKind,
    pub(crate) name: SlotName,
    pub(crate) source: Source,
    /// Required SHA-256 of the component.
    pub(crate) sha256: Option<[u8; 32]>,
    /// The slot's `config` table as JSON: `{}` when there is none.
    pub(crate) config: serde_json::Value,
    pub(crate) on_failure: OnFailure,
    /// CPU time of one call; defaults: classify and cache policy 5 ms, compress 20 ms, each plus
    /// 20 µs per KiB handed over (added by the host).
    pub(crate) cpu_time: Duration,
    /// Linear memory of an instance; default 64 MiB.
    pub(crate) memory_bytes: usize,
    /// Bytes of a result, and of the arguments of one host call; default 1 MiB.
    pub(crate) max_output_bytes: usize,
    /// Default 64 MiB.
    pub(crate) max_component_bytes: u64,
    /// Spare instances besides one per worker; default 2.
    pub(crate) spares: u32,
    /// Calls after which an instance is replaced; default 1,000,000.
    pub(crate) max_calls: u64,
    /// Faults in a row after which the plugin is taken off the path; default 5.
    pub(crate) quarantine_after: u32,
    /// `configure`'s time, off the path; default 10 s.
    pub(crate) configure_timeout: Duration,
    /// Overrides the plugin's wish.
    pub(crate) last_messages: Option<u32>,
    /// Overrides the plugin's wish.
    pub(crate) text: Option<TextWindow>,
    /// Default 4,096.
    pub(crate) max_messages: u32,
    /// What `prompt.read` gives in one call, in bytes; default 16 MiB.
    pub(crate) read_bytes: u64,
    /// Request headers that are shown to it.
    pub(crate) headers: Vec<http::HeaderName>,
    /// Whether it gets the clock.
    pub(crate) grant_clock: bool,
    /// Compress: default 4,096.
    pub(crate) max_edits: usize,
    /// Compress: edits of the last user message are allowed; default false.
    pub(crate) edit_last_user: bool,
    /// Compress: edits of tool results are allowed; default false.
    pub(crate) edit_tool_results: bool,
    /// Cache policy: fields that it may take out of the key, by their names in the contract.
    pub(crate) may_ignore: Vec<String>,
    /// Cache policy: bytes of an answer that `admit` sees; default 0.
    pub(crate) answer_bytes: u32,
}

/// Leaves the plugin's own table out: it may hold secrets.
impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// `builtin:NAME`
    Builtin(String),
    /// A file, relative paths resolved against the config file's folder.
    File(PathBuf),
}

/// What a stage does when a plugin gives no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// The stage goes on without it.
    Skip,
    /// The request is refused with 503.
    Deny,
}

/// How much of each text a plugin sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextWindow {
    /// No text.
    Nothing,
    /// Head and tail, in bytes.
    Window {
        /// From the beginning.
        head: u32,
        /// Up to the end.
        tail: u32,
    },
    /// All of it.
    All,
}

/// `[cache]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cache {
    /// Default true.
    pub(crate) enabled: bool,
    /// Default 10,000.
    pub(crate) max_entries: u64,
    /// Default 256 MiB.
    pub(crate) max_bytes: u64,
    /// Largest single answer; default 1 MiB.
    pub(crate) max_entry_bytes: usize,
    /// Life of an answer where no policy says otherwise; default 1 h.
    pub(crate) ttl: Duration,
    /// No policy may say more; default 30 d.
    pub(crate) max_ttl: Duration,
    /// Part of every key: changing it empties the cache.
    pub(crate) epoch: String,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admin {
    /// Default `127.0.0.1:9090`; none: no admin listener.
    pub(crate) listen: Option<SocketAddr>,
    /// Required when `listen` is not loopback.
    pub(crate) token: Option<Secret>,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Telemetry {
    /// A second listener for `/metrics` alone.
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    /// Filter in `tracing_subscriber::EnvFilter` form; default `info`.
    pub(crate) log_level: String,
    /// One line per request; default true.
    pub(crate) access_log: bool,
    /// Response headers `-pool`, `-backend` and `server-timing`; default: on a loopback listener.
    pub(crate) expose_all: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}
