//! `[auth]`: who may call.

use std::collections::HashMap;
use std::net::SocketAddr;

use sha2::{Digest, Sha256};

use super::Checker;
use crate::config::resolved::{ApiKey, Auth, AuthMode, Grants, Secret, Tenant};
use crate::config::schema::{self, Grant};

/// A shorter secret could be found by trying.
const LEAST_SECRET_BYTES: usize = 16;

pub(super) fn resolve(typed: &schema::Auth, listen: SocketAddr, checker: &mut Checker<'_>) -> Auth {
    let mode = match typed.mode {
        schema::AuthMode::Keys => AuthMode::Keys,
        schema::AuthMode::Open => AuthMode::Open,
        schema::AuthMode::PassThrough => AuthMode::PassThrough,
    };
    mode_fits(mode, typed, listen, checker);
    let entries = typed.keys.iter().enumerate();
    checker.unique(
        "key name",
        entries.map(|(at, key)| (format!("/auth/keys/{at}/name"), key.name.as_str())),
    );
    let entries = typed.keys.iter().enumerate();
    let keys: Vec<(usize, ApiKey)> = entries
        .filter_map(|(at, typed)| Some((at, key(&format!("/auth/keys/{at}"), typed, checker)?)))
        .collect();
    same_keys(&keys, checker);
    if let Some(secret) = &typed.tenant_secret {
        checker.secret("/auth/tenant_secret");
        if secret.len() < LEAST_SECRET_BYTES {
            let expected = format!("expected at least {LEAST_SECRET_BYTES} bytes");
            checker.error("/auth/tenant_secret", expected);
        }
    }
    Auth {
        mode,
        keys: keys.into_iter().map(|(_, key)| key).collect(),
        grants: grants(&typed.grants),
        tenant_secret: typed.tenant_secret.as_deref().map(Secret::new),
        open_to_network: typed.open_to_network,
    }
}

/// Two callers that present the same key could not be told apart.
fn same_keys(keys: &[(usize, ApiKey)], checker: &mut Checker<'_>) {
    let mut seen: HashMap<[u8; 32], &str> = HashMap::new();
    for (at, key) in keys {
        let pointer = format!("/auth/keys/{at}");
        if !checker.knows_whole(&pointer) {
            continue;
        }
        if let Some(first) = seen.get(&key.hash) {
            let message = format!("this key is the same as that of `{first}`");
            checker
                .error(&pointer, message)
                .help("give each caller a key of its own");
            continue;
        }
        seen.insert(key.hash, &key.name);
    }
}

fn mode_fits(mode: AuthMode, typed: &schema::Auth, listen: SocketAddr, checker: &mut Checker<'_>) {
    match mode {
        AuthMode::Keys if typed.keys.is_empty() && checker.knows("/auth/keys") => {
            checker
                .error(
                    "/auth/mode",
                    "mode `keys` needs at least one key: nobody could call",
                )
                .help("add [[auth.keys]], or write mode = \"open\" to let everybody call");
        }
        AuthMode::Open
            if !listen.ip().is_loopback()
                && !typed.open_to_network
                && checker.knows("/auth/open_to_network") =>
        {
            let message = format!("mode `open` on {listen} would let the whole network call");
            checker
                .error("/auth/mode", message)
                .help("listen on 127.0.0.1, use keys, or write open_to_network = true");
        }
        AuthMode::PassThrough
            if typed.tenant_secret.is_none() && checker.knows("/auth/tenant_secret") =>
        {
            checker
                .error("/auth/mode", "mode `pass_through` needs a `tenant_secret`")
                .help("callers are told apart by a keyed hash of their bearer: give it a key");
        }
        AuthMode::Keys | AuthMode::Open | AuthMode::PassThrough => {}
    }
    if mode != AuthMode::Keys && !typed.keys.is_empty() {
        checker.warn("/auth/keys/0", "keys are checked in mode `keys` only");
    }
}

fn key(pointer: &str, typed: &schema::Key, checker: &mut Checker<'_>) -> Option<ApiKey> {
    checker.text(&format!("{pointer}/name"), &typed.name, 64);
    if let Some(tenant) = &typed.tenant {
        checker.text(&format!("{pointer}/tenant"), tenant, 128);
    }
    let tenant = typed.tenant.as_deref().unwrap_or(&typed.name);
    let hash = match (&typed.key, &typed.key_sha256) {
        (Some(key), None) => {
            let pointer = format!("{pointer}/key");
            checker.secret(&pointer);
            checker.header_safe(&pointer, key);
            Sha256::digest(key.as_bytes()).into()
        }
        (None, Some(digits)) => checker.sha256(&format!("{pointer}/key_sha256"), digits)?,
        (Some(_), Some(_)) | (None, None) => {
            let is_known = |field: &str| checker.knows(&format!("{pointer}/{field}"));
            if is_known("key") && is_known("key_sha256") {
                let found = match typed.key {
                    Some(_) => "found both",
                    None => "found neither",
                };
                checker
                    .error(pointer, "expected either `key` or `key_sha256`")
                    .label(found)
                    .help("write key = \"${NAME}\" for an environment variable");
            }
            return None;
        }
    };
    Some(ApiKey {
        name: typed.name.clone(),
        tenant: Tenant::new(tenant),
        hash,
        grants: grants(&typed.grants),
    })
}

fn grants(typed: &[Grant]) -> Grants {
    Grants {
        cache: typed.contains(&Grant::Cache),
        compress: typed.contains(&Grant::Compress),
        session: typed.contains(&Grant::Session),
        route: typed.contains(&Grant::Route),
        explain: typed.contains(&Grant::Explain),
    }
}
