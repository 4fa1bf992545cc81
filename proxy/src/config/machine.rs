//! What the machine gives the process, which defaults depend on.

use std::io;
use std::thread;

use rustix::process::{Resource, Rlimit, getpid, getrlimit, setrlimit};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Taken for the memory where the system does not tell.
const UNKNOWN_MEMORY: u64 = 1024 * 1024 * 1024;

/// Processor cores that the process may use.
pub(crate) fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

/// Bytes of memory that the process may use: the machine's, or its control group's where that is
/// less.
pub(crate) fn memory() -> u64 {
    let Ok(mut system) = System::new() else {
        return UNKNOWN_MEMORY;
    };
    system.refresh_memory();
    let pid = Pid::from_u32(getpid().as_raw_nonzero().get().unsigned_abs());
    let only = ProcessesToUpdate::Some(&[pid]);
    system.refresh_processes_specifics(only, false, ProcessRefreshKind::nothing());
    let group = system
        .process(pid)
        .and_then(sysinfo::Process::cgroup_limits);
    let group = group.map_or(u64::MAX, |limits| limits.total_memory);
    match system.total_memory().min(group) {
        0 => UNKNOWN_MEMORY,
        known => known,
    }
}

/// Files and sockets that the process may have open after [`raise_open_files`].
pub(crate) fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile).maximum;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// Raises the soft limit of open files to the hard one, as servers with many connections do: the
/// soft one is low for the sake of programs that use `select`.
///
/// # Errors
/// What the system says; raising to the hard limit needs no privilege.
pub(crate) fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_something_plausible() {
        assert!(cores() >= 1);
        assert!(memory() > 64 * 1024 * 1024);
        assert!(open_files() >= 64);
    }
}
