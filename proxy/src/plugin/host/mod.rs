//! What a guest may call, and how its exports are called: a folder per contract version, WASI
//! beside them. All of it is linked for every component; what is not granted says so when called.

pub(super) mod v0_1;
pub(super) mod wasi;

use wasmtime::Engine;
use wasmtime::component::Linker;

use super::state::State;

/// A linker with every interface of every version that this host serves.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    v0_1::link(&mut linker)?;
    Ok(linker)
}
