//! Entry point: everything is in the library.

use std::process::ExitCode;

/// Less time in malloc and free per request than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluicegate::cli::run()
}
