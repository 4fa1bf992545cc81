//! `cargo xtask …`: sets a machine up and runs the project's everyday commands.
//!
//! Invariants: no dependencies, so that it builds in a second on a machine that has nothing else
//! yet; every command is printed before it runs; what is missing is installed where that needs no
//! questions, and otherwise named with the exact command and exit code 2.
//!
//! Start at [`arguments::Task`]: what can be asked for. [`setup`] has the checks.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool: its output is the terminal"
)]

mod arguments;
mod command;
#[cfg(test)]
mod docs;
mod python;
mod setup;
mod stop;
mod tally;
mod tasks;

use std::process::ExitCode;

use arguments::{HELP, Task};

fn main() -> ExitCode {
    let done = Task::parse(std::env::args_os().skip(1)).and_then(|task| match task {
        Task::Help => {
            println!("{HELP}");
            Ok(())
        }
        Task::Demo(arguments) => tasks::demo(&arguments),
        Task::Test(arguments) => tasks::test(&arguments),
        Task::Soak(arguments) => tasks::soak(&arguments),
        Task::Bench(arguments) => tasks::bench(&arguments),
        Task::Schema => tasks::schema(),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("xtask: {stop}");
            ExitCode::from(stop.exit_code())
        }
    }
}
