//! `cargo xtask bench`: the proxy beside nginx, round by round, as Markdown.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool: its output is the terminal"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use sluicegate_tests::bench::{self, Plan};

const USAGE: &str = "usage: cargo xtask bench [--quick] [--rounds N] [--only TEXT]";

fn main() -> ExitCode {
    if std::env::args()
        .skip(1)
        .any(|argument| argument == "--help")
    {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let plan = match parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    leave_the_first_core();
    // One thread: a load generator that outgrows its core would measure itself.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let run = runtime
        .and_then(|runtime| runtime.block_on(bench::run(&plan, |table| println!("{table}"))));
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// That one is for what is measured.
fn leave_the_first_core() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut others = CpuSet::new();
    (1..cores.max(2)).for_each(|core| others.set(core));
    if let Err(error) = sched_setaffinity(None, &others) {
        eprintln!("not pinned, so the figures are less steady: {error}");
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut plan = Plan {
        binary: program.with_file_name("sluicegate"),
        rounds: 5,
        turn: Duration::from_secs(3),
        only: None,
    };
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--quick" => (plan.rounds, plan.turn) = (3, Duration::from_secs(1)),
            "--rounds" => {
                let value = arguments.next().unwrap_or_default();
                let rounds = value.parse().ok().filter(|rounds| *rounds > 0);
                plan.rounds = rounds.ok_or("`--rounds` takes a number from 1")?;
            }
            "--only" => plan.only = arguments.next(),
            "--binary" => plan.binary = PathBuf::from(arguments.next().unwrap_or_default()),
            _ => return Err(format!("no option `{name}`")),
        }
    }
    Ok(plan)
}
