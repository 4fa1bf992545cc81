//! Swap after swap under load: what `cargo xtask soak` runs at length, and a test in short.
//!
//! Streams stay open from first to last and plain traffic goes on beside them, while components and
//! config change, for good and for bad. Each change is awaited: a good one by its generation, which
//! must then serve, a bad one by its refusal, after which the old one must serve still. At the end
//! stand the [`Report`]'s figures, with a bound for each.
//!
//! Start at [`run`]. `swaps` draws the changes, `streams` keeps the streams.

mod report;
mod streams;
mod swaps;

use std::time::{Duration, Instant};

pub use report::{Report, Sample};

use crate::{Backend, Guest, Proxy, Traffic};
use streams::Streams;
use swaps::{FILE, Swap, Swaps};

/// Clients of the plain traffic.
const CLIENTS: usize = 4;

/// What they are answered.
const ANSWER: &str = "b t1 t2 t3";

/// Swaps from one line of progress to the next.
const STEP: usize = 100;

/// How long a run is, and what it draws.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Changes of components and config, bad ones too.
    pub swaps: usize,
    /// Streams that stay open.
    pub streams: usize,
    /// Equal seeds draw equal swaps.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            swaps: 2_000,
            streams: 64,
            seed: 20_260_401,
        }
    }
}

impl Plan {
    /// The swap from which files and memory are compared: late enough that every component has been
    /// compiled and every thread been started.
    fn base(&self) -> usize {
        (self.swaps / 2).clamp(1, STEP)
    }
}

/// Runs a plan against the real binary; `progress` gets a line now and then.
///
/// # Panics
/// When a swap is not answered at all within 30 s: with the binary's output.
pub async fn run(plan: Plan, mut progress: impl FnMut(String)) -> Report {
    let guest = Guest::marked();
    let (model, long) = (Backend::model("b").await, Backend::scripted("long").await);
    model.forget_bodies();
    model.behave(|behaviour| behaviour.delay = Duration::from_millis(8));
    let mut swaps = Swaps::new(plan.seed, &guest, &model, &long);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), swaps.component()).unwrap();
    let proxy = Proxy::start_in(folder, &swaps.config(), &[]).await;

    let streams = Streams::open(&proxy, &long, plan.streams).await;
    let traffic = Traffic::start(&proxy, CLIENTS, ANSWER).await;
    let mut report = Report::new(plan);
    let begun = Instant::now();
    for number in 1..=plan.swaps {
        match swaps.make(&proxy).await {
            Swap::Served => report.served += 1,
            Swap::Refused => report.refused += 1,
            Swap::Unserved(what) => report.unserved.push(format!("swap {number}: {what}")),
        }
        let is_base = number == plan.base();
        if is_base || number == plan.swaps || number.is_multiple_of(STEP) {
            let sample = Sample::take(&proxy).await;
            let (sent, failed) = traffic.counts();
            let spent = begun.elapsed().as_secs();
            let broken = streams.broken();
            progress(format!(
                "{number:>5} swaps in {spent} s: {sent} requests, {failed} failed; \
                 {broken} broken streams; {sample}"
            ));
            if is_base {
                report.base = sample;
            }
            report.end = sample;
        }
    }
    report.kept = await_freed(&proxy).await;
    report.streams = streams.finish().await;
    report.good = swaps.good();
    report.note_traffic(traffic.stop().await, swaps.asked(), &model);
    proxy.await_idle().await;
    report.note_calls(&proxy.metrics().await);
    report.note_log(&proxy);
    report
}

/// Awaits that of all snapshots and plugins only the running ones are left, with the streams still
/// open; says what else there is.
async fn await_freed(proxy: &Proxy) -> Option<String> {
    let look = async || {
        let metrics = proxy.metrics().await;
        let snapshots = metrics.sum("sluicegate_snapshots", &[]);
        let pools = metrics.sum("sluicegate_plugin_pools", &[]);
        let slots = proxy.plugins().await.len();
        match snapshots == 1.0 && pools == slots as f64 {
            true => Ok(()),
            false => Err(format!(
                "{snapshots} snapshots, {pools} plugins for {slots} slots"
            )),
        }
    };
    for _ in 0..50 {
        if look().await.is_ok() {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "this is the polling")]
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    look().await.err()
}
