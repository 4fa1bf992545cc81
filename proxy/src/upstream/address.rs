//! Where a backend is: its addresses, and how pingora is to connect to them.
//!
//! A literal address is settled at once. A name is looked up at first use and then, when what is
//! known is older than [`STALE_AFTER`], again in the background: a request waits for a look-up only
//! when nothing is known yet. A look-up that fails leaves the addresses that were known.
//!
//! Invariant: the connection pools key by address and [`group`], so a connection is never used for
//! a backend of another identity, whose trust anchors or protocol may differ.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::backend::locked;
use crate::config::{BackendIdentity, Protocol};

/// Age at which a name is looked up again.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// How long a look-up in the background may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);

/// Streams that one HTTP/2 connection carries at once; the backend may allow fewer.
const H2_STREAMS: usize = 100;

/// What a backend's certificate must be signed by.
#[derive(Clone)]
enum Trust {
    /// The system's roots, which the connectors hold.
    System,
    /// The certificates of `ca_file`.
    File(Arc<[WrappedX509]>),
    /// `ca_file` could not be read; why.
    Unreadable(Arc<str>),
}

/// How to reach one backend.
pub(super) struct Peers {
    identity: BackendIdentity,
    /// Where background look-ups run.
    control: tokio::runtime::Handle,
    known: Mutex<Known>,
    /// A look-up is under way.
    is_refreshing: AtomicBool,
}

struct Known {
    trust: Trust,
    /// In the resolver's order; empty: never looked up.
    peers: Arc<[HttpPeer]>,
    /// None: a literal address, which does not age.
    looked_up: Option<Instant>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for BackendIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(
            f,
            "{scheme}://{}{}",
            authority(&self.host, Some(self.port)),
            self.base_path
        )
    }
}

/// Why no peer can be named.
pub(super) enum Unreachable {
    /// The name has no address.
    Name(String),
    /// The trust anchors are missing.
    Trust(String),
}

impl Peers {
    pub(super) fn new(identity: BackendIdentity, control: tokio::runtime::Handle) -> Self {
        let trust = match &identity.ca_file {
            Some(file) => read_trust(file),
            None => Trust::System,
        };
        let mut known = Known {
            trust,
            peers: Arc::new([]),
            looked_up: None,
        };
        if let Ok(literal) = identity.host.parse::<IpAddr>() {
            let address = SocketAddr::new(literal, identity.port);
            known.peers = peers(&identity, &known.trust, &[address]);
        }
        Self {
            identity,
            control,
            known: Mutex::new(known),
            is_refreshing: AtomicBool::new(false),
        }
    }

    /// Whether the connectors with the system's roots are needed.
    pub(super) fn uses_system_roots(&self) -> bool {
        self.identity.tls && self.identity.ca_file.is_none()
    }

    /// What to connect to, in order. Waits only when nothing is known yet.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<[HttpPeer]>, Unreachable> {
        let (peers, is_stale) = {
            let known = locked(&self.known);
            if let Trust::Unreadable(why) = &known.trust {
                return Err(Unreachable::Trust(why.to_string()));
            }
            let age = known.looked_up.map(|at| at.elapsed());
            (
                Arc::clone(&known.peers),
                age.is_some_and(|age| age > STALE_AFTER),
            )
        };
        if peers.is_empty() {
            return self.look_up().await.map_err(Unreachable::Name);
        }
        if is_stale && !self.is_refreshing.swap(true, Ordering::Relaxed) {
            let this = Arc::clone(self);
            // Ends by itself within its limit, and holds nothing but the addresses.
            self.control.spawn(async move {
                let found = tokio::time::timeout(LOOK_UP_LIMIT, this.look_up()).await;
                match found {
                    Ok(Ok(_)) => {}
                    Ok(Err(why)) => tracing::warn!(backend = %this.identity, why, "look-up failed"),
                    Err(_) => tracing::warn!(backend = %this.identity, "look-up timed out"),
                }
                this.is_refreshing.store(false, Ordering::Relaxed);
            });
        }
        Ok(peers)
    }

    /// Has the name looked up again at the next use, since its addresses do not answer.
    pub(super) fn expire(&self) {
        let mut known = locked(&self.known);
        if let Some(at) = &mut known.looked_up {
            *at = at.checked_sub(STALE_AFTER).unwrap_or(*at);
        }
    }

    /// Reads `ca_file` again, for connections from now on. Keeps what it has when the file cannot
    /// be read. Blocks on the file: for the control plane alone.
    pub(super) fn reread_trust(&self) {
        let Some(file) = &self.identity.ca_file else {
            return;
        };
        let trust = read_trust(file);
        let mut known = locked(&self.known);
        match (&known.trust, &trust) {
            (Trust::File(_), Trust::Unreadable(why)) => {
                tracing::warn!(backend = %self.identity, %why, "keeps the certificates it had");
            }
            (Trust::File(old), Trust::File(new)) if same(old, new) => {}
            (Trust::System | Trust::File(_) | Trust::Unreadable(_), _) => {
                let addresses: Vec<_> = known
                    .peers
                    .iter()
                    .filter_map(|peer| peer._address.as_inet().copied())
                    .collect();
                known.peers = peers(&self.identity, &trust, &addresses);
                known.trust = trust;
            }
        }
    }

    async fn look_up(&self) -> Result<Arc<[HttpPeer]>, String> {
        let host = (self.identity.host.as_str(), self.identity.port);
        let found: Vec<SocketAddr> = tokio::net::lookup_host(host)
            .await
            .map_err(|error| format!("{}: {error}", self.identity.host))?
            .collect();
        if found.is_empty() {
            return Err(format!("{}: no address", self.identity.host));
        }
        let mut known = locked(&self.known);
        known.peers = peers(&self.identity, &known.trust, &found);
        known.looked_up = Some(Instant::now());
        Ok(Arc::clone(&known.peers))
    }
}

/// `host[:port]` as URLs and the `host` header write it.
pub(super) fn authority(host: &str, port: Option<u16>) -> String {
    let brackets = host.contains(':');
    match (brackets, port) {
        (false, None) => host.to_owned(),
        (false, Some(port)) => format!("{host}:{port}"),
        (true, None) => format!("[{host}]"),
        (true, Some(port)) => format!("[{host}]:{port}"),
    }
}

/// The value of `host`: the name that TLS checks, else the host; the port where it is not the
/// scheme's own.
pub(super) fn host_header(identity: &BackendIdentity) -> String {
    let (host, default) = if identity.tls {
        (&identity.server_name, 443)
    } else {
        (&identity.host, 80)
    };
    authority(host, (identity.port != default).then_some(identity.port))
}

fn peers(identity: &BackendIdentity, trust: &Trust, addresses: &[SocketAddr]) -> Arc<[HttpPeer]> {
    let group = group(identity);
    addresses
        .iter()
        .map(|address| {
            let mut peer = HttpPeer::new(address, identity.tls, identity.server_name.clone());
            peer.group_key = group;
            let options = &mut peer.options;
            match identity.protocol {
                Protocol::Http1 => options.set_http_version(1, 1),
                Protocol::Http2 => {
                    options.set_http_version(2, 2);
                    options.max_h2_streams = H2_STREAMS;
                    options.h2_ping_interval = Some(Duration::from_secs(30));
                }
            }
            if let Trust::File(certificates) = trust {
                options.ca = Some(Arc::clone(certificates));
            }
            // A model may think for minutes before its first byte: without probes, a middlebox
            // that forgot the connection, or a host that lost power, would look the same.
            options.tcp_keepalive = Some(TcpKeepalive {
                idle: Duration::from_secs(60),
                interval: Duration::from_secs(10),
                count: 3,
                #[cfg(target_os = "linux")]
                user_timeout: Duration::ZERO,
            });
            peer
        })
        .collect()
}

/// Keeps the connections of different identities apart.
fn group(identity: &BackendIdentity) -> u64 {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    hasher.finish()
}

fn read_trust(file: &Path) -> Trust {
    match read_certificates(file) {
        Ok(certificates) => Trust::File(certificates.into()),
        Err(why) => Trust::Unreadable(format!("{}: {why}", file.display()).into()),
    }
}

fn read_certificates(file: &Path) -> Result<Vec<WrappedX509>, String> {
    let pem = std::fs::read(file).map_err(|error| error.to_string())?;
    let mut roots = rustls::RootCertStore::empty();
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let der = certificate.to_vec();
        roots.add(certificate).map_err(|error| error.to_string())?;
        // pingora's parser panics on what it cannot read, and is not the one that rustls used.
        let parsed = std::panic::catch_unwind(|| WrappedX509::new(der, parse_x509));
        certificates.push(parsed.map_err(|_| "not an X.509 certificate".to_owned())?);
    }
    if certificates.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(certificates)
}

fn same(one: &[WrappedX509], other: &[WrappedX509]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(a, b)| a.borrow_raw_cert() == b.borrow_raw_cert())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::identity;

    #[test]
    fn the_host_header_names_what_tls_checks() {
        let mut backend = identity("10.0.0.1", 8000);
        assert_eq!(host_header(&backend), "10.0.0.1:8000");
        backend.tls = true;
        backend.server_name = "api.example".into();
        assert_eq!(host_header(&backend), "api.example:8000");
        backend.port = 443;
        assert_eq!(host_header(&backend), "api.example");
        assert_eq!(host_header(&identity("::1", 8000)), "[::1]:8000");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_and_gives_every_address() {
        let peers = Arc::new(Peers::new(
            identity("localhost", 8000),
            tokio::runtime::Handle::current(),
        ));
        let first = peers.get().await.ok().unwrap();
        assert!(
            first
                .iter()
                .all(|peer| peer._address.as_inet().unwrap().ip().is_loopback())
        );
        let second = peers.get().await.ok().unwrap();
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[tokio::test]
    async fn a_missing_ca_file_is_an_error_of_trust_not_a_panic() {
        let mut backend = identity("10.0.0.1", 443);
        backend.tls = true;
        backend.ca_file = Some("/nowhere/ca.pem".into());
        let peers = Arc::new(Peers::new(backend, tokio::runtime::Handle::current()));
        assert!(
            matches!(peers.get().await, Err(Unreachable::Trust(why)) if why.contains("/nowhere/ca.pem"))
        );
    }
}
