//! Compiled components on disk, so that a start or a swap does not compile what it knows.
//!
//! Loading compiled code is running it, so the folder must be ours alone: it is made with mode 0700
//! and refused when its owner or mode is another. A file is named by the SHA-256 of the component
//! and the engine's compatibility hash, and begins with the SHA-256 of what follows: a cut or
//! changed file is compiled anew. Files appear whole, by rename. The folder is bounded; the least
//! recently used goes first. All of this blocks: never call it on a worker.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::api::hex::hex;

/// Begins every file; its number changes with the layout.
const MAGIC: &[u8; 8] = b"sgcwasm1";

/// Magic and hash.
const HEADER_BYTES: usize = MAGIC.len() + 32;

/// Ends every file's name.
const EXTENSION: &str = "cwasm";

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// It cannot be made or read. The proxy can run without it.
    #[error("cannot use the compile cache `{}`", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Others could put code into it.
    #[error(
        "the compile cache `{}` is not private ({found}): whoever writes there runs code in the \
         proxy; make it yours alone (`chmod 700`, owner {owner}) or set another \
         `[pipeline] compile_cache`",
        path.display()
    )]
    NotPrivate {
        path: PathBuf,
        found: String,
        owner: u32,
    },
}

/// A folder of compiled components.
#[derive(Debug)]
pub(super) struct CompileCache {
    folder: PathBuf,
    max_bytes: u64,
    /// One writer tidies at a time.
    tidying: Mutex<()>,
}

impl CompileCache {
    /// Makes the folder if it is not there.
    ///
    /// # Errors
    /// [`FolderError`].
    pub(super) fn open(folder: &Path, max_bytes: u64) -> Result<Self, FolderError> {
        make_private(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            max_bytes,
            tidying: Mutex::new(()),
        })
    }

    /// The compiled component, from the folder or else compiled now and kept.
    ///
    /// # Errors
    /// What the compiler says. A fault of the folder is only logged.
    pub(super) fn load(
        &self,
        engine: &Engine,
        bytes: &[u8],
        sha256: &[u8; 32],
    ) -> wasmtime::Result<Component> {
        // Each time: another folder may have taken its place.
        if let Err(error) = make_private(&self.folder) {
            tracing::warn!(%error, "compiled without the folder");
            return Component::from_binary(engine, bytes);
        }
        let path = self.folder.join(file_name(engine, sha256));
        if let Some(component) = read(engine, &path) {
            return Ok(component);
        }
        let component = Component::from_binary(engine, bytes)?;
        let kept = component
            .serialize()
            .and_then(|code| Ok(self.keep(&path, &code)?));
        if let Err(error) = kept {
            tracing::warn!(path = %path.display(), %error, "compiled component not kept");
        }
        Ok(component)
    }

    fn keep(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let bytes = (HEADER_BYTES + code.len()) as u64;
        if bytes > self.max_bytes {
            return Ok(());
        }
        self.make_room(bytes)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    /// Removes the least recently used until `bytes` more fit.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        // A poisoned lock guards nothing but the order of deletions.
        let _tidying = self
            .tidying
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut files = Vec::new();
        let mut total = bytes;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            if path
                .extension()
                .is_none_or(|extension| extension != EXTENSION)
            {
                continue;
            }
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if !found.is_file() {
                continue;
            }
            total += found.len();
            files.push((found.modified()?, found.len(), path));
        }
        files.sort();
        for (_, len, path) in files {
            if total <= self.max_bytes {
                break;
            }
            match fs::remove_file(&path) {
                Ok(()) => total -= len,
                Err(error) if error.kind() == io::ErrorKind::NotFound => total -= len,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Makes the folder if it is not there, and sees that it is ours alone.
fn make_private(folder: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    // Of the path itself: a link could be turned to another folder after the check.
    let found = fs::symlink_metadata(folder).map_err(failed)?;
    let owner = rustix::process::geteuid().as_raw();
    let not_private = |found| FolderError::NotPrivate {
        path: folder.to_owned(),
        found,
        owner,
    };
    if !found.is_dir() {
        return Err(not_private("not a folder".to_owned()));
    }
    if found.uid() != owner {
        return Err(not_private(format!("owner {}", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        return Err(not_private(format!("mode {:o}", found.mode() & 0o7777)));
    }
    Ok(())
}

/// Named by what was compiled, and by what compiled it for what machine.
fn file_name(engine: &Engine, sha256: &[u8; 32]) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{}-{:016x}.{EXTENSION}", hex(sha256), hasher.finish())
}

/// A component from a file of the folder; none when there is none, or it is not as it was written.
fn read(engine: &Engine, path: &Path) -> Option<Component> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "compiled component not read");
            return None;
        }
    };
    match checked(&bytes).and_then(|code| deserialize(engine, code)) {
        Ok(component) => {
            touch(path);
            Some(component)
        }
        Err(reason) => {
            tracing::warn!(path = %path.display(), reason, "compiled component is compiled anew");
            None
        }
    }
}

/// The code in a file, if it is what was written.
fn checked(bytes: &[u8]) -> Result<&[u8], String> {
    let (header, code) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(|| "cut file".to_owned())?;
    let hash = header
        .strip_prefix(MAGIC.as_slice())
        .ok_or_else(|| "another format".to_owned())?;
    if hash != Sha256::digest(code).as_slice() {
        return Err("changed after it was written".to_owned());
    }
    Ok(code)
}

/// The only unsafe code of the crate.
#[expect(
    unsafe_code,
    reason = "compiled code cannot be verified, only its origin can"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    // SAFETY: `code` must be what `Component::serialize` gave, unchanged. It was read from a folder
    // that `CompileCache::open` found to be ours and closed to everyone else, and `checked` found
    // the hash that `keep` wrote in front of it. These bytes, no longer the file, are loaded, so
    // that nothing can change between check and use; the engine checks its version and settings.
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| error.to_string())
}

/// Marks a file as used now. Only the order of deletions hangs on it.
fn touch(path: &Path) {
    let touched = File::options()
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "time of last use not written");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    fn private() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    fn compiled(cache: &CompileCache, engine: &Engine, text: &str) -> PathBuf {
        let bytes = wat::parse_str(text).unwrap();
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        cache.load(engine, &bytes, &sha256).unwrap();
        cache.folder.join(file_name(engine, &sha256))
    }

    #[test]
    fn folder_of_others_is_refused() {
        let folder = private();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let refused = CompileCache::open(folder.path(), 1 << 20)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("mode 750"), "{refused}");
        assert!(refused.contains("chmod 700"), "{refused}");
    }

    #[test]
    fn link_to_a_folder_is_refused() {
        let folder = private();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        let refused = CompileCache::open(&link, 1 << 20);
        assert!(
            matches!(refused, Err(FolderError::NotPrivate { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn new_folder_is_private() {
        let parent = private();
        let folder = parent.path().join("a/b");
        CompileCache::open(&folder, 1 << 20).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn second_load_reads_what_the_first_wrote() {
        let folder = private();
        let cache = CompileCache::open(folder.path(), 1 << 20).unwrap();
        let engine = Engine::default();
        let path = compiled(&cache, &engine, "(component)");
        assert!(read(&engine, &path).is_some());
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o077, 0, "closed to others");
    }

    #[test]
    fn damaged_file_is_compiled_anew() {
        let folder = private();
        let cache = CompileCache::open(folder.path(), 1 << 20).unwrap();
        let engine = Engine::default();
        let path = compiled(&cache, &engine, "(component)");
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [
            flipped,
            good[..good.len() / 2].to_vec(),
            good[..7].to_vec(),
            Vec::new(),
        ] {
            fs::write(&path, &damaged).unwrap();
            assert!(read(&engine, &path).is_none());
            compiled(&cache, &engine, "(component)");
            assert!(read(&engine, &path).is_some(), "written anew");
        }
    }

    #[test]
    fn least_recently_used_goes_first() {
        let folder = private();
        let engine = Engine::default();
        let roomy = CompileCache::open(folder.path(), 1 << 30).unwrap();
        let text = |n: u32| format!("(component (core module (func (export \"f{n}\"))))");
        let first = compiled(&roomy, &engine, &text(1));
        let second = compiled(&roomy, &engine, &text(2));
        let one = fs::metadata(&first).unwrap().len();
        let set = |path: &Path, age: u64| {
            let then = SystemTime::now() - Duration::from_secs(age);
            File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(then)
                .unwrap();
        };
        set(&first, 20);
        set(&second, 10);
        assert!(read(&engine, &first).is_some(), "used now");
        let tight = CompileCache::open(folder.path(), one * 5 / 2).unwrap();
        let third = compiled(&tight, &engine, &text(3));
        assert!(first.exists() && third.exists());
        assert!(!second.exists());
    }
}
