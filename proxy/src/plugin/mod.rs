//! From a component file on disk to a call.
//!
//! [`Host::load`] takes a slot of the config through every check to a [`Plugin`]; [`classify`],
//! [`compress`], [`decide`] and [`admit`] call one. Loading belongs to the control plane and takes
//! as long as it takes; a call belongs to a request and is bounded in time, memory and output.
//!
//! Invariants: nothing that a component does stops or stalls the proxy, or another component. What
//! it returns is hostile until checked. An instance serves one call at a time, and none after a
//! fault. Every call is counted once, by its outcome. A candidate that fails leaves no trace but its
//! error.
//!
//! Start at [`load`] for how a component gets in, at [`call`] for what happens to a request.

mod aot;
mod breaker;
mod builtin;
mod call;
mod check;
mod compile;
mod describe;
mod engine;
mod error;
mod failure;
mod families;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod host;
mod inspect;
mod instance;
mod limits;
mod load;
#[expect(clippy::module_inception, reason = "the room's one noun")]
mod plugin;
mod pool;
mod rate;
mod smoke;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod types;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;

pub(crate) use aot::FolderError;
pub(crate) use builtin::bundled;
pub(crate) use call::{admit, classify, compress, decide};
pub(crate) use error::{HostError, LoadError};
pub(crate) use failure::Denied;
pub(crate) use plugin::Plugin;
pub(crate) use types::{
    AnswerFacts, Budget, ConfigIssue, Decision, Finish, Modality, Opinion, Scope, Summary,
};
#[cfg(test)]
pub(crate) use types::{Attribute, Scored};
pub(crate) use view::CallContext;

use crate::config::{Pipeline, Slot, SlotName};
use crate::telemetry::Metrics;
use aot::CompileCache;
use compile::Compiler;
use engine::TickingEngine;
use families::Families;
use plugin::History;
#[cfg(test)]
use plugin::Refused;
use state::State;

/// Everything that plugins share: it outlives every snapshot.
pub(crate) struct Host {
    engine: Arc<TickingEngine>,
    linker: Linker<State>,
    compiler: Arc<Compiler>,
    metrics: Arc<Metrics>,
    families: Families,
    control: Handle,
    /// Instances that a plugin needs besides its spares: workers call on their own threads.
    workers: usize,
    /// The estimate of tokens that budgets go by.
    estimate: fn(&str) -> u32,
    started: Instant,
    /// Calls with a lot of text that run at once.
    cores: Arc<Semaphore>,
    /// Candidates are tried out one at a time.
    candidates: tokio::sync::Mutex<()>,
    slots: Mutex<HashMap<SlotName, KnownSlot>>,
}

/// What the host knows of a slot's name.
#[derive(Default)]
struct KnownSlot {
    history: Arc<History>,
    latest: Weak<Plugin>,
}

impl Host {
    /// Sets up the engine and the compile cache. `control` is the control plane's runtime;
    /// `estimate` counts tokens as budgets do.
    ///
    /// # Errors
    /// [`HostError::Engine`] when there is no address space for the instances,
    /// [`HostError::CompileCache`] when others can write into its folder. A folder that cannot be
    /// made is only logged.
    pub(crate) fn new(
        pipeline: &Pipeline,
        workers: usize,
        metrics: Arc<Metrics>,
        control: Handle,
        estimate: fn(&str) -> u32,
    ) -> Result<Arc<Self>, HostError> {
        let cache = match CompileCache::open(&pipeline.compile_cache, pipeline.compile_cache_bytes)
        {
            Ok(cache) => Some(cache),
            Err(error @ FolderError::NotPrivate { .. }) => return Err(error.into()),
            Err(error @ FolderError::Io { .. }) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "every start compiles all plugins");
                None
            }
        };
        let engine = TickingEngine::new(pipeline.max_instances, pipeline.max_memory_bytes)
            .and_then(|engine| Ok((host::linker(engine.engine())?, engine)));
        let (linker, engine) = engine.map_err(|error| HostError::Engine {
            max_instances: pipeline.max_instances,
            max_memory_bytes: pipeline.max_memory_bytes,
            detail: format!("{error:#}"),
        })?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            compiler: Compiler::new(Arc::clone(&engine), cache),
            engine,
            linker,
            families: Families::new(Arc::clone(&metrics)),
            metrics,
            control,
            workers,
            estimate,
            started: Instant::now(),
            cores: Arc::new(Semaphore::new(cores)),
            candidates: tokio::sync::Mutex::new(()),
            slots: Mutex::default(),
        }))
    }

    /// Why the last candidate of a slot was refused, for a slot that may have no plugin yet.
    #[cfg(test)]
    pub(crate) fn refused(&self, slot: &SlotName) -> Option<Refused> {
        self.history(slot).last_refused()
    }

    /// Forgets the slots that are not among `named` and whose plugins are gone; gives the names of
    /// those that remain, and forgets what plugins counted for the others.
    pub(crate) fn forget_slots(&self, named: &HashSet<&SlotName>) -> HashSet<String> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|name, slot| named.contains(name) || slot.latest.strong_count() > 0);
        let slots = slots.keys().map(ToString::to_string).collect();
        self.families.forget_gone(&slots);
        slots
    }

    fn history(&self, slot: &SlotName) -> Arc<History> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&slots.entry(slot.clone()).or_default().history)
    }

    /// The slot's latest plugin, if it lives and is of these bytes and settings. An older one that
    /// still lives is not taken: its number has been passed.
    fn current(&self, slot: &Slot, sha256: &[u8; 32]) -> Option<Arc<Plugin>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let plugin = slots.get(&slot.name)?.latest.upgrade()?;
        (plugin.sha256() == sha256 && **plugin.slot() == *slot).then_some(plugin)
    }

    fn set_current(&self, plugin: &Arc<Plugin>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(plugin.slot().name.clone()).or_default().latest = Arc::downgrade(plugin);
    }
}
