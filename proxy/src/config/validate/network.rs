//! Addresses of listeners and URLs of backends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Uri;

use ipnet::IpNet;

use super::Checker;
use crate::config::resolved::Networks;

/// Stands in for an address that could not be read.
pub(super) const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a backend's URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BackendUrl {
    pub(super) tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Empty or `/prefix`; without `/v1` at its end.
    pub(super) base_path: String,
}

impl Checker<'_> {
    /// Reads `ADDRESS:PORT`; `localhost` is 127.0.0.1.
    pub(super) fn address(&mut self, pointer: &str, text: &str) -> SocketAddr {
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().unwrap_or_else(|_| {
            self.error(pointer, "expected an address and a port")
                .label("for example \"127.0.0.1:8080\", \"0.0.0.0:80\" or \"[::1]:8080\"");
            NO_ADDRESS
        })
    }

    /// Reads a list of addresses and networks.
    pub(super) fn networks(&mut self, pointer: &str, texts: &[String]) -> Networks {
        let mut networks = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match network(text) {
                Ok(network) => networks.push(network),
                Err(expected) => {
                    self.error(
                        &format!("{pointer}/{index}"),
                        format!("expected {expected}"),
                    )
                    .label("for example \"192.0.2.1\", \"10.0.0.0/8\" or \"2001:db8::/32\"");
                }
            }
        }
        Networks(networks)
    }

    /// Reads a backend's URL.
    pub(super) fn backend_url(&mut self, pointer: &str, text: &str) -> Option<BackendUrl> {
        match parse(text) {
            Ok(url) => Some(url),
            Err(expected) => {
                self.error(pointer, format!("expected {expected}")).label(
                    "for example \"http://10.0.0.7:8000\" or \"https://host.example/prefix\"",
                );
                None
            }
        }
    }
}

/// Whether two listeners cannot both be had.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip()
        || (one.ip().is_unspecified() && one.is_ipv4() == other.is_ipv4())
        || (other.ip().is_unspecified() && one.is_ipv4() == other.is_ipv4());
    one.port() != 0 && one.port() == other.port() && same_host
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text
        .parse()
        .map_err(|_| "an address or a network".to_owned())?;
    // `10.1.2.3/8` may have been meant as either.
    match network.trunc() {
        whole if whole == network => Ok(network),
        whole => Err(format!(
            "`{whole}` for the network, or `{}`",
            network.addr()
        )),
    }
}

fn parse(text: &str) -> Result<BackendUrl, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "a URL")?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err("a URL that begins with http:// or https://"),
    };
    let authority = uri.authority().ok_or("a URL with a host")?;
    if authority.as_str().contains('@') {
        return Err("a URL without user and password: the key belongs into `api_key`");
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("a URL without query and fragment");
    }
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err("a URL with a host");
    }
    let has_port = authority.as_str().len() > authority.host().len();
    let port = match authority.port_u16() {
        Some(0) => return Err("a URL whose port is not 0"),
        Some(port) => port,
        None if has_port => return Err("a URL whose port is a number from 1 to 65535"),
        None if tls => 443,
        None => 80,
    };
    let path = uri.path().trim_end_matches('/');
    Ok(BackendUrl {
        tls,
        host: host.to_owned(),
        port,
        base_path: path.strip_suffix("/v1").unwrap_or(path).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(tls: bool, host: &str, port: u16, base_path: &str) -> BackendUrl {
        BackendUrl {
            tls,
            host: host.to_owned(),
            port,
            base_path: base_path.to_owned(),
        }
    }

    #[test]
    fn a_v1_at_the_end_of_a_url_is_taken_off() {
        for text in [
            "http://host:8000",
            "http://host:8000/",
            "http://host:8000/v1/",
        ] {
            assert_eq!(parse(text), Ok(url(false, "host", 8000, "")), "{text}");
        }
        assert_eq!(
            parse("https://host/openai/v1"),
            Ok(url(true, "host", 443, "/openai"))
        );
        assert_eq!(parse("http://[::1]/av1"), Ok(url(false, "::1", 80, "/av1")));
    }

    #[test]
    fn urls_that_cannot_be_dialled_are_refused() {
        for text in [
            "",
            "host:8000",
            "ftp://host",
            "http://",
            "http://user:secret@host",
            "http://host?key=1",
            "http://host/#top",
            "http://host:0",
            "http://host:99999",
            "http://host:",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn listeners_collide_on_one_port_of_one_host() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(collide(address("127.0.0.1:80"), address("0.0.0.0:80")));
        assert!(!collide(address("127.0.0.1:80"), address("127.0.0.2:80")));
        assert!(!collide(address("127.0.0.1:0"), address("127.0.0.1:0")));
    }
}
