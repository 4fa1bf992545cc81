//! What the kernel says of the proxy's process. Linux alone tells; elsewhere there is no answer.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::Proxy;

/// Ticks in a second, of the times in `/proc`: fixed by the kernel's interface.
const TICKS: f64 = 100.0;

impl Proxy {
    /// Files, sockets and the like that it holds open.
    #[must_use]
    pub fn open_files(&self) -> Option<usize> {
        Some(fs::read_dir(self.proc("fd")).ok()?.count())
    }

    /// Memory that it occupies, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        self.status_bytes("VmRSS:")
    }

    /// Most memory that it has occupied since [`Proxy::forget_peak`], in bytes.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<u64> {
        self.status_bytes("VmHWM:")
    }

    /// Begins the measurement of [`Proxy::peak_bytes`] anew; gives what is occupied now.
    #[must_use]
    pub fn forget_peak(&self) -> Option<u64> {
        // 5: the peak of the resident memory (proc_pid_clear_refs(5)).
        fs::write(self.proc("clear_refs"), "5").ok()?;
        self.resident_bytes()
    }

    fn status_bytes(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(self.proc("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Its threads.
    #[must_use]
    pub fn threads(&self) -> Option<usize> {
        Some(fs::read_dir(self.proc("task")).ok()?.count())
    }

    /// Processor time that it has used.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(self.proc("stat")).ok()?;
        // The second field is the program's name in brackets, which may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some(Duration::from_secs_f64((ticks(11)? + ticks(12)?) / TICKS))
    }

    fn proc(&self, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{what}", self.id()))
    }
}
