//! Who may use the admin listener.
//!
//! Two dangers, two rules. A web page in the operator's browser can send requests to a loopback
//! address, and with a name that resolves to it (DNS rebinding) also read the answers: so `Host`
//! must name this machine or the listen address, and `Origin`, which browsers add, must too. And a
//! listener on a network address is open to strangers: it has a token (the config insists), every
//! request but a probe must carry it, and then any `Host` may be used to reach it, since a page
//! does not know the token; an `Origin` must still be the host that was asked.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::route::Scope;
use crate::config::Secret;

/// The rules of one listener.
#[derive(Debug)]
pub(crate) struct Gate {
    listen: SocketAddr,
    /// SHA-256 of the token: of one length, so that comparing tells nothing about the token's.
    token: Option<[u8; 32]>,
    /// Hosts need not be known names.
    any_host: bool,
}

/// Why a request was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    ForeignHost,
    ForeignOrigin,
    NoToken,
    WrongToken,
}

impl Gate {
    /// The gate of a listener that is bound to `listen`. The metrics listener has no token: what it
    /// shows is what its address was chosen for.
    pub(crate) fn new(listen: SocketAddr, token: Option<&Secret>, scope: Scope) -> Self {
        let token = token
            .filter(|_| scope == Scope::All)
            .map(|token| Sha256::digest(token.expose().as_bytes()).into());
        let is_network = !listen.ip().is_loopback();
        let any_host = is_network && (token.is_some() || scope == Scope::Metrics);
        Self {
            listen,
            token,
            any_host,
        }
    }

    /// Checks where a request came from. Needs no token, so probes pass it too.
    ///
    /// # Errors
    /// [`Refused`] when a browser may have been tricked into sending it.
    pub(super) fn check_source(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let host = single(headers, HOST).ok_or(Refused::ForeignHost)?;
        let name = without_port(host).ok_or(Refused::ForeignHost)?;
        if !self.any_host && !self.is_ours(name) {
            return Err(Refused::ForeignHost);
        }
        if !headers.contains_key(ORIGIN) {
            return Ok(());
        }
        let origin = single(headers, ORIGIN)
            .and_then(|origin| {
                origin
                    .strip_prefix("http://")
                    .or_else(|| origin.strip_prefix("https://"))
            })
            .ok_or(Refused::ForeignOrigin)?;
        let is_known = if self.any_host {
            origin.eq_ignore_ascii_case(host)
        } else {
            without_port(origin).is_some_and(|name| self.is_ours(name))
        };
        if is_known {
            Ok(())
        } else {
            Err(Refused::ForeignOrigin)
        }
    }

    /// Checks the token, in a time that does not depend on where it differs.
    ///
    /// # Errors
    /// [`Refused`] when one is needed and it is absent or wrong.
    pub(super) fn check_token(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let Some(expected) = &self.token else {
            return Ok(());
        };
        let given = single(headers, AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .ok_or(Refused::NoToken)?
            .1;
        let given: [u8; 32] = Sha256::digest(given.trim().as_bytes()).into();
        if bool::from(given.ct_eq(expected)) {
            Ok(())
        } else {
            Err(Refused::WrongToken)
        }
    }

    /// True for loopback names and addresses, and for the address that is listened on.
    fn is_ours(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        bare.unwrap_or(name)
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip == self.listen.ip())
    }
}

/// The header's value when it is there exactly once and is text.
fn single(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`, without the port; none for anything else.
fn without_port(authority: &str) -> Option<&str> {
    let (name, port) = match authority.rfind(']') {
        Some(_) => match authority.rsplit_once("]:") {
            // The bracket belongs to the address; it is cut off together with it.
            Some((name, port)) => (authority.get(..=name.len())?, Some(port)),
            None => (authority, None),
        },
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    (is_port && !name.is_empty() && !name.contains(['/', '@', '?', '#'])).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn loopback() -> Gate {
        Gate::new("127.0.0.1:9090".parse().unwrap(), None, Scope::All)
    }

    fn network() -> Gate {
        let token = Secret::new("s3cret");
        Gate::new("10.0.0.7:9090".parse().unwrap(), Some(&token), Scope::All)
    }

    #[test]
    fn loopback_names_and_the_listen_address_pass_with_any_port() {
        let gate = Gate::new("127.0.0.2:9090".parse().unwrap(), None, Scope::All);
        for host in [
            "localhost",
            "LOCALHOST:1",
            "localhost.:9090",
            "127.0.0.1:9090",
            "127.0.0.2",
            "[::1]",
            "[::1]:8080",
        ] {
            assert_eq!(
                gate.check_source(&headers(&[("host", host)])),
                Ok(()),
                "{host}"
            );
        }
    }

    #[test]
    fn a_foreign_host_is_refused() {
        for host in [
            "evil.example",
            "evil.example:9090",
            "10.0.0.7",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil@localhost",
            "localhost:9090:x",
            "",
            "[::2]",
            "localhost/x",
            "[::1]evil.example",
            "[::1]x:80",
        ] {
            let result = loopback().check_source(&headers(&[("host", host)]));
            assert_eq!(result, Err(Refused::ForeignHost), "{host}");
        }
        assert_eq!(
            loopback().check_source(&headers(&[])),
            Err(Refused::ForeignHost)
        );
        let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(loopback().check_source(&two), Err(Refused::ForeignHost));
    }

    #[test]
    fn a_foreign_origin_is_refused_although_the_host_is_ours() {
        for origin in [
            "http://evil.example",
            "null",
            "https://127.0.0.1.evil.example",
            "file://",
        ] {
            let sent = headers(&[("host", "127.0.0.1:9090"), ("origin", origin)]);
            assert_eq!(
                loopback().check_source(&sent),
                Err(Refused::ForeignOrigin),
                "{origin}"
            );
        }
        let own = headers(&[
            ("host", "127.0.0.1:9090"),
            ("origin", "http://localhost:3000"),
        ]);
        assert_eq!(loopback().check_source(&own), Ok(()));
    }

    #[test]
    fn a_network_address_with_a_token_has_any_host_and_its_own_origin() {
        let asked = |pairs: &[(&'static str, &str)]| network().check_source(&headers(pairs));
        assert_eq!(asked(&[("host", "gate.internal")]), Ok(()));
        assert_eq!(
            asked(&[
                ("host", "gate.internal"),
                ("origin", "https://gate.internal")
            ]),
            Ok(())
        );
        assert_eq!(
            asked(&[
                ("host", "gate.internal"),
                ("origin", "https://evil.example")
            ]),
            Err(Refused::ForeignOrigin)
        );
    }

    #[test]
    fn a_network_address_without_a_token_still_checks_the_host() {
        let gate = Gate::new("10.0.0.7:9090".parse().unwrap(), None, Scope::All);
        assert_eq!(
            gate.check_source(&headers(&[("host", "10.0.0.7:9090")])),
            Ok(())
        );
        let foreign = headers(&[("host", "gate.internal")]);
        assert_eq!(gate.check_source(&foreign), Err(Refused::ForeignHost));
    }

    #[test]
    fn only_the_exact_token_passes() {
        let with = |value: &str| network().check_token(&headers(&[("authorization", value)]));
        assert_eq!(with("Bearer s3cret"), Ok(()));
        assert_eq!(with("bearer s3cret"), Ok(()));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer S3CRET", "Bearer "] {
            assert_eq!(with(wrong), Err(Refused::WrongToken), "{wrong}");
        }
        for none in ["s3cret", "Basic s3cret", "Bearer"] {
            assert_eq!(with(none), Err(Refused::NoToken), "{none}");
        }
        assert_eq!(network().check_token(&headers(&[])), Err(Refused::NoToken));
        let two = headers(&[
            ("authorization", "Bearer s3cret"),
            ("authorization", "Bearer x"),
        ]);
        assert_eq!(network().check_token(&two), Err(Refused::NoToken));
    }

    #[test]
    fn without_a_token_in_the_config_none_is_asked() {
        assert_eq!(loopback().check_token(&headers(&[])), Ok(()));
    }

    #[test]
    fn the_metrics_listener_asks_for_no_token() {
        let token = Secret::new("s3cret");
        let gate = Gate::new(
            "0.0.0.0:9100".parse().unwrap(),
            Some(&token),
            Scope::Metrics,
        );
        assert_eq!(gate.check_token(&headers(&[])), Ok(()));
        assert_eq!(
            gate.check_source(&headers(&[("host", "pod-7.cluster:9100")])),
            Ok(())
        );
    }
}
