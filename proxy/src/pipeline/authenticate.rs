//! Says who calls: which tenant, under which grants, with which bearer to send on.
//!
//! Invariants: the tenant comes from the key alone, never from anything else that a client can
//! write; keys are compared as SHA-256 in constant time, and all of them are compared.

use hmac::{Hmac, KeyInit, Mac};
use http::header;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::client::Head;
use super::context::RequestContext;
use super::error::{Error, Result};
use super::snapshot::Snapshot;
use crate::api::hex;
use crate::config::{ApiKey, Auth, AuthMode, Grants, Tenant};
use crate::telemetry::Stage;

/// Longest session id that is kept, in bytes.
const MAX_SESSION_BYTES: usize = 128;

/// Who calls.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) grants: Grants,
    /// Sent on to pools with `pass_through`; present in that auth mode alone.
    pub(crate) bearer: Option<String>,
    /// `x-session-id`, when granted: 1 to 128 bytes.
    pub(crate) session: Option<String>,
}

/// Finds the caller.
///
/// # Errors
/// [`Error::Unauthenticated`] when the mode asks for a key and none matches.
pub(super) fn run(cx: &mut RequestContext, snapshot: &Snapshot, head: &Head) -> Result<Caller> {
    cx.enter(Stage::Authenticate);
    let auth = &snapshot.config.auth;
    let (tenant, grants, bearer) = match auth.mode {
        AuthMode::Open => (Tenant::new("anonymous"), auth.grants, None),
        AuthMode::Keys => {
            let key = bearer(head)
                .and_then(|presented| find_key(auth, presented))
                .ok_or(Error::Unauthenticated)?;
            cx.record.key = Some(key.name.clone());
            (key.tenant.clone(), key.grants, None)
        }
        AuthMode::PassThrough => {
            let presented = bearer(head).ok_or(Error::Unauthenticated)?;
            let tenant = tenant_of_bearer(auth, presented).ok_or(Error::Unauthenticated)?;
            (tenant, auth.grants, Some(presented.to_owned()))
        }
    };
    cx.record.tenant = Some(tenant.clone());
    let session = head
        .text("x-session-id")
        .filter(|id| !id.is_empty() && id.len() <= MAX_SESSION_BYTES)
        .filter(|_| granted(cx, grants.session, "x-session-id"))
        .map(str::to_owned);
    Ok(Caller {
        tenant,
        grants,
        bearer,
        session,
    })
}

/// True when granted; an ungranted header is ignored and counted.
pub(super) fn granted(cx: &RequestContext, grant: bool, header: &str) -> bool {
    if !grant {
        cx.shared
            .metrics
            .ungranted_headers
            .with_label_values(&[header])
            .inc();
    }
    grant
}

fn bearer(head: &Head) -> Option<&str> {
    let (scheme, token) = head.text(header::AUTHORIZATION)?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn find_key<'a>(auth: &'a Auth, presented: &str) -> Option<&'a ApiKey> {
    let hash: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
    // Every key is compared, so that the time tells nothing about which one came near.
    auth.keys.iter().fold(None, |found, key| {
        if bool::from(key.hash.ct_eq(&hash)) {
            Some(key)
        } else {
            found
        }
    })
}

/// The tenant of an unverified bearer: a keyed hash of it, the same on all nodes that share the
/// secret.
fn tenant_of_bearer(auth: &Auth, presented: &str) -> Option<Tenant> {
    let secret = auth.tenant_secret.as_ref()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
    mac.update(presented.as_bytes());
    let tag = mac.finalize().into_bytes();
    let mut name = String::with_capacity(40);
    name.push_str("bearer-");
    name.extend(tag.iter().take(16).flat_map(|byte| hex::digits(*byte)));
    Some(Tenant::new(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use http::{HeaderMap, Method};

    fn head(authorization: &str) -> Head {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        Head {
            method: Method::POST,
            path: "/v1/chat/completions".into(),
            decoded_path: None,
            path_and_query: "/v1/chat/completions".into(),
            headers,
        }
    }

    fn auth(keys: &[&str]) -> Auth {
        Auth {
            mode: AuthMode::Keys,
            keys: keys
                .iter()
                .map(|key| ApiKey {
                    name: (*key).to_owned(),
                    tenant: Tenant::new("acme"),
                    hash: Sha256::digest(key.as_bytes()).into(),
                    grants: Grants {
                        cache: true,
                        compress: true,
                        session: true,
                        route: false,
                        explain: false,
                    },
                })
                .collect(),
            grants: Grants {
                cache: true,
                compress: true,
                session: true,
                route: false,
                explain: false,
            },
            tenant_secret: Some(Secret::new("salt")),
            open_to_network: false,
        }
    }

    #[test]
    fn bearer_scheme_ignores_case_and_needs_a_token() {
        assert_eq!(bearer(&head("bearer abc")), Some("abc"));
        assert_eq!(bearer(&head("Bearer  abc ")), Some("abc"));
        assert_eq!(bearer(&head("Basic abc")), None);
        assert_eq!(bearer(&head("Bearer ")), None);
    }

    #[test]
    fn the_matching_key_is_found_wherever_it_stands() {
        let auth = auth(&["one", "two", "three"]);
        assert_eq!(find_key(&auth, "two").unwrap().name, "two");
        assert!(find_key(&auth, "four").is_none());
    }

    #[test]
    fn a_bearers_tenant_is_stable_and_does_not_show_it() {
        let auth = auth(&[]);
        let tenant = tenant_of_bearer(&auth, "sk-secret").unwrap();
        assert_eq!(tenant, tenant_of_bearer(&auth, "sk-secret").unwrap());
        assert_ne!(tenant, tenant_of_bearer(&auth, "sk-other").unwrap());
        assert!(!tenant.as_str().contains("secret"));
    }
}
