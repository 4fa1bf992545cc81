//! Backends that speak TLS, with certificates made on the spot.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio::join;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::testing::{Conn, Server, pick, pool, post, timeouts};
use super::super::{AttemptError, Exchange, Retry};
use super::body;
use crate::config::{BackendIdentity, HealthCheck, PoolName, Protocol};
use crate::upstream::testing::{eventually, pool_config, registry};

/// A certificate authority, and a backend's certificate for `backend.test` signed by it.
pub(super) struct Authority {
    pub(super) ca_file: NamedTempFile,
    acceptor: TlsAcceptor,
}

impl Authority {
    pub(super) fn new(alpn: &[&[u8]]) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["backend.test".to_owned()])
            .unwrap()
            .signed_by(&leaf_key, &issuer)
            .unwrap();
        let mut ca_file = NamedTempFile::new().unwrap();
        ca_file.write_all(root.pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into()),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self {
            ca_file,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    /// The backend behind `server`, trusting this authority.
    pub(super) fn identity(&self, server: &Server) -> BackendIdentity {
        BackendIdentity {
            tls: true,
            server_name: "backend.test".to_owned(),
            ca_file: Some(self.ca_file.path().to_owned()),
            ..server.identity()
        }
    }

    pub(super) async fn accept(&self, server: &Server) -> std::io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(server.accept().await.stream).await
    }
}

#[tokio::test]
async fn the_backends_own_authority_is_trusted_and_one_handshake_serves_many_requests() {
    let server = Server::start().await;
    let authority = Authority::new(&[b"http/1.1"]);
    let pool = pool(&[authority.identity(&server)]);
    let client = async {
        for _ in 0..5 {
            let out = post(vec![b'x'; 200_000]);
            let mut exchange = Exchange::open(pick(&pool), &out, &timeouts())
                .await
                .unwrap();
            assert_eq!(body(&mut exchange).await.unwrap(), b"ok");
        }
    };
    let ((), conn) = join!(client, async {
        let stream = authority.accept(&server).await.unwrap();
        assert_eq!(stream.get_ref().1.server_name(), Some("backend.test"));
        let mut conn = Conn::new(stream);
        for _ in 0..5 {
            let request = conn.request().await;
            let port = server.identity().port;
            assert!(
                request
                    .head
                    .contains(&format!("host: backend.test:{port}\r\n"))
            );
            assert_eq!(request.body, vec![b'x'; 200_000]);
            conn.answer("200 OK", "ok").await;
        }
        conn
    });
    assert!(server.is_quiet().await);
    drop(conn);
}

#[tokio::test]
async fn another_authority_and_another_name_are_refused() {
    let server = Server::start().await;
    let authority = Authority::new(&[]);
    let stranger = Authority::new(&[]);
    let mut foreign = authority.identity(&server);
    foreign.ca_file = Some(stranger.ca_file.path().to_owned());
    let mut misnamed = authority.identity(&server);
    misnamed.server_name = "other.test".to_owned();
    let mut by_system_roots = authority.identity(&server);
    by_system_roots.ca_file = None;
    for identity in [foreign, misnamed, by_system_roots] {
        let pool = pool(&[identity]);
        let out = post("secret prompt");
        let limits = timeouts();
        let (exchange, accepted) = join!(
            Exchange::open(pick(&pool), &out, &limits),
            authority.accept(&server)
        );
        let error = exchange.err().unwrap();
        assert!(matches!(error, AttemptError::Tls(_)), "{error}");
        assert_eq!(error.retry(), Retry::Safe);
        // The backend may think that the handshake went well; what it must not get is the request.
        if let Ok(stream) = accepted {
            let mut stream = stream;
            let mut buffer = [0; 64];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
            assert!(matches!(read, Ok(0) | Err(_)));
        }
    }
}

#[tokio::test]
async fn a_reload_takes_new_certificates_for_new_connections() {
    let server = Server::start().await;
    let (first, second) = (Authority::new(&[]), Authority::new(&[]));
    let (registry, _) = registry();
    let config = Arc::new(pool_config("p", vec![first.identity(&server)]));
    let pools = registry.pools_of(std::slice::from_ref(&config));
    let (out, limits) = (post("{}"), timeouts());
    let old = Arc::clone(&pools[&PoolName::new("p")]);
    let (refused, _) = join!(
        Exchange::open(pick(&old), &out, &limits),
        second.accept(&server)
    );
    assert!(matches!(refused, Err(AttemptError::Tls(_))));
    std::fs::copy(second.ca_file.path(), first.ca_file.path()).unwrap();
    let pools = registry.pools_of(&[config]);
    let new = Arc::clone(&pools[&PoolName::new("p")]);
    let (exchange, conn) = join!(Exchange::open(pick(&new), &out, &limits), async {
        let mut conn = Conn::new(second.accept(&server).await.unwrap());
        conn.request().await;
        conn.answer("200 OK", "ok").await;
        conn
    });
    assert_eq!(body(&mut exchange.unwrap()).await.unwrap(), b"ok");
    drop(conn);
    // A file that breaks leaves what there was.
    std::fs::write(first.ca_file.path(), "no certificate").unwrap();
    let pools = registry.pools_of(&[Arc::clone(new.config())]);
    assert!(Arc::ptr_eq(
        &pools[&PoolName::new("p")].backends()[0].state,
        &new.backends()[0].state
    ));
    assert!(new.backends()[0].state.peers.get().await.is_ok());
}

#[tokio::test]
async fn health_checks_trust_the_backends_own_authority() {
    let server = Server::start().await;
    let authority = Authority::new(&[]);
    let (registry, _) = registry();
    let mut config = pool_config("p", vec![authority.identity(&server)]);
    config.health = Some(HealthCheck {
        path: "/health".to_owned(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        unhealthy_after: 1,
        healthy_after: 1,
    });
    let pools = registry.pools_of(&[Arc::new(config)]);
    registry.supervise_all(pools.values().cloned().collect());
    let stream = authority.accept(&server).await.unwrap();
    assert_eq!(stream.get_ref().1.server_name(), Some("backend.test"));
    let mut conn = Conn::new(stream);
    conn.request().await;
    conn.answer("200 OK", "").await;
    eventually("the check succeeds", || {
        registry.status()[0].backends[0].last_check.as_deref() == Some("200 OK for /health")
    })
    .await;
}

#[tokio::test]
async fn a_backend_without_h2_is_an_error_of_tls() {
    let server = Server::start().await;
    let authority = Authority::new(&[]);
    let mut identity = authority.identity(&server);
    identity.protocol = Protocol::Http2;
    let pool = pool(&[identity]);
    let (out, limits) = (post("{}"), timeouts());
    let (exchange, _accepted) = join!(
        Exchange::open(pick(&pool), &out, &limits),
        authority.accept(&server)
    );
    let error = exchange.err().unwrap();
    assert!(matches!(error, AttemptError::Tls(_)), "{error}");
}
