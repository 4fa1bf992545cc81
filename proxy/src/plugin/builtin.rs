//! The bundled plugins: built from source by the build script, embedded in the binary.

use bytes::Bytes;

use super::error::LoadError;

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// The component of `builtin:NAME`.
///
/// # Errors
/// [`LoadError::UnknownBuiltin`] with the names that there are.
pub(super) fn get(name: &str) -> Result<Bytes, LoadError> {
    let found = BUILTIN.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, bytes)| Bytes::from_static(bytes))
        .ok_or_else(|| LoadError::UnknownBuiltin {
            name: name.to_owned(),
            known: BUILTIN.iter().map(|(known, _)| *known).collect(),
        })
}
