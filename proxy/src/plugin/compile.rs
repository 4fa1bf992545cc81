//! From a component's bytes to machine code, off to the side.
//!
//! Nobody knows how long a component takes to compile: a Python one of 30 MB takes most of a minute,
//! and a file of 300 KB can be written that takes hours. The compiler cannot be interrupted, so it
//! runs on a thread of its own, and whoever waits for it gives up after a while; the rest of the
//! config goes on without that plugin. When the thread ends after all, [`Compiler::finished`] says
//! so, and the next look finds the code.
//!
//! Invariants: bytes are compiled once at a time, however many ask; at most [`THREADS`] components
//! compile at once; a thread that never ends holds up neither a reload nor the exit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use wasmtime::component::Component;

use super::aot::CompileCache;
use super::engine::TickingEngine;
use super::error::LoadError;
use super::{inspect, text};

/// Components that compile at once. Those that never end count, until the process does.
const THREADS: usize = 8;

type Hash = [u8; 32];

/// What came of a component; none while it compiles.
type Outcome = Option<Result<Component, String>>;

/// Compiles components, or finds them compiled.
pub(super) struct Compiler {
    engine: Arc<TickingEngine>,
    /// None when the folder cannot be had: then every start compiles.
    cache: Option<CompileCache>,
    /// Components that compile, or whose outcome nobody has fetched.
    running: Mutex<HashMap<Hash, Running>>,
    finished: Notify,
}

struct Running {
    outcome: watch::Receiver<Outcome>,
    /// Someone gave up on it, and is to be told of its end.
    abandoned: bool,
}

impl Compiler {
    /// With a folder of compiled components, if there is one.
    pub(super) fn new(engine: Arc<TickingEngine>, cache: Option<CompileCache>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            cache,
            running: Mutex::default(),
            finished: Notify::new(),
        })
    }

    /// The compiled component, waiting at most `patience` for it.
    ///
    /// # Errors
    /// What the bytes plainly are instead of a component, [`LoadError::Malformed`] with what the
    /// compiler says, [`LoadError::Compiling`] when it takes longer, [`LoadError::CompilerBusy`],
    /// [`LoadError::NoThread`], [`LoadError::Panicked`].
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
        let mut outcome = self.begin(bytes, sha256)?;
        let waiting = outcome.wait_for(Option::is_some);
        let gave_up = tokio::time::timeout(patience, waiting).await.is_err();
        let mut running = self.lock();
        if gave_up
            && let Some(entry) = running.get_mut(sha256)
            && entry.outcome.borrow().is_none()
        {
            entry.abandoned = true;
            return Err(LoadError::Compiling { waited: patience });
        }
        running.remove(sha256);
        // Without an outcome its thread died.
        let done = outcome.borrow().clone().ok_or(LoadError::Panicked)?;
        done.map_err(|detail| LoadError::Malformed { detail })
    }

    /// Waits until a component has been compiled on which its asker had given up.
    pub(super) async fn finished(&self) {
        self.finished.notified().await;
    }

    /// Starts to compile, unless these bytes compile already.
    fn begin(
        self: &Arc<Self>,
        bytes: Bytes,
        sha256: &Hash,
    ) -> Result<watch::Receiver<Outcome>, LoadError> {
        let mut running = self.lock();
        if let Some(entry) = running.get(sha256) {
            return Ok(entry.outcome.clone());
        }
        if running.len() >= THREADS {
            // Outcomes that nobody came for.
            running.retain(|_, entry| entry.outcome.has_changed().is_ok());
        }
        if running.len() >= THREADS {
            return Err(LoadError::CompilerBusy {
                components: THREADS,
            });
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
        };
        running.insert(*sha256, entry);
        Ok(outcome)
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whoever gave up, also when the compiler panics.
struct End<'a>(&'a Compiler, Hash);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let Self(compiler, sha256) = self;
        if compiler
            .lock()
            .get(sha256)
            .is_some_and(|entry| entry.abandoned)
        {
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
        // The thread cannot report while this holds what it asks for at its end.
        let given_up = compiler.compile(bytes.clone(), &hash, Duration::ZERO).await;
        if given_up.is_err() {
            assert!(matches!(given_up, Err(LoadError::Compiling { .. })));
            compiler.finished().await;
        }
        assert!(compiler.compile(bytes, &hash, LONG).await.is_ok());
        assert!(compiler.lock().is_empty(), "fetched");
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
    async fn what_the_compiler_says_reaches_the_author() {
        let compiler = compiler();
        let (bytes, hash) = component();
        let cut = bytes.slice(..bytes.len() - 3);
        let refused = compiler.compile(cut, &hash, LONG).await;
        assert!(matches!(refused, Err(LoadError::Malformed { .. })));
    }
}
