//! WASI, closed: what a guest's standard library needs to start, and nothing behind it.
//!
//! No arguments, no environment, an empty standard input, no folders. Standard output and error go
//! into a buffer of 4 KiB that is logged when the call fails. The clocks stand still during a call.
//! `wasi:io` is our own: wasmtime-wasi's blocks on an async runtime, which panics on a worker and
//! would let a guest wait. Here every stream and every pollable is ready at once, so nothing waits.
//! Streams need no table: their handles are constants.

mod io;

use std::time::{Instant, SystemTime};

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{
    WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView, WasiFilesystemView,
};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sync};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi_io::bindings::wasi::io::error;

use crate::plugin::state::State;

/// Most bytes of output that are kept for the log.
const OUTPUT_BYTES: usize = 4 * 1024;

/// Bytes that a guest may write at once; what does not fit the buffer is thrown away.
const WRITE_PERMIT: u64 = 4 * 1024;

/// Most random bytes for one call.
const RANDOM_BYTES: u64 = 64 * 1024;

/// The one handle of each kind; whatever a guest does with it means the same.
const HANDLE: u32 = 0;

/// What is behind the interfaces.
pub(crate) struct Closed {
    output: Vec<u8>,
    /// When the running call first asked for the time.
    now: Option<(SystemTime, Instant)>,
    /// Where the monotonic clock begins.
    origin: Instant,
    random: fastrand::Rng,
    filesystem: WasiFilesystemCtx,
    table: ResourceTable,
}

impl Closed {
    /// Nothing granted.
    pub(crate) fn new() -> Self {
        Self {
            output: Vec::new(),
            now: None,
            origin: Instant::now(),
            random: fastrand::Rng::new(),
            filesystem: WasiFilesystemCtx::default(),
            table: ResourceTable::new(),
        }
    }

    /// Forgets the output and the time of the call before.
    pub(crate) fn begin_call(&mut self) {
        self.output.clear();
        self.now = None;
    }

    /// What the guest printed in this call, at most its first 4 KiB.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// The time, the same throughout a call.
    fn now(&mut self) -> (SystemTime, Instant) {
        *self
            .now
            .get_or_insert_with(|| (SystemTime::now(), Instant::now()))
    }

    fn print(&mut self, bytes: &[u8]) {
        let room = OUTPUT_BYTES.saturating_sub(self.output.len());
        self.output.extend(bytes.iter().take(room));
    }

    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let len = usize::try_from(len.min(RANDOM_BYTES + 1))?;
        if len as u64 > RANDOM_BYTES {
            wasmtime::bail!("asked for more than {RANDOM_BYTES} random bytes at once");
        }
        let mut bytes = vec![0; len];
        self.random.fill(&mut bytes);
        Ok(bytes)
    }
}

/// Where the interfaces find their state.
fn closed(state: &mut State) -> &mut Closed {
    &mut state.wasi
}

/// Defines everything that a guest's standard library imports. `wasi:sockets` and `wasi:http` are
/// not there: a component that imports them is refused before it gets here.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Own = HasSelf<Closed>;
    error::add_to_linker::<State, Own>(linker, closed)?;
    poll::add_to_linker::<State, Own>(linker, closed)?;
    streams::add_to_linker::<State, Own>(linker, closed)?;
    cli::environment::add_to_linker::<State, Own>(linker, closed)?;
    cli::exit::add_to_linker::<State, Own>(linker, closed)?;
    cli::stdin::add_to_linker::<State, Own>(linker, closed)?;
    cli::stdout::add_to_linker::<State, Own>(linker, closed)?;
    cli::stderr::add_to_linker::<State, Own>(linker, closed)?;
    cli::terminal_input::add_to_linker::<State, Own>(linker, closed)?;
    cli::terminal_output::add_to_linker::<State, Own>(linker, closed)?;
    cli::terminal_stdin::add_to_linker::<State, Own>(linker, closed)?;
    cli::terminal_stdout::add_to_linker::<State, Own>(linker, closed)?;
    cli::terminal_stderr::add_to_linker::<State, Own>(linker, closed)?;
    clocks::wall_clock::add_to_linker::<State, Own>(linker, closed)?;
    clocks::monotonic_clock::add_to_linker::<State, Own>(linker, closed)?;
    random::random::add_to_linker::<State, Own>(linker, closed)?;
    random::insecure::add_to_linker::<State, Own>(linker, closed)?;
    random::insecure_seed::add_to_linker::<State, Own>(linker, closed)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    sync::filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    Ok(())
}

/// wasmtime-wasi's own files: without a preopened folder no guest ever holds a descriptor, so that
/// none of its methods can be called.
impl WasiFilesystemView for State {
    fn filesystem(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut self.wasi.filesystem,
            table: &mut self.wasi.table,
        }
    }
}

impl cli::environment::Host for Closed {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::exit::Host for Closed {
    fn exit(&mut self, _: Result<(), ()>) -> wasmtime::Result<()> {
        wasmtime::bail!("the plugin called exit")
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        wasmtime::bail!("the plugin called exit with code {code}")
    }
}

impl cli::stdin::Host for Closed {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        Ok(Resource::new_own(HANDLE))
    }
}

impl cli::stdout::Host for Closed {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        Ok(Resource::new_own(HANDLE))
    }
}

impl cli::stderr::Host for Closed {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        Ok(Resource::new_own(HANDLE))
    }
}

impl cli::terminal_input::Host for Closed {}

impl cli::terminal_input::HostTerminalInput for Closed {
    fn drop(&mut self, _: Resource<cli::terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl cli::terminal_output::Host for Closed {}

impl cli::terminal_output::HostTerminalOutput for Closed {
    fn drop(&mut self, _: Resource<cli::terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl cli::terminal_stdin::Host for Closed {
    fn get_terminal_stdin(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_input::TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for Closed {
    fn get_terminal_stdout(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for Closed {
    fn get_terminal_stderr(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl clocks::wall_clock::Host for Closed {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let (now, _) = Closed::now(self);
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Ok(clocks::wall_clock::Datetime {
            seconds: now.as_secs(),
            nanoseconds: now.subsec_nanos(),
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime {
            seconds: 1,
            nanoseconds: 0,
        })
    }
}

impl clocks::monotonic_clock::Host for Closed {
    fn now(&mut self) -> wasmtime::Result<u64> {
        let (_, now) = Closed::now(self);
        Ok(u64::try_from(
            now.saturating_duration_since(self.origin).as_nanos(),
        )?)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000_000_000)
    }

    fn subscribe_instant(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(HANDLE))
    }

    fn subscribe_duration(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(HANDLE))
    }
}

impl random::random::Host for Closed {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random.u64(..))
    }
}

impl random::insecure::Host for Closed {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random.u64(..))
    }
}

impl random::insecure_seed::Host for Closed {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random.u64(..), self.random.u64(..)))
    }
}
