//! A running copy of a component: how one is made, and how it is entered.

use std::time::{Duration, Instant};

use std::sync::Arc;

use wasmtime::component::InstancePre;
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

use super::engine::TickingEngine;
use super::error::LoadError;
use super::failure::Failure;
use super::host::v0_1::{Exports, Indices};
use super::state::{Shared, State};
use super::types::ConfigIssue;

/// CPU time of `describe`.
pub(super) const DESCRIBE: Duration = Duration::from_secs(1);

/// Handles that an instance may hold at once: they live in the host's memory.
const HANDLES: usize = 1024;

/// What instances of one plugin are made from.
pub(super) struct Blueprint {
    /// Keeps the deadlines' clock running as long as there is something to stop.
    pub(super) engine: Arc<TickingEngine>,
    pub(super) pre: InstancePre<State>,
    pub(super) indices: Indices,
    pub(super) shared: Arc<Shared>,
    /// The slot's table as JSON.
    pub(super) config: String,
}

impl Blueprint {
    /// Makes an instance and configures it. Takes as long as the plugin does: never on a worker.
    ///
    /// # Errors
    /// [`LoadError::NoRoom`], [`LoadError::Instantiate`], [`LoadError::Contract`],
    /// [`LoadError::Configure`], [`LoadError::Config`].
    pub(super) fn make(&self) -> Result<LiveInstance, LoadError> {
        let timeout = self.shared.slot.configure_timeout;
        let mut instance = LiveInstance::start(
            &self.engine,
            &self.pre,
            &self.indices,
            &self.shared,
            timeout,
        )?;
        let configured = instance
            .enter(timeout, |store, exports| {
                exports.configure(store, &self.config)
            })
            .map_err(LoadError::Configure)?;
        configured.map_err(|mut issues| {
            if issues.is_empty() {
                issues.push(ConfigIssue {
                    pointer: String::new(),
                    message: "`configure` refuses it without saying why".to_owned(),
                });
            }
            LoadError::Config { issues }
        })?;
        instance.store.data_mut().end();
        Ok(instance)
    }
}

/// An instance and its store.
pub(super) struct LiveInstance {
    store: Store<State>,
    exports: Exports,
    /// Requests that it has served.
    pub(super) calls: u64,
}

impl LiveInstance {
    /// Instantiates a component without configuring it.
    ///
    /// # Errors
    /// [`LoadError::NoRoom`], [`LoadError::Instantiate`], [`LoadError::Contract`].
    pub(super) fn start(
        engine: &TickingEngine,
        pre: &InstancePre<State>,
        indices: &Indices,
        shared: &Arc<Shared>,
        timeout: Duration,
    ) -> Result<Self, LoadError> {
        let mut store = Store::new(engine.engine(), State::new(Arc::clone(shared)));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(shared.slot.max_output_bytes);
        store.set_max_component_handles(HANDLES);
        store.epoch_deadline_callback(|mut cx| {
            cx.data_mut().meter.tick()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store.data_mut().begin(None, "");
        let started = run(&mut store, timeout, |store| pre.instantiate(store));
        let instance = started.map_err(|error| match error.downcast_ref() {
            Some(full @ PoolConcurrencyLimitError { .. }) => LoadError::NoRoom {
                detail: full.to_string(),
            },
            None => LoadError::Instantiate(failure(&error, &store)),
        })?;
        let exports = indices
            .load(&mut store, &instance)
            .map_err(|error| LoadError::Contract {
                detail: format!("{error:#}"),
            })?;
        Ok(Self {
            store,
            exports,
            calls: 0,
        })
    }

    /// The instance's state.
    pub(super) fn state(&mut self) -> &mut State {
        self.store.data_mut()
    }

    /// Calls into the guest, with `budget` of CPU time.
    ///
    /// # Errors
    /// How the guest faulted; then it cannot be entered again.
    pub(super) fn enter<R>(
        &mut self,
        budget: Duration,
        call: impl FnOnce(&mut Store<State>, &Exports) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        let Self { store, exports, .. } = self;
        run(store, budget, |store| call(store, exports)).map_err(|error| failure(&error, store))
    }
}

/// Runs guest code under the deadline.
fn run<R>(
    store: &mut Store<State>,
    budget: Duration,
    call: impl FnOnce(&mut Store<State>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    store.data_mut().meter.arm(budget, Instant::now());
    store.set_epoch_deadline(1);
    call(store)
}

/// How the guest faulted, with what it printed.
fn failure(error: &wasmtime::Error, store: &Store<State>) -> Failure {
    let mut failure = Failure::from_engine(error, store.data());
    let output = store.data().wasi.output();
    if !output.is_empty() {
        failure.detail.push_str("; it printed: ");
        failure
            .detail
            .push_str(&super::text::escape_control(output.trim_end()));
    }
    failure
}
