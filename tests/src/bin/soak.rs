//! `cargo xtask soak`: swaps under load for as long as it is told, with the figures at the end.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool: its output is the terminal"
)]

use std::process::ExitCode;

use sluicegate_tests::soak::{self, Plan};

const USAGE: &str = "usage: cargo xtask soak [--swaps N] [--seed N] [--streams N]";

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
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
    println!(
        "{} swaps, {} streams, seed {}",
        plan.swaps, plan.streams, plan.seed
    );
    let report = soak::run(plan, |line| println!("{line}")).await;
    println!("{report}");
    let broken = report.broken();
    for bound in &broken {
        eprintln!("broken: {bound}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan::default();
    while let Some(name) = arguments.next() {
        let mut number = || {
            let value = arguments.next().unwrap_or_default();
            let number = value.parse::<u64>();
            number.map_err(|_| format!("`{name}` takes a number, not {value:?}"))
        };
        match name.as_str() {
            "--swaps" => plan.swaps = at_least_one(number()?)?,
            "--streams" => plan.streams = at_least_one(number()?)?,
            "--seed" => plan.seed = number()?,
            _ => return Err(format!("no option `{name}`")),
        }
    }
    Ok(plan)
}

fn at_least_one(number: u64) -> Result<usize, String> {
    match usize::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("at least one is needed".to_owned()),
    }
}
