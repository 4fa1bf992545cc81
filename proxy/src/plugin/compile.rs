//! From a component's bytes to machine code, off to the side.
//!
//! Nobody knows how long a component takes to compile: a Python one of 30 MB takes most of a minute,
//! and a file of 300 KB can be written that takes hours. The compiler cannot be interrupted, so it
//! runs on a thread of its own, and whoever waits for it gives up after a while; the rest of the
//! config goes on without that plugin. When the thread ends after all, [`Compiler::finished`] says
//! so, and the next look finds the code.
//!
//! Invariants: bytes are compiled once at a time, however many ask; components compile on half of the
//! cores, besides those that were given up on; a thread that never ends holds up neither a reload
//! nor the exit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use wasmtime::component::Component;

use super::aot::CompileCache;
use super::engine::TickingEngine;
use super::error::LoadError;
use super::{inspect, text};

/// Components that go on compiling, given up on, without holding back others. Those that never end
/// count, until the process does.
const ABANDONED: usize = 4;

type Hash = [u8; 32];

/// What came of a component; none while it compiles.
type Outcome = Option<Result<Component, String>>;

/// Compiles components, or finds them compiled.
pub(super) struct Compiler {
    engine: Arc<TickingEngine>,
    /// None when the folder cannot be had: then every start compiles.
    cache: Option<CompileCache>,
    turns: Arc<Semaphore>,
    table: Mutex<Table>,
    finished: Notify,
}

/// Components that compile, or whose outcome nobody has fetched.
#[derive(Default)]
struct Table {
    running: HashMap<Hash, Running>,
    /// Someone gave up before it was his turn.
    unserved: bool,
}

struct Running {
    outcome: watch::Receiver<Outcome>,
    /// Someone gave up on it, and is to be told of its end.
    abandoned: bool,
    /// Its turn on a core; given back when it is given up on.
    turn: Option<OwnedSemaphorePermit>,
}

impl Compiler {
    /// With a folder of compiled components, if there is one.
    pub(super) fn new(engine: Arc<TickingEngine>, cache: Option<CompileCache>) -> Arc<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            engine,
            cache,
            turns: Arc::new(Semaphore::new(cores.div_ceil(2))),
            table: Mutex::default(),
            finished: Notify::new(),
        })
    }

    /// The compiled component, waiting at most `patience` for it.
    ///
    /// # Errors
    /// What the bytes plainly are instead of a component, [`LoadError::Malformed`] with what the
    /// compiler says, [`LoadError::Compiling`] when it takes longer, [`LoadError::NoThread`],
    /// [`LoadError::Panicked`].
    ///
    /// # Cancel safety
    /// The compiler goes on, and its outcome is kept for whoever asks next.
    pub(super) async fn compile(
        self: &Arc<Self>,
        bytes: Bytes,
        sha256: &Hash,
        patience: Duration,
    ) -> Result<Component, LoadError> {
        inspect::sniff(&bytes)?;
        let until = Instant::now() + patience;
        let Some(mut outcome) = self.started(bytes, sha256, until).await? else {
            self.lock().unserved = true;
            return Err(LoadError::Compiling { waited: patience });
        };
        let gave_up = timeout_at(until, outcome.wait_for(Option::is_some))
            .await
            .is_err();
        if gave_up && self.abandon(sha256, &outcome) {
            return Err(LoadError::Compiling { waited: patience });
        }
        self.fetched(sha256, &outcome);
        // Without an outcome its thread died.
        let done = outcome.borrow().clone().ok_or(LoadError::Panicked)?;
        done.map_err(|detail| LoadError::Malformed { detail })
    }

    /// Waits until there is a reason to ask again for a component that was given up on.
    pub(super) async fn finished(&self) {
        self.finished.notified().await;
    }

    /// The compilation of these bytes: the one that runs, or a new one when there is a turn for it.
    async fn started(
        self: &Arc<Self>,
        bytes: Bytes,
        sha256: &Hash,
        until: Instant,
    ) -> Result<Option<watch::Receiver<Outcome>>, LoadError> {
        if let Some(entry) = self.lock().running.get(sha256) {
            return Ok(Some(entry.outcome.clone()));
        }
        let Ok(turn) = timeout_at(until, Arc::clone(&self.turns).acquire_owned()).await else {
            return Ok(None);
        };
        let turn = turn.map_err(|_| LoadError::Stopping)?;
        let mut table = self.lock();
        // Someone else's turn may have come first.
        if let Some(entry) = table.running.get(sha256) {
            return Ok(Some(entry.outcome.clone()));
        }
        let (report, outcome) = watch::channel(None);
        let (compiler, hash) = (Arc::clone(self), *sha256);
        thread::Builder::new()
            .name("plugin-compile".to_owned())
            .spawn(move || compiler.run(&bytes, hash, &report))
            .map_err(|source| LoadError::NoThread { source })?;
        let entry = Running {
            outcome: outcome.clone(),
            abandoned: false,
            turn: Some(turn),
        };
        table.running.insert(*sha256, entry);
        Ok(Some(outcome))
    }

    /// Gives up on a compilation, unless it has ended just now.
    fn abandon(&self, sha256: &Hash, outcome: &watch::Receiver<Outcome>) -> bool {
        let mut table = self.lock();
        let given_up = table
            .running
            .values()
            .filter(|entry| entry.abandoned)
            .count();
        if outcome.borrow().is_some() || outcome.has_changed().is_err() {
            return false;
        }
        let Some(entry) = table.running.get_mut(sha256) else {
            return false;
        };
        entry.abandoned = true;
        if given_up < ABANDONED {
            entry.turn = None;
        }
        true
    }

    /// Forgets a compilation whose outcome is known.
    fn fetched(&self, sha256: &Hash, outcome: &watch::Receiver<Outcome>) {
        let mut table = self.lock();
        let is_this = |entry: &Running| entry.outcome.same_channel(outcome);
        if table.running.get(sha256).is_some_and(is_this)
            && let Some(entry) = table.running.remove(sha256)
            && entry.abandoned
        {
            self.finished.notify_one();
        }
    }

    fn run(&self, bytes: &[u8], sha256: Hash, report: &watch::Sender<Outcome>) {
        let _end = End(self, sha256);
        let engine = self.engine.engine();
        let compiled = match &self.cache {
            Some(cache) => cache.load(engine, bytes, &sha256),
            None => Component::from_binary(engine, bytes),
        };
        let compiled = compiled.map_err(|error| text::of_engine(&error));
        report.send_replace(Some(compiled));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives back the turn and tells whoever gave up, also when the compiler panics.
struct End<'a>(&'a Compiler, Hash);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let Self(compiler, sha256) = self;
        let mut table = compiler.lock();
        let mut is_awaited = std::mem::take(&mut table.unserved);
        if let Some(entry) = table.running.get_mut(sha256) {
            entry.turn = None;
            is_awaited |= entry.abandoned;
            // The folder has it; an outcome that nobody fetches would hold its code.
            if entry.abandoned && compiler.cache.is_some() {
                table.running.remove(sha256);
            }
        }
        drop(table);
        if is_awaited {
            compiler.finished.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn compiler() -> Arc<Compiler> {
        Compiler::new(TickingEngine::new(1, 1 << 20).unwrap(), None)
    }

    fn component() -> (Bytes, Hash) {
        let bytes = wat::parse_str(r#"(component (core module (func (export "f"))))"#).unwrap();
        (bytes.into(), [1; 32])
    }

    #[tokio::test]
    async fn whoever_gives_up_is_told_and_finds_the_outcome() {
        let compiler = compiler();
        let (bytes, hash) = component();
        // With no patience at all it may still win against a small component.
        let given_up = compiler.compile(bytes.clone(), &hash, Duration::ZERO).await;
        if given_up.is_err() {
            assert!(matches!(given_up, Err(LoadError::Compiling { .. })));
            compiler.finished().await;
        }
        assert!(compiler.compile(bytes, &hash, LONG).await.is_ok());
        assert!(compiler.lock().running.is_empty(), "fetched");
    }

    #[tokio::test]
    async fn two_who_ask_for_the_same_bytes_get_the_same_code() {
        let compiler = compiler();
        let (bytes, hash) = component();
        let ask = || compiler.compile(bytes.clone(), &hash, LONG);
        let (one, other) = tokio::join!(ask(), ask());
        assert!(one.is_ok() && other.is_ok());
    }

    #[tokio::test]
    async fn more_components_than_cores_wait_for_their_turns() {
        let compiler = compiler();
        let (bytes, _) = component();
        let asks = (0..40).map(|number| {
            let (compiler, bytes) = (Arc::clone(&compiler), bytes.clone());
            async move { compiler.compile(bytes, &[number; 32], LONG).await.is_ok() }
        });
        let done = futures::future::join_all(asks).await;
        assert_eq!(done, [true; 40]);
        let cores = thread::available_parallelism().unwrap().get();
        assert_eq!(compiler.turns.available_permits(), cores.div_ceil(2));
    }

    #[tokio::test]
    async fn what_the_compiler_says_reaches_the_author() {
        let compiler = compiler();
        let (bytes, hash) = component();
        let cut = bytes.slice(..bytes.len() - 3);
        let refused = compiler.compile(cut, &hash, LONG).await;
        assert!(matches!(refused, Err(LoadError::Malformed { .. })));
    }
}
