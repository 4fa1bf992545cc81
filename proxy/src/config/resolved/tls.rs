//! `[server.tls]`: the certificates that were read and checked with the config.
//!
//! They are part of the config's value: other bytes in the files are another config, so that a
//! renewed certificate is taken by a reload, whole or not at all.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;

/// The listener's certificates, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) certificates: Vec<Certificate>,
}

/// A certificate chain with its key.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) cert_file: PathBuf,
    /// The DNS names in the certificate; a wildcard stands for one label: `*.example.com`.
    pub(crate) names: Vec<String>,
    pub(crate) key: Arc<CertifiedKey>,
    /// SHA-256 over chain and key: two with the same one are the same.
    pub(crate) fingerprint: [u8; 32],
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.cert_file == other.cert_file && self.fingerprint == other.fingerprint
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("cert_file", &self.cert_file)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// What a client gets that asks for this name and can check these signatures: a certificate for
    /// just the name, else one with a wildcard for it, else the first of all. Of several, the first
    /// whose key the client can use.
    pub(crate) fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let holds = |wanted: Option<&str>, certificate: &&Certificate| {
            wanted.is_some_and(|wanted| {
                let mut names = certificate.names.iter();
                names.any(|name| name.eq_ignore_ascii_case(wanted))
            })
        };
        // RFC 6125 §6.4.3: a wildcard is the whole left-most label, and stands for one.
        let parent = name.and_then(|name| name.split_once('.'));
        let wildcard = parent.map(|(_, parent)| format!("*.{parent}"));
        let all = &self.certificates;
        all.iter()
            .filter(|certificate| holds(name, certificate))
            .chain(all.iter().filter(|one| holds(wildcard.as_deref(), one)))
            .chain(all)
            .find(|certificate| certificate.key.key.choose_scheme(schemes).is_some())
            .map(|certificate| Arc::clone(&certificate.key))
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::sign::any_supported_type;

    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let key = any_supported_type(&key.into()).unwrap();
        Certificate {
            cert_file: PathBuf::from(names.join("+")),
            names: names.iter().map(ToString::to_string).collect(),
            key: Arc::new(CertifiedKey::new(Vec::new(), key)),
            fingerprint: [0; 32],
        }
    }

    #[test]
    fn exact_names_come_before_wildcards_and_those_before_the_first() {
        let tls = Tls {
            certificates: vec![
                certificate(&["first.test"]),
                certificate(&["*.a.test", "a.test"]),
                certificate(&["x.a.test"]),
            ],
        };
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let chosen = |name: Option<&str>| {
            let key = tls.choose(name, &schemes).unwrap();
            let mut all = tls.certificates.iter();
            all.position(|one| Arc::ptr_eq(&one.key, &key)).unwrap()
        };
        assert_eq!(chosen(None), 0);
        assert_eq!(chosen(Some("unknown.test")), 0);
        assert_eq!(chosen(Some("a.test")), 1);
        assert_eq!(chosen(Some("y.A.test")), 1);
        assert_eq!(chosen(Some("X.a.test")), 2);
        assert_eq!(
            chosen(Some("z.y.a.test")),
            0,
            "a wildcard stands for one label"
        );
        assert!(
            tls.choose(None, &[SignatureScheme::ED25519]).is_none(),
            "no key that the client can check"
        );
    }
}
