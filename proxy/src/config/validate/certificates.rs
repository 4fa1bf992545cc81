//! Certificate files, read and parsed here because the server's own loaders panic on bad ones.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Checker;
use crate::config::files;

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

    /// Checks a server's certificate chain and its key, and that they belong together.
    pub(super) fn certified_key(
        &mut self,
        cert: (&str, &str),
        key: (&str, &str),
    ) -> (PathBuf, PathBuf) {
        let (cert_pointer, cert_file) = (cert.0, self.path(cert.1));
        let (key_pointer, key_file) = (key.0, self.path(key.1));
        let chain = certificates(&cert_file).map_err(|fault| {
            self.error(cert_pointer, fault);
        });
        let private_key = private_key(&key_file).map_err(|fault| {
            self.error(key_pointer, fault);
        });
        if let (Ok(chain), Ok(private_key)) = (chain, private_key)
            && let Err(error) =
                CertifiedKey::from_der(chain, private_key, &ring::default_provider())
        {
            let message = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!(
                        "this key does not belong to the certificate in `{}`",
                        cert_file.display()
                    )
                }
                error => format!("key and certificate cannot be used: {error}"),
            };
            self.error(key_pointer, message);
        }
        (cert_file, key_file)
    }
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
