//! The bundled plugins: built from source by the build script, embedded in the binary.

use bytes::Bytes;

use super::error::LoadError;

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// The bytes of a bundled component.
pub(crate) fn bundled(name: &str) -> Option<&'static [u8]> {
    let found = BUILTIN.iter().find(|(known, _)| *known == name);
    found.map(|(_, bytes)| *bytes)
}

/// The component of `builtin:NAME`.
///
/// # Errors
/// [`LoadError::UnknownBuiltin`] with the names that there are.
pub(super) fn get(name: &str) -> Result<Bytes, LoadError> {
    bundled(name)
        .map(Bytes::from_static)
        .ok_or_else(|| LoadError::UnknownBuiltin {
            name: name.to_owned(),
            known: BUILTIN.iter().map(|(known, _)| *known).collect(),
        })
}
