//! Certificate files, read and parsed here because the server's own loaders panic on bad ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use super::Checker;
use crate::config::files;
use crate::config::resolved::Certificate;

/// Largest certificate file that is read, in bytes: the bundles of systems have 200 KB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

impl Checker<'_> {
    /// Checks a bundle of certificates that are trusted, and watches it.
    pub(super) fn ca_file(&mut self, pointer: &str, path: &str) -> PathBuf {
        let resolved = self.path(path);
        self.files.push(resolved.clone());
        let checked = certificates(&resolved).and_then(|certificates| {
            let mut roots = RootCertStore::empty();
            certificates.into_iter().try_for_each(|certificate| {
                roots.add(certificate).map_err(|error| {
                    let file = resolved.display();
                    format!("`{file}` has a certificate that cannot be used: {error}")
                })
            })
        });
        if let Err(fault) = checked {
            self.error(pointer, fault);
        }
        resolved
    }

    /// Reads a server's certificate chain and its key, checks that they belong together, and
    /// watches both. `pointer` is the table that names them.
    pub(super) fn certificate(
        &mut self,
        pointer: &str,
        cert: &str,
        key: &str,
    ) -> Option<Certificate> {
        let (cert_pointer, cert_file) = (format!("{pointer}/cert_file"), self.path(cert));
        let (key_pointer, key_file) = (format!("{pointer}/key_file"), self.path(key));
        self.files.push(cert_file.clone());
        self.files.push(key_file.clone());
        let chain = certificates(&cert_file).map_err(|fault| {
            self.error(&cert_pointer, fault);
        });
        let private_key = private_key(&key_file).map_err(|fault| {
            self.error(&key_pointer, fault);
        });
        let (chain, private_key) = (chain.ok()?, private_key.ok()?);
        let fingerprint = fingerprint(&chain, &private_key);
        let names = self.names(&cert_pointer, &chain)?;
        let file = cert_file.display().to_string();
        match CertifiedKey::from_der(chain, private_key, &ring::default_provider()) {
            Ok(key) => Some(Certificate {
                cert_file,
                names,
                key: Arc::new(key),
                fingerprint,
            }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let message = format!("this key does not belong to the certificate in `{file}`");
                self.error(&key_pointer, message);
                None
            }
            Err(error) => {
                let message = format!("key and certificate cannot be used: {error}");
                self.error(&key_pointer, message);
                None
            }
        }
    }

    /// The DNS names in the first certificate of a chain, which must be in force.
    fn names(&mut self, pointer: &str, chain: &[CertificateDer<'_>]) -> Option<Vec<String>> {
        let own = chain.first()?;
        let (_, own) = x509_parser::parse_x509_certificate(own)
            .map_err(|error| {
                self.error(pointer, format!("the certificate cannot be read: {error}"));
            })
            .ok()?;
        let (now, validity) = (ASN1Time::now(), own.validity());
        // A wrong clock must not keep the proxy from serving: clients judge by theirs.
        if validity.not_after < now {
            let message = format!("the certificate has expired: {}", validity.not_after);
            self.warn(pointer, message);
        } else if validity.not_before > now {
            let message = format!(
                "the certificate is not valid before {}",
                validity.not_before
            );
            self.warn(pointer, message);
        }
        let alternatives = own.subject_alternative_name().ok().flatten();
        let names = alternatives.map(|extension| &extension.value.general_names);
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        Some(names.into_iter().flatten().filter_map(dns).collect())
    }
}

/// SHA-256 over everything that a handshake uses.
fn fingerprint(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in chain.iter().map(AsRef::as_ref).chain([key.secret_der()]) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = files::read(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("`{}` is no valid PEM: {error}", path.display()))?;
    match certificates.is_empty() {
        true => Err(format!(
            "`{}` has no certificate in PEM form",
            path.display()
        )),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = files::read(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!("`{}` has no private key in PEM form", path.display())
        }
        error => format!("`{}` is no valid PEM: {error}", path.display()),
    })
}
