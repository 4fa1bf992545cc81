//! Says that watched files have changed.
//!
//! A change is a change of content, and nothing else: each file's hash is compared with the one of
//! the last report, so that reading, touching or rewriting a file with what it holds is silent.
//! What makes the watcher look: events in the folders around the files (editors rename, so a watch
//! on the file itself would go blind), and beneath them a slow poll, since inotify is silent on NFS
//! and many bind mounts.
//!
//! Invariants: a report is sent only when the files hold still for half a debounce interval, so a
//! half-written file is not reported as such; reports coalesce in a channel of one; a folder that
//! is missing is looked for again, by events in the nearest one that exists and by the poll.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver as StdReceiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io, thread};

use notify::{EventKind, RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// How often files that keep changing are looked at again before they are reported anyway.
const MAX_SETTLING: u32 = 100;

/// Larger files are told apart by size and time: to read one would blind the watcher for as long.
const HASHED_BYTES: u64 = 256 * 1024 * 1024;

/// Symbolic links that are followed to one file; more is a loop.
const MAX_LINKS: usize = 40;

/// Watches files until it is dropped.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    wake: SyncSender<()>,
}

/// What the three threads agree on: the owner's, the watcher's, and the debouncer's.
#[derive(Default)]
struct Shared {
    orders: Mutex<Orders>,
    /// Paths whose events count.
    relevant: Mutex<BTreeSet<PathBuf>>,
}

#[derive(Default)]
struct Orders {
    paths: Option<Vec<PathBuf>>,
    stop: bool,
}

impl Watcher {
    /// Starts to watch. The content of each file is compared from now on. The receiver gets one
    /// value for all changes since it last looked.
    ///
    /// Without file events (a system without inotify, or out of watches) the poll alone is left;
    /// that is logged.
    pub(crate) fn new(
        paths: Vec<PathBuf>,
        debounce: Duration,
        poll: Duration,
    ) -> (Self, mpsc::Receiver<()>) {
        Self::start(paths, debounce, poll, debouncer)
    }

    fn start(
        paths: Vec<PathBuf>,
        debounce: Duration,
        poll: Duration,
        events: impl FnOnce(&Arc<Shared>, &SyncSender<()>, Duration) -> Option<Events>,
    ) -> (Self, mpsc::Receiver<()>) {
        let (report, reports) = mpsc::channel(1);
        let (wake, woken) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let mut watch = Watch {
            shared: Arc::clone(&shared),
            events: events(&shared, &wake, debounce),
            folders: BTreeMap::new(),
            known: BTreeMap::new(),
            settle: debounce / 2,
        };
        watch.set_paths(paths);
        let run = move || watch.run(&woken, &report, poll);
        if let Err(error) = thread::Builder::new().name("watch".to_owned()).spawn(run) {
            tracing::error!(%error, "files are not watched: no thread could be started");
        }
        (Self { shared, wake }, reports)
    }

    /// Changes the set of files. A file that stays is still compared with its last report; one that
    /// is new is compared from now on.
    pub(crate) fn set_paths(&self, paths: Vec<PathBuf>) {
        lock(&self.shared.orders).paths = Some(paths);
        // A full channel means that the thread is about to look anyway.
        let _ = self.wake.try_send(());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        lock(&self.shared.orders).stop = true;
        let _ = self.wake.try_send(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section leaves its value whole, also when it panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Events = Debouncer<RecommendedWatcher, RecommendedCache>;

fn debouncer(shared: &Arc<Shared>, wake: &SyncSender<()>, debounce: Duration) -> Option<Events> {
    let (shared, wake) = (Arc::clone(shared), wake.clone());
    let handler = move |result: DebounceEventResult| {
        let counts = match result {
            Ok(events) => events.iter().any(|event| {
                let reads_only = matches!(event.kind, EventKind::Access(_));
                event.need_rescan() || !reads_only && is_relevant(&shared, &event.paths)
            }),
            Err(_) => true, // events may be missing
        };
        if counts {
            let _ = wake.try_send(()); // full: it is about to look
        }
    };
    new_debouncer(debounce, None, handler)
        .inspect_err(|error| tracing::warn!(%error, "no file events; files are polled"))
        .ok()
}

/// Whether an event is about a watched file, a link on the way to it, or a folder around it.
fn is_relevant(shared: &Shared, paths: &[PathBuf]) -> bool {
    let relevant = lock(&shared.relevant);
    paths
        .iter()
        .any(|path| relevant.iter().any(|watched| watched.starts_with(path)))
}

/// What is compared. None: the file cannot be read.
type Content = Option<[u8; 32]>;

/// The watcher's thread.
struct Watch {
    shared: Arc<Shared>,
    events: Option<Events>,
    /// Watched folders, each with its identity when the watch began.
    folders: BTreeMap<PathBuf, Option<FolderId>>,
    /// Each file's content at the last report.
    known: BTreeMap<PathBuf, Content>,
    settle: Duration,
}

impl Watch {
    fn run(mut self, woken: &StdReceiver<()>, report: &mpsc::Sender<()>, poll: Duration) {
        loop {
            let orders = std::mem::take(&mut *lock(&self.shared.orders));
            if orders.stop || report.is_closed() {
                return;
            }
            if let Some(paths) = orders.paths {
                self.set_paths(paths);
            }
            self.follow();
            if self.look() != self.known {
                let seen = settled(|| self.look(), || pause(woken, self.settle));
                if seen != self.known {
                    self.known = seen;
                    // Full: the reader has yet to look at the last report, which this one joins.
                    let _ = report.try_send(());
                }
                continue; // a pause may have eaten the wake-up of an order
            }
            if woken.recv_timeout(poll) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn set_paths(&mut self, paths: Vec<PathBuf>) {
        let mut known = BTreeMap::new();
        for path in paths {
            let content = self.known.get(&path).copied();
            let content = content.unwrap_or_else(|| content_of(&path));
            known.insert(path, content);
        }
        self.known = known;
        self.follow();
    }

    fn look(&self) -> BTreeMap<PathBuf, Content> {
        let paths = self.known.keys();
        paths.map(|path| (path.clone(), content_of(path))).collect()
    }

    /// Watches the folders that matter. A folder can appear between the look for it and the watch
    /// on the one around it, so this looks again until nothing is new.
    fn follow(&mut self) {
        for _ in 0..MAX_LINKS {
            if !self.follow_once() {
                return;
            }
        }
    }

    /// Watches the folders that matter now, and no others; says whether one was new. A folder that
    /// was replaced by another of the same name is watched anew.
    fn follow_once(&mut self) -> bool {
        let mut relevant = BTreeSet::new();
        for path in self.known.keys() {
            relevant.extend(way_to(path));
        }
        let folders: BTreeSet<PathBuf> = relevant
            .iter()
            .filter_map(|path| existing_folder(path.parent()?))
            .collect();
        *lock(&self.shared.relevant) = relevant;
        let Some(events) = &mut self.events else {
            return false;
        };
        let stale: Vec<PathBuf> = self
            .folders
            .iter()
            .filter(|(folder, id)| !folders.contains(*folder) || folder_id(folder) != **id)
            .map(|(folder, _)| folder.clone())
            .collect();
        for folder in stale {
            self.folders.remove(&folder);
            let _ = events.unwatch(&folder); // fails for a folder that is gone: so is its watch
        }
        let mut is_new = false;
        for folder in folders {
            if self.folders.contains_key(&folder) {
                continue;
            }
            is_new = true;
            let id = folder_id(&folder);
            if let Err(error) = events.watch(&folder, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %folder.display(), %error, "no file events; it is polled");
            }
            // Also after an error, which is then logged once and not at every poll.
            self.folders.insert(folder, id);
        }
        is_new
    }
}

/// What there is to see, once two looks in a row agree.
fn settled<T: PartialEq>(mut look: impl FnMut() -> T, mut pause: impl FnMut()) -> T {
    let mut seen = look();
    for _ in 0..MAX_SETTLING {
        pause();
        let now = look();
        if now == seen {
            break;
        }
        seen = now;
    }
    seen
}

/// Waits, eating wake-ups: whatever they announce is seen when the thread looks again.
fn pause(woken: &StdReceiver<()>, time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if woken.recv_timeout(left) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

fn content_of(path: &Path) -> Content {
    // Opening a pipe would wait for a writer, and a device has no end.
    let found = fs::metadata(path).ok()?;
    if !found.is_file() {
        return None;
    }
    let mut hasher = Sha256::new();
    if found.len() > HASHED_BYTES {
        let changed = found.modified().ok()?;
        let since = changed.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        hasher.update(found.len().to_le_bytes());
        hasher.update(since.as_nanos().to_le_bytes());
    } else {
        let mut file = fs::File::open(path).ok()?.take(HASHED_BYTES);
        io::copy(&mut file, &mut HashWriter(&mut hasher)).ok()?;
    }
    Some(hasher.finalize().into())
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The path itself, every symbolic link on the way to the file, and the file behind them: a change
/// of any of these can change what the path holds.
fn way_to(path: &Path) -> BTreeSet<PathBuf> {
    let mut way = BTreeSet::from([path.to_owned()]);
    let mut links = 0;
    let mut walked = PathBuf::new();
    let mut ahead: Vec<PathBuf> = parts(path);
    while let Some(part) = ahead.pop() {
        if part == Path::new("..") {
            walked.pop();
            continue;
        }
        let here = walked.join(part);
        match fs::read_link(&here) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                way.insert(here);
                if target.is_absolute() {
                    walked = PathBuf::new();
                }
                ahead.extend(parts(&target));
            }
            _ => walked = here,
        }
    }
    way.insert(walked);
    way
}

/// The parts of a path, last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts
        .rev()
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// The folder, or the nearest one around it that exists.
fn existing_folder(folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .find(|folder| folder.is_dir())
        .map(Path::to_owned)
}

/// Tells a folder from another one that took its name: file systems give a freed inode number to
/// the next one, so its time of birth counts too, where it is known.
type FolderId = (u64, u64, Option<SystemTime>);

#[cfg(unix)]
fn folder_id(folder: &Path) -> Option<FolderId> {
    use std::os::unix::fs::MetadataExt;
    let found = fs::metadata(folder).ok()?;
    Some((found.dev(), found.ino(), found.created().ok()))
}

#[cfg(not(unix))]
fn folder_id(folder: &Path) -> Option<FolderId> {
    let found = fs::metadata(folder).ok()?;
    Some((0, 0, found.created().ok()))
}

#[cfg(test)]
mod tests;
