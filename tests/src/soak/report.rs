//! The figures of a run, and the bound of each.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::swaps::SLOTS;
use super::{Plan, STEP};
use crate::traffic::Outcome;
use crate::{Backend, Metrics, Proxy};

/// Files that may be open at the end and were not at the base: connections in passing, of which
/// there are as many as requests happen to meet on one worker. A file that every swap left open
/// would be hundreds.
const FILES_IN_PASSING: usize = 8;

/// Memory at the end, as a multiple of that at the base. A short run still warms up: threads keep
/// some for themselves.
const MEMORY_GROWTH: f64 = 1.2;
const MEMORY_GROWTH_OF_SHORT_RUN: f64 = 1.3;

/// Looks at a process that one sample takes the least of.
const LOOKS: usize = 5;

/// What the proxy's process holds. None where the system does not tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Open files.
    pub files: Option<usize>,
    /// Resident memory, in bytes.
    pub memory: Option<u64>,
    /// Threads.
    pub threads: Option<usize>,
}

impl Sample {
    /// Looks a few times, since requests come and go.
    pub(super) async fn take(proxy: &Proxy) -> Self {
        let mut least = Self::look(proxy);
        for _ in 1..LOOKS {
            #[expect(clippy::disallowed_methods, reason = "samples lie apart")]
            tokio::time::sleep(Duration::from_millis(50)).await;
            let seen = Self::look(proxy);
            least.files = least.files.min(seen.files);
            least.memory = least.memory.min(seen.memory);
            least.threads = least.threads.min(seen.threads);
        }
        least
    }

    fn look(proxy: &Proxy) -> Self {
        Self {
            files: proxy.open_files(),
            memory: proxy.resident_bytes(),
            threads: proxy.threads(),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(files), Some(memory), Some(threads)) = (self.files, self.memory, self.threads)
        else {
            return f.write_str("files and memory unknown on this system");
        };
        let mib = memory as f64 / f64::from(1 << 20);
        write!(
            f,
            "{files} open files, {mib:.1} MiB resident, {threads} threads"
        )
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    /// Requests beside the streams.
    pub sent: usize,
    /// What was wrong with each that failed.
    pub failures: Vec<String>,
    /// What was wrong with each stream that did not come whole.
    pub streams: Vec<String>,
    /// Good swaps whose generation served.
    pub served: usize,
    /// Bad swaps that were refused while the old generation served.
    pub refused: usize,
    /// Swaps after which something else served.
    pub unserved: Vec<String>,
    /// Labels that no good generation gives.
    pub strange: Vec<String>,
    /// Labels of all good generations.
    pub good: BTreeSet<String>,
    /// Counts that are not those of the requests.
    pub uncounted: Vec<String>,
    /// Snapshots or plugins that the streams kept in memory.
    pub kept: Option<String>,
    /// Lines of the log that are no refusal of a bad swap.
    pub logged: Vec<String>,
    /// After the first swaps.
    pub base: Sample,
    /// After the last one.
    pub end: Sample,
}

impl Report {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            sent: 0,
            failures: Vec::new(),
            streams: Vec::new(),
            served: 0,
            refused: 0,
            unserved: Vec::new(),
            strange: Vec::new(),
            good: BTreeSet::new(),
            uncounted: Vec::new(),
            kept: None,
            logged: Vec::new(),
            base: Sample::default(),
            end: Sample::default(),
        }
    }

    /// Notes what the plain traffic saw; `asked` more requests were sent to see what serves.
    pub(super) fn note_traffic(&mut self, outcome: Outcome, asked: usize, backend: &Backend) {
        self.sent = outcome.sent + asked;
        let strange = outcome.served().into_iter();
        self.strange = strange
            .filter(|label| !self.good.contains(*label))
            .map(str::to_owned)
            .collect();
        self.failures = outcome.failures;
        let (sent, exchanges) = (self.sent, backend.request_count());
        if exchanges != sent {
            let counts = format!("{exchanges} exchanges of {sent} requests");
            self.uncounted.push(counts);
        }
    }

    /// Notes whether each request, the streams too, was seen by the slots that were always there.
    pub(super) fn note_calls(&mut self, metrics: &Metrics) {
        for slot in SLOTS {
            let calls = metrics.sum("sluicegate_plugin_calls_total", &[("slot", slot)]);
            let ok = [("slot", slot), ("result", "ok")];
            let good = metrics.sum("sluicegate_plugin_calls_total", &ok);
            let requests = (self.sent + self.plan.streams) as f64;
            if calls != requests || good != requests {
                self.uncounted.push(format!(
                    "slot {slot}: {calls} calls, {good} of them good, of {requests} requests"
                ));
            }
        }
    }

    /// Notes warnings and errors that are no refusal of what should be refused.
    pub(super) fn note_log(&mut self, proxy: &Proxy) {
        self.logged = proxy.severe_lines();
        self.logged.retain(|line| {
            !line.contains("reload refused, nothing changed")
                && !line.contains("plugin candidate refused, the old one goes on")
        });
    }

    /// Every bound that is broken, with the figures.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let lists = [
            ("requests failed", &self.failures),
            ("streams broke", &self.streams),
            ("swaps did not serve", &self.unserved),
            ("labels are of no good generation", &self.strange),
            ("counts are wrong", &self.uncounted),
            ("log lines are out of place", &self.logged),
        ];
        let mut broken: Vec<String> = lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{} {what}, the first: {}", list.len(), list[0]))
            .collect();
        if let Some(kept) = &self.kept {
            broken.push(format!("open streams keep what was replaced: {kept}"));
        }
        let (base, end) = (self.base, self.end);
        if end.files > base.files.map(|files| files + FILES_IN_PASSING) {
            broken.push(format!("open files grew: {base}, then {end}"));
        }
        if let (Some(base_bytes), Some(end_bytes)) = (base.memory, end.memory)
            && end_bytes as f64 > base_bytes as f64 * self.plan.memory_growth()
        {
            broken.push(format!("memory grew: {base}, then {end}"));
        }
        broken
    }
}

impl Plan {
    fn memory_growth(&self) -> f64 {
        match self.swaps > STEP {
            true => MEMORY_GROWTH,
            false => MEMORY_GROWTH_OF_SHORT_RUN,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            swaps,
            streams,
            seed,
        } = self.plan;
        writeln!(f, "swaps               {swaps}, seed {seed}")?;
        writeln!(f, "generations served  {}", self.served)?;
        writeln!(f, "bad ones refused    {}", self.refused)?;
        writeln!(f, "requests sent       {}", self.sent)?;
        writeln!(f, "requests failed     {}", self.failures.len())?;
        writeln!(f, "streams             {streams}")?;
        writeln!(f, "streams broken      {}", self.streams.len())?;
        writeln!(f, "at swap {:<11} {}", self.plan.base(), self.base)?;
        write!(f, "at the end          {}", self.end)
    }
}
