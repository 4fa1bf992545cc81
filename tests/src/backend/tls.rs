//! Certificates made on the spot, and both sides of a handshake with them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A certificate, for `localhost` and 127.0.0.1 unless said otherwise, and the authority that signed it.
#[derive(Clone)]
pub struct Certificate(Arc<Files>);

struct Files {
    authority_pem: String,
    authority: CertificateDer<'static>,
    chain_pem: String,
    chain: CertificateDer<'static>,
    key_pem: String,
    key: Vec<u8>,
    folder: tempfile::TempDir,
}

impl Certificate {
    /// Makes both.
    ///
    /// # Panics
    /// When the system gives no randomness or no temporary folder.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a fresh key pair is no default value"
    )]
    pub fn new() -> Self {
        Self::for_names(&["localhost", "127.0.0.1"])
    }

    /// For other names.
    ///
    /// # Panics
    /// As [`Certificate::new`].
    #[must_use]
    pub fn for_names(names: &[&str]) -> Self {
        Self::signed(&params(names))
    }

    /// One whose time is over.
    ///
    /// # Panics
    /// As [`Certificate::new`].
    #[must_use]
    pub fn expired() -> Self {
        let mut leaf = params(&["localhost", "127.0.0.1"]);
        leaf.not_before = rcgen::date_time_ymd(2001, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2002, 1, 1);
        Self::signed(&leaf)
    }

    /// One that is its own authority.
    ///
    /// # Panics
    /// As [`Certificate::new`].
    #[must_use]
    pub fn self_signed() -> Self {
        let key = KeyPair::generate().unwrap();
        let own = params(&["localhost", "127.0.0.1"])
            .self_signed(&key)
            .unwrap();
        Self::files(&own, &own, &key)
    }

    fn signed(leaf: &CertificateParams) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let authority_key = KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        Self::files(&authority_certificate, &leaf, &key)
    }

    fn files(authority: &rcgen::Certificate, leaf: &rcgen::Certificate, key: &KeyPair) -> Self {
        let files = Files {
            authority_pem: authority.pem(),
            authority: authority.der().clone(),
            chain_pem: leaf.pem(),
            chain: leaf.der().clone(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(files.folder.path().join("ca.pem"), &files.authority_pem).unwrap();
        std::fs::write(files.folder.path().join("cert.pem"), &files.chain_pem).unwrap();
        std::fs::write(files.folder.path().join("key.pem"), &files.key_pem).unwrap();
        Self(Arc::new(files))
    }

    /// A folder with `ca.pem`, `cert.pem` and `key.pem`; it lives as long as the certificate.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    /// The path of one of those files.
    ///
    /// # Panics
    /// When the temporary folder's path is not UTF-8.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        let path = self.folder().join(name);
        path.to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn acceptor(&self, http2: bool) -> TlsAcceptor {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.0.key.clone()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.0.chain.clone()], key)
            .unwrap();
        let protocol: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// A client's handshake that trusts nothing but this certificate's authority, asks for `name`,
    /// and offers these protocols.
    ///
    /// # Errors
    /// When it fails.
    ///
    /// # Panics
    /// When `name` is none.
    pub async fn handshake(
        &self,
        tcp: TcpStream,
        name: &str,
        protocols: &[&str],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.authority.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        tcp.set_nodelay(true).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, tcp).await
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    // OpenSSL takes a certificate of its issuer's name for a self-signed one.
    params
        .distinguished_name
        .push(DnType::CommonName, "the server");
    params
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
