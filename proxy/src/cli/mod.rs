//! The commands of the binary: one file each. All printing to the terminal happens in this room.

mod check;
#[expect(
    clippy::indexing_slicing,
    reason = "the demo indexes tables of its own, and JSON as values"
)]
mod demo;
mod health;
mod notify;
mod pid_file;
mod serve;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

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
    /// Serve by a config file. SIGTERM drains, SIGHUP reloads, SIGQUIT upgrades.
    Serve(serve::ServeArgs),
    /// Let a new process take over from the one that serves, without a refused connection.
    Upgrade {
        /// The pid file of the process that serves (`serve --pid-file`).
        #[arg(long, env = "SLUICEGATE_PID_FILE")]
        pid_file: PathBuf,
        /// Seconds to wait for the outcome; let it be more than `[server] upgrade_timeout`.
        #[arg(long, default_value_t = 90)]
        timeout: u64,
    },
    /// Ask the process that serves by a config file whether it is ready.
    Health {
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
        Command::Serve(arguments) => serve::run(arguments),
        Command::Upgrade { pid_file, timeout } => {
            upgrade::run(&pid_file, Duration::from_secs(timeout))
        }
        Command::Health { config } => health::run(&config),
        Command::Check { file } => check::run(&file),
        Command::Demo(arguments) => serve::demo(arguments),
    }
}
