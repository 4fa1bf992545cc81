//! Which headers cross the proxy.
//!
//! Requests go by an allow-list, because a backend is another party than the proxy: what a client
//! meant for the proxy (credentials, cookies, addresses put there by proxies in front) must not
//! reach it unasked. Answers go by a deny-list, because what nobody decided about stays as it came:
//! on it is what tells of the backend's host and of the account that is used there.
//!
//! Invariant: no caller's `authorization` or `cookie`, no hop-by-hop field and no `x-sluicegate-…`
//! gets through, whatever `forward_headers` says. `host` and `content-length` are written by the
//! exchange, which knows backend and body.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config;

/// Request headers that every pool gets.
const ALLOWED: &[&str] = &[
    "accept",
    "accept-language",
    "content-type",
    "user-agent",
    // Chooses between versions of an API.
    "anthropic-beta",
    "anthropic-version",
    "openai-beta",
    // Lets a backend recognise a repeated request.
    "idempotency-key",
    // Correlation.
    "traceparent",
    "tracestate",
    "x-request-id",
];

/// Besides [`ALLOWED`], where the body is relayed as it is: it and its encoding stay together,
/// and files may be fetched in parts.
const ALLOWED_RELAYED: &[&str] = &["accept-encoding", "content-encoding", "if-range", "range"];

/// Belong to the caller's own credential, so they go only where that goes: next to the pool's key
/// they would name somebody else's account.
const ALLOWED_WITH_CALLERS_KEY: &[&str] = &["openai-organization", "openai-project"];

/// RFC 9110 §7.6.1, and the older names that still occur.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Not to be had by any pool: the caller's own, or written by the exchange.
const NEVER: &[&str] = &[
    "authorization",
    "content-length",
    "cookie",
    "expect",
    "host",
];

/// Of an answer: hidden from clients unless the pool shows them.
const HIDDEN: &[&str] = &[
    // Of another host than the client speaks to.
    "clear-site-data",
    "set-cookie",
    "set-cookie2",
    // Policies that the client would hold the proxy's host to.
    "alt-svc",
    "nel",
    "public-key-pins",
    "report-to",
    "reporting-endpoints",
    "strict-transport-security",
    // Programs, hosts and addresses behind the proxy.
    "forwarded",
    "proxy-status",
    "server",
    "server-timing",
    "via",
    "x-backend",
    "x-backend-server",
    "x-cache",
    "x-cluster-client-ip",
    "x-host",
    "x-hostname",
    "x-node",
    "x-pod-name",
    "x-powered-by",
    "x-real-ip",
    "x-runtime",
    "x-served-by",
    "x-server",
    "x-server-name",
    "x-upstream",
];

/// As [`HIDDEN`]: what load balancers, meshes and content networks add.
const HIDDEN_PREFIXES: &[&str] = &[
    "cf-",
    "x-amz-cf-",
    "x-amzn-",
    "x-aspnet",
    "x-azure-",
    "x-b3-",
    "x-backend-",
    "x-debug-",
    "x-envoy-",
    "x-forwarded-",
    "x-internal-",
    "x-kong-",
    "x-litellm-",
    "x-ms-",
    "x-upstream-",
];

/// Ours: a client's are for us alone, and a backend must not pretend to be us.
const OURS: &str = "x-sluicegate-";

/// Headers of a request whose answer is inspected: it must come uncompressed. The body is sent
/// decoded, so the client's `content-encoding` stays behind.
///
/// `bearer` is the caller's own, sent where the pool has `pass_through`; else the pool's key is.
pub(crate) fn request(client: &HeaderMap, pool: &config::Pool, bearer: Option<&str>) -> HeaderMap {
    let mut headers = allowed(client, pool, &[]);
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    authorize(&mut headers, pool, bearer);
    headers
}

/// Headers of a request that is relayed as a stream, both ways as the bytes came.
pub(crate) fn relayed(client: &HeaderMap, pool: &config::Pool, bearer: Option<&str>) -> HeaderMap {
    let mut headers = allowed(client, pool, ALLOWED_RELAYED);
    authorize(&mut headers, pool, bearer);
    headers
}

/// Headers of an answer, less what concerns only the connection that it came on.
pub(crate) fn response(upstream: &HeaderMap) -> HeaderMap {
    let nominated = nominated(upstream);
    let mut headers = HeaderMap::with_capacity(upstream.len());
    for (name, value) in upstream {
        if !HOP_BY_HOP.contains(&name.as_str())
            && !nominated.contains(name)
            && !name.as_str().starts_with(OURS)
        {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Those headers of an answer that a client gets.
pub(crate) fn shown(answer: &HeaderMap, pool: &config::Pool) -> HeaderMap {
    let mut headers = answer.clone();
    let hidden: Vec<HeaderName> = answer
        .keys()
        .filter(|name| is_hidden(name, pool))
        .cloned()
        .collect();
    for name in hidden {
        headers.remove(name);
    }
    headers
}

fn is_hidden(name: &HeaderName, pool: &config::Pool) -> bool {
    let text = name.as_str();
    let by_default = HIDDEN.contains(&text)
        || HIDDEN_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        // With the caller's own key these name the caller's account.
        || (!pool.pass_through && ALLOWED_WITH_CALLERS_KEY.contains(&text));
    pool.hide_headers.contains(name) || (by_default && !pool.show_headers.contains(name))
}

/// What the allow-lists and the pool let through.
fn allowed(client: &HeaderMap, pool: &config::Pool, more: &[&str]) -> HeaderMap {
    let nominated = nominated(client);
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in client {
        let text = name.as_str();
        let wanted = ALLOWED.contains(&text)
            || more.contains(&text)
            || (pool.pass_through && ALLOWED_WITH_CALLERS_KEY.contains(&text))
            || pool.forward_headers.contains(name);
        if wanted && !nominated.contains(name) && !forbidden(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// What no pool can ask for.
fn forbidden(name: &HeaderName) -> bool {
    let name = name.as_str();
    NEVER.contains(&name) || HOP_BY_HOP.contains(&name) || name.starts_with(OURS)
}

/// Fields that `Connection` declares to be hop-by-hop (RFC 9110 §7.6.1).
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect()
}

/// Adds the credential. A value that is no header value (a line break in a key file, say) is left
/// out, and the backend answers 401.
fn authorize(headers: &mut HeaderMap, pool: &config::Pool, bearer: Option<&str>) {
    let key = if pool.pass_through {
        bearer
    } else {
        pool.api_key.as_ref().map(config::Secret::expose)
    };
    let value = key.and_then(|key| HeaderValue::try_from(format!("Bearer {key}")).ok());
    if let Some(mut value) = value {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::pool_config;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn credentials_cookies_and_our_own_headers_stay_behind() {
        let mut pool = pool_config("p", vec![]);
        pool.forward_headers = ["cookie", "authorization", "x-team", "x-sluicegate-cache"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        let client = map(&[
            ("authorization", "Bearer caller"),
            ("cookie", "session=1"),
            ("x-sluicegate-cache", "no-store"),
            ("x-team", "blue"),
            ("x-other", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("openai-organization", "org-caller"),
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
            ("accept-encoding", "gzip"),
        ]);
        let sent = request(&client, &pool, Some("caller"));
        let expected = map(&[
            ("x-team", "blue"),
            ("content-type", "application/json"),
            ("accept-encoding", "identity"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_pools_key_or_the_callers_bearer_is_sent_never_both() {
        let mut pool = pool_config("p", vec![]);
        pool.api_key = Some(config::Secret::new("pool-key"));
        let client = map(&[("openai-organization", "org-caller")]);
        let sent = request(&client, &pool, Some("caller"));
        assert_eq!(sent[header::AUTHORIZATION], "Bearer pool-key");
        assert!(!sent.contains_key("openai-organization"));
        pool.pass_through = true;
        let sent = request(&client, &pool, Some("caller"));
        assert_eq!(sent[header::AUTHORIZATION], "Bearer caller");
        assert_eq!(sent["openai-organization"], "org-caller");
        assert!(!request(&client, &pool, None).contains_key(header::AUTHORIZATION));
    }

    #[test]
    fn a_relayed_body_keeps_its_encoding_and_range() {
        let pool = pool_config("p", vec![]);
        let client = map(&[
            ("content-encoding", "gzip"),
            ("accept-encoding", "br"),
            ("range", "bytes=0-9"),
            ("connection", "range"),
        ]);
        let sent = relayed(&client, &pool, None);
        assert_eq!(
            sent,
            map(&[("content-encoding", "gzip"), ("accept-encoding", "br")])
        );
    }

    #[test]
    fn an_answer_tells_of_no_host_and_no_account_unless_the_pool_says_so() {
        let mut pool = pool_config("p", vec![]);
        let upstream = map(&[
            ("content-type", "application/json"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("server", "uvicorn"),
            ("openai-organization", "org-operator"),
            ("x-envoy-upstream-service-time", "7"),
            ("x-ratelimit-remaining-tokens", "9"),
            ("x-team", "blue"),
        ]);
        let least = map(&[
            ("content-type", "application/json"),
            ("x-ratelimit-remaining-tokens", "9"),
            ("x-team", "blue"),
        ]);
        assert_eq!(shown(&upstream, &pool), least);
        pool.pass_through = true;
        assert!(shown(&upstream, &pool).contains_key("openai-organization"));
        pool.show_headers = vec![header::SET_COOKIE, header::SERVER];
        pool.hide_headers = vec![HeaderName::from_static("x-team"), header::SERVER];
        let shown = shown(&upstream, &pool);
        assert_eq!(shown.get_all(header::SET_COOKIE).iter().count(), 2);
        assert!(!shown.contains_key("x-team") && !shown.contains_key(header::SERVER));
    }

    #[test]
    fn hop_by_hop_and_nominated_fields_leave_an_answer() {
        let upstream = map(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-sluicegate-cache", "hit"),
            ("content-type", "application/json"),
            ("retry-after", "7"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        let expected = map(&[
            ("content-type", "application/json"),
            ("retry-after", "7"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        assert_eq!(response(&upstream), expected);
    }
}
