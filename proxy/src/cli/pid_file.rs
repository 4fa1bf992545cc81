//! The file that tells `sluicegate upgrade`, and any operator, which process serves.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file with this process's id, until it is dropped or a successor has written its own.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file whole, in place of what is there.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write(path: &Path) -> io::Result<Self> {
        put(path, &format!("{}\n", std::process::id()))?;
        // What an earlier upgrade was refused for is history.
        clear(&refusal_path(path))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Leaves word why an upgrade was refused.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn refuse(&self, why: &str) -> io::Result<()> {
        put(&refusal_path(&self.path), why)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.path).is_ok_and(|id| id == std::process::id()) {
            // A file that stays behind names a process that is gone, which readers find out.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The process id in a file.
///
/// # Errors
/// When the file cannot be read, or holds none.
pub(super) fn read(path: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| {
        let message = format!("no process id in {text:?}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// Takes the word that [`PidFile::refuse`] left.
pub(super) fn take_refusal(path: &Path) -> Option<String> {
    let path = refusal_path(path);
    let why = fs::read_to_string(&path).ok()?;
    fs::remove_file(&path).ok()?;
    Some(why)
}

fn refusal_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".refused");
    PathBuf::from(name)
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
