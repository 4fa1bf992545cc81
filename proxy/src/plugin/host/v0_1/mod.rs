//! Contract 0.1: a file per imported interface, the calls of the exported ones, and conversions to
//! the plain types of the room.

mod bindings;
mod clock;
mod convert;
mod exports;
mod log;
mod metrics;
mod prompt;
mod tokens;

use wasmtime::component::{HasSelf, Linker};

pub(in crate::plugin) use bindings::sluicegate::plugin::types;
pub(in crate::plugin) use exports::{Exports, Indices};

use crate::plugin::state::State;

/// The version that this folder serves, as component names carry it.
pub(in crate::plugin) const VERSION: &str = "0.1.0";

/// Interfaces that a component may import, without package and version.
pub(in crate::plugin) const IMPORTS: [&str; 7] = [
    "types",
    "host-types",
    "log",
    "metrics",
    "prompt",
    "tokens",
    "clock",
];

/// Defines all imports of this version.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    fn own(state: &mut State) -> &mut State {
        state
    }
    use bindings::sluicegate::plugin;
    type Own = HasSelf<State>;
    types::add_to_linker::<State, Own>(linker, own)?;
    plugin::host_types::add_to_linker::<State, Own>(linker, own)?;
    plugin::log::add_to_linker::<State, Own>(linker, own)?;
    plugin::metrics::add_to_linker::<State, Own>(linker, own)?;
    plugin::prompt::add_to_linker::<State, Own>(linker, own)?;
    plugin::tokens::add_to_linker::<State, Own>(linker, own)?;
    plugin::clock::add_to_linker::<State, Own>(linker, own)?;
    Ok(())
}

/// Types alone: nothing to call.
impl types::Host for State {}

/// Types alone: nothing to call.
impl bindings::sluicegate::plugin::host_types::Host for State {}
