//! `[auth]` as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may call.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    /// How callers are told apart.
    pub(crate) mode: AuthMode,
    /// The keys that callers present as `Authorization: Bearer KEY`.
    pub(crate) keys: Vec<Key>,
    /// What callers without a key of their own may use (modes `open` and `pass_through`).
    pub(crate) grants: Vec<Grant>,
    /// Turns a passed-through bearer into a tenant, the same on all nodes with the same secret: at
    /// least 16 bytes. Required in mode `pass_through`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant_secret: Option<String>,
    /// Allows mode `open` on an address that other machines can reach.
    pub(crate) open_to_network: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Keys,
            keys: Vec::new(),
            grants: default_grants(),
            tenant_secret: None,
            open_to_network: false,
        }
    }
}

/// How callers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuthMode {
    /// By one of `[[auth.keys]]`; others get 401.
    Keys,
    /// Not at all: everybody may call, as tenant `anonymous`.
    Open,
    /// By any bearer, unverified. It is sent on only to pools with `pass_through = true`.
    PassThrough,
}

/// A key that callers present.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    /// Shown in logs in place of the key: 1 to 64 bytes.
    pub(crate) name: String,
    /// Who pays: 1 to 128 bytes. Left out, the name. Keys of one tenant share cached answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// The key itself, best as `"${NAME}"` or `"${file:/path}"`. Either this or `key_sha256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// SHA-256 of the key, 64 hexadecimal digits. Either this or `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_sha256: Option<String>,
    /// Which request headers this caller may use; the others are ignored.
    #[serde(default = "default_grants")]
    pub(crate) grants: Vec<Grant>,
}

/// Request headers that a caller may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grant {
    /// `x-sluicegate-cache` and `Cache-Control`.
    Cache,
    /// `x-sluicegate-compress`.
    Compress,
    /// `x-session-id`.
    Session,
    /// `x-sluicegate-route`, and `model: "sluicegate/LABEL"`.
    Route,
    /// `x-sluicegate-explain`.
    Explain,
}

fn default_grants() -> Vec<Grant> {
    vec![Grant::Cache, Grant::Compress, Grant::Session]
}
