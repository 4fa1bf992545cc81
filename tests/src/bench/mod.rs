//! The proxy measured beside nginx: what `cargo xtask bench` runs.
//!
//! Everything of a scenario is started together and asked in turns, round by round, so that what the
//! machine does meanwhile hits all of them alike; what counts are the ratios of one run. What is
//! measured has the first core for itself, clients and backend share the others.
//!
//! Start at [`run`]. [`scenario`] says what is measured, [`subject`] what stands in between,
//! [`load`] and [`backend`] are the two ends.

mod backend;
mod cpu;
mod load;
mod report;
mod scenario;
mod subject;
mod wire;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;

use backend::Backend;
use load::{closed_loop, request, streams};
use report::{Line, Table};
use scenario::{DELAY, Load, Scenario, TOKENS};
use subject::Subject;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The release build.
    pub binary: PathBuf,
    /// Times that each subject of a scenario has its turn.
    pub rounds: usize,
    /// Length of a turn.
    pub turn: Duration,
    /// Only scenarios whose name contains this.
    pub only: Option<String>,
}

/// What a turn gave; none where the scenario does not ask for it.
#[derive(Debug, Clone, Default)]
struct Figures {
    rate: Option<f64>,
    cpu_per_request: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
    cpu_per_1000_tokens: Option<f64>,
    ttft_p50: Option<f64>,
    ttft_p99: Option<f64>,
    gap_p99: Option<f64>,
    resident_mb: Option<f64>,
    failed: u64,
}

/// Runs a plan; `progress` gets each table, in Markdown, as it is there.
///
/// # Errors
/// When a subject does not start.
pub async fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> io::Result<()> {
    let backend = Backend::start()?;
    for scenario in scenario::all() {
        let wanted = plan
            .only
            .as_ref()
            .is_none_or(|only| scenario.name.contains(only.as_str()));
        if !wanted {
            continue;
        }
        progress(&measure(plan, &backend, &scenario).await?.markdown());
    }
    Ok(())
}

async fn measure(plan: &Plan, backend: &Backend, scenario: &Scenario) -> io::Result<Table> {
    let mut subjects = Vec::new();
    for kind in &scenario.subjects {
        subjects.push(kind.start(&plan.binary, backend)?);
    }
    let mut lines: Vec<Line> = subjects
        .iter()
        .map(|subject| Line {
            subject: subject.name,
            rounds: Vec::new(),
        })
        .collect();
    if let Load::Memory { body, connections } = &scenario.load {
        for (subject, line) in subjects.iter().zip(&mut lines) {
            line.rounds = memory(subject, body, *connections).await;
        }
    } else {
        for subject in &subjects {
            turn(plan.turn / 4, backend, subject, &scenario.load).await; // connections, caches
        }
        for _ in 0..plan.rounds {
            for (subject, line) in subjects.iter().zip(&mut lines) {
                line.rounds
                    .push(turn(plan.turn, backend, subject, &scenario.load).await);
            }
        }
    }
    Ok(Table {
        name: scenario.name.clone(),
        lines,
    })
}

async fn turn(time: Duration, backend: &Backend, subject: &Subject, load: &Load) -> Figures {
    match load {
        Load::Closed { body, connections } | Load::Memory { body, connections } => {
            let request = request(subject.address, body);
            plain(subject, &request, *connections, time).await
        }
        Load::Open { streams } => {
            backend.stream(TOKENS, DELAY);
            open(subject, *streams, time).await
        }
    }
}

async fn plain(subject: &Subject, request: &Bytes, connections: usize, time: Duration) -> Figures {
    let before = subject.cpu();
    let plain = closed_loop(subject.address, request, connections, time).await;
    let cpu = subject.cpu() - before;
    let requests = plain.requests.max(1) as f64;
    Figures {
        rate: Some(requests / plain.took.as_secs_f64()),
        cpu_per_request: (cpu > Duration::ZERO).then(|| cpu.as_secs_f64() * 1e6 / requests),
        p50: Some(milliseconds(&plain.latency, 0.5)),
        p99: Some(milliseconds(&plain.latency, 0.99)),
        failed: plain.failed,
        ..Figures::default()
    }
}

async fn open(subject: &Subject, at_once: u64, time: Duration) -> Figures {
    let request = request(subject.address, &scenario::chat(2 * 1024, true));
    let length = DELAY * u32::try_from(TOKENS).unwrap_or(u32::MAX);
    let every = length / u32::try_from(at_once).unwrap_or(u32::MAX);
    let count = time.as_nanos().div_ceil(every.as_nanos().max(1));
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let before = subject.cpu();
    let streams = streams(subject.address, &request, count, every).await;
    let cpu = subject.cpu() - before;
    let thousands = streams.tokens.max(1) as f64 / 1000.0;
    Figures {
        cpu_per_1000_tokens: (cpu > Duration::ZERO).then(|| cpu.as_secs_f64() / thousands),
        ttft_p50: Some(milliseconds(&streams.first, 0.5)),
        ttft_p99: Some(milliseconds(&streams.first, 0.99)),
        gap_p99: Some(milliseconds(&streams.gaps, 0.99)),
        failed: streams.failed,
        ..Figures::default()
    }
}

/// Idle, after 10,000 requests, and after 100,000 more: a round each.
async fn memory(subject: &Subject, body: &str, connections: usize) -> Vec<Figures> {
    let request = request(subject.address, body);
    let mut rounds = Vec::new();
    let mut made = 0;
    for until in [0, 10_000, 110_000] {
        let mut failed = 0;
        while made < until && failed == 0 {
            let turn = Duration::from_millis(500);
            let plain = closed_loop(subject.address, &request, connections, turn).await;
            made += plain.requests;
            failed += plain.failed;
        }
        rounds.push(Figures {
            resident_mb: Some(subject.resident() as f64 / 1e6),
            failed,
            ..Figures::default()
        });
    }
    rounds
}

fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}
