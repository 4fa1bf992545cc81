//! The one engine: what guests may be made of, room for their instances, and the clock behind their
//! deadlines.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
    WasmFeatures,
};

use super::limits::{TABLE_ELEMENTS, TICK};

/// Instances that exist for a moment while candidates are described and checked, besides the ones
/// that the config counts.
const CANDIDATES: u32 = 4;

/// Core modules in one component: Rust's have four, Python's about thirty.
const CORE_INSTANCES: u32 = 64;

/// Linear memories and tables in one component.
const MEMORIES: u32 = 2;
const TABLES: u32 = 4;

/// Pages of a freed slot that stay mapped, zeroed by hand: saves the page faults of the next
/// instance; a hundred freed slots keep 12 MiB.
const KEEP_RESIDENT: usize = 128 * 1024;

/// Stack of a guest. Workers have 2 MiB, and the host's frames need their share.
const GUEST_STACK: usize = 512 * 1024;

/// An engine whose epoch advances as long as this lives.
pub(super) struct TickingEngine {
    engine: Engine,
    /// Dropped with the engine: the ticker ends.
    _stop: mpsc::Sender<()>,
}

impl TickingEngine {
    /// Reserves address space for `max_instances` instances of `max_memory_bytes` each, and starts
    /// the ticker.
    ///
    /// # Errors
    /// When the address space or the thread cannot be had.
    pub(super) fn new(max_instances: u32, max_memory_bytes: usize) -> wasmtime::Result<Arc<Self>> {
        let engine = Engine::new(&config(max_instances, max_memory_bytes))?;
        let (stop, stopped) = mpsc::channel::<()>();
        let ticking = engine.weak();
        thread::Builder::new()
            .name("plugin-epoch".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    match ticking.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })?;
        Ok(Arc::new(Self {
            engine,
            _stop: stop,
        }))
    }

    /// The engine.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
}

fn config(max_instances: u32, max_memory_bytes: usize) -> Config {
    let components = max_instances.saturating_add(CANDIDATES);
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(components)
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_core_instances(components.saturating_mul(CORE_INSTANCES))
        .max_memories_per_component(MEMORIES)
        .total_memories(components.saturating_mul(MEMORIES))
        .max_tables_per_component(TABLES)
        .total_tables(components.saturating_mul(TABLES))
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(max_memory_bytes)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT / 8)
        // Guests run on the caller's stack.
        .total_stacks(0);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling))
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // A swap must not take all cores from requests: each component compiles on one thread.
        .parallel_compilation(false)
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        // Calls are synchronous: no stacks of their own, no concurrency in a store.
        .concurrency_support(false)
        .wasm_features(WasmFeatures::THREADS, false)
        .wasm_features(WasmFeatures::SHARED_EVERYTHING_THREADS, false)
        .wasm_features(WasmFeatures::MEMORY64, false)
        .wasm_features(WasmFeatures::STACK_SWITCHING, false)
        .wasm_features(WasmFeatures::CUSTOM_PAGE_SIZES, false);
    config
}
