//! `sluicegate upgrade`: asks the running process to hand over to a new one, and says what came of
//! it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::pid_file;

/// How often the files are looked at: an upgrade takes seconds, and has no event for strangers.
const LOOK: Duration = Duration::from_millis(20);

/// Upgrades; the exit code is 0 when a new process serves.
#[expect(clippy::print_stdout, reason = "a command's output")]
pub(super) fn run(pid_file: &Path, limit: Duration) -> ExitCode {
    match upgrade(pid_file, limit) {
        Ok((old, new)) => {
            println!("process {new} has taken over from {old}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            super::serve::print_chain(&error);
            ExitCode::FAILURE
        }
    }
}

fn upgrade(pid_file: &Path, limit: Duration) -> Result<(u32, u32), anyhow::Error> {
    let cannot = || format!("cannot read the pid file `{}`", pid_file.display());
    let old = pid_file::read(pid_file).with_context(cannot)?;
    let id = i32::try_from(old).ok().and_then(Pid::from_raw);
    let id = id.with_context(|| format!("`{}` holds no process id", pid_file.display()))?;
    // A process that ended without its leave has left the file, and its id may be another's now.
    let line = std::fs::read(format!("/proc/{old}/cmdline")).unwrap_or_default();
    if !line.split(|byte| *byte == 0).any(|word| word == b"serve") {
        bail!("process {old} of `{}` does not serve", pid_file.display());
    }
    let _ = pid_file::take_refusal(pid_file); // of an earlier upgrade
    kill_process(id, Signal::QUIT).with_context(|| format!("process {old} cannot be signalled"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let new = runtime.block_on(outcome(pid_file, id, limit))?;
    Ok((old, new))
}

/// Waits until another process has written the pid file, or the old one says why not.
async fn outcome(pid_file: &Path, old: Pid, limit: Duration) -> Result<u32, anyhow::Error> {
    let until = Instant::now() + limit;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < until {
        look.tick().await;
        if let Ok(id) = pid_file::read(pid_file)
            && i32::try_from(id) != Ok(old.as_raw_nonzero().get())
        {
            return Ok(id);
        }
        if let Some(why) = pid_file::take_refusal(pid_file) {
            bail!("the upgrade was refused, process {old} goes on: {why}");
        }
        if test_kill_process(old).is_err() {
            bail!("process {old} has ended, and no other has taken over");
        }
    }
    bail!("no answer from process {old} within {limit:?}; its log says what it does")
}
