//! Reads what a config refers to, and the config itself: bounded, and never waiting.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a file gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` is a folder, not a file", .0.display())]
    Folder(PathBuf),
    #[error("`{}` is no ordinary file", .0.display())]
    NotAFile(PathBuf),
    #[error("`{}` is larger than {most} bytes", path.display())]
    TooLarge { path: PathBuf, most: u64 },
}

/// Makes sure that a path leads to an ordinary file: a pipe would hold its reader for ever, and a
/// device has no end.
///
/// # Errors
/// What there is instead.
pub(crate) fn find(path: &Path) -> Result<(), FileError> {
    let found = path.metadata().map_err(|source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    if found.is_dir() {
        return Err(FileError::Folder(path.to_owned()));
    }
    match found.is_file() {
        true => Ok(()),
        false => Err(FileError::NotAFile(path.to_owned())),
    }
}

/// Reads a file of at most `most` bytes. Its length is not believed: it may grow, and the system's
/// own files have none.
///
/// # Errors
/// [`FileError`].
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    find(path)?;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|source| FileError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    match u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        true => Ok(bytes),
        false => Err(FileError::TooLarge {
            path: path.to_owned(),
            most,
        }),
    }
}
