//! `[auth]`: who may call.

use super::{Secret, Tenant};

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
