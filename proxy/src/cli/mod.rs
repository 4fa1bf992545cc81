//! The commands of the binary: one file each. All printing to the terminal happens in this room.

mod check;
#[expect(
    clippy::indexing_slicing,
    reason = "the demo indexes tables of its own, and JSON as values"
)]
mod demo;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Edge proxy between applications and pools of model backends.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve by a config file.
    Serve {
        /// The config file.
        #[arg(
            short,
            long,
            default_value = "sluicegate.toml",
            env = "SLUICEGATE_CONFIG"
        )]
        config: PathBuf,
    },
    /// Check a config file and print everything that is wrong with it.
    Check {
        /// The config file.
        file: PathBuf,
    },
    /// Show what Sluicegate does, with built-in model backends.
    Demo(demo::DemoArgs),
}

/// Runs the command line.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config } => serve::run(&config),
        Command::Check { file } => check::run(&file),
        Command::Demo(arguments) => serve::demo(arguments),
    }
}
