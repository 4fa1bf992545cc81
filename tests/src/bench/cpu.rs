//! What a process has used, from `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// CPU time of a process and its children so far. On a machine that others use, it is the steadiest
/// figure there is: waiting for a core does not count.
#[must_use]
pub(super) fn time(pid: u32) -> Duration {
    let own = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let own: u64 = own.filter_map(|task| nanoseconds(&task.ok()?.path())).sum();
    children(pid).into_iter().map(time).sum::<Duration>() + Duration::from_nanos(own)
}

/// Resident memory of a process and its children, in bytes.
#[must_use]
pub(super) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024 + children(pid).into_iter().map(resident).sum::<u64>()
}

/// The first figure of `schedstat` is the time on a core, in nanoseconds.
fn nanoseconds(task: &Path) -> Option<u64> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    text.split(' ').next()?.parse().ok()
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
