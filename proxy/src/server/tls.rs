//! TLS of the data plane's listener: the certificates of the current snapshot, h2 and http/1.1.
//!
//! A handshake takes what is live when it begins; connections that are open keep their keys.

use std::fmt;
use std::sync::Arc;

use pingora::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::live::Live;

/// Accepts handshakes with the live certificates.
///
/// # Errors
/// When the system gives no randomness.
pub(super) fn acceptor(live: &Arc<Live>) -> Result<Acceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(FromSnapshot(Arc::clone(live))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Clients of every worker resume, and none costs memory here.
    config.ticketer = ring::Ticketer::new()?;
    Ok(Acceptor::from_server_config(Arc::new(config)))
}

struct FromSnapshot(Arc<Live>);

impl ResolvesServerCert for FromSnapshot {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.0.snapshot();
        let tls = snapshot.config.server.tls.as_ref()?;
        tls.choose(hello.server_name(), hello.signature_schemes())
    }
}

impl fmt::Debug for FromSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromSnapshot")
    }
}
