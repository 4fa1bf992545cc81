//! `sluicegate serve`: runs until a signal ends it or a new process has taken over.
//!
//! SIGTERM and SIGINT stop, a second one at once; SIGHUP reloads; SIGQUIT upgrades.

use std::future::pending;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::demo::{self, DemoArgs, Started};
use super::notify;
use super::pid_file::PidFile;
use crate::config::Overrides;
use crate::plugin;
use crate::server::{Predecessor, Program, Server};

/// Exit code of a config or an environment that cannot be served.
const UNUSABLE: u8 = 2;

/// What `serve` is told.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The config file.
    #[arg(
        short,
        long,
        default_value = "sluicegate.toml",
        env = "SLUICEGATE_CONFIG"
    )]
    config: PathBuf,
    /// Write the process id to this file; `sluicegate upgrade` reads it.
    #[arg(long, env = "SLUICEGATE_PID_FILE")]
    pid_file: Option<PathBuf>,
    /// The program that an upgrade (SIGQUIT) starts, with this command line; left out, the one that
    /// lies where this one was started from.
    #[arg(long)]
    upgrade_binary: Option<PathBuf>,
}

/// Serves; the exit code is 0 after an end in which every connection ended by itself.
pub(super) fn run(arguments: ServeArgs) -> ExitCode {
    match serve(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print_chain(&error);
            ExitCode::from(UNUSABLE)
        }
    }
}

fn serve(arguments: ServeArgs) -> Result<bool, anyhow::Error> {
    // Asked first: when an upgrade begins, another file may lie there.
    let program = program(arguments.upgrade_binary)?;
    let predecessor =
        Predecessor::from_environment().context("no sockets came from the process before")?;
    let server = start(&arguments.config, predecessor)?;
    let mut signals = server.block_on(async { Signals::listen() })?;
    print_addresses(&server);
    let mut serving = Serving {
        server: &server,
        program,
        pid_path: arguments.pid_file,
        pid_file: None,
    };
    let end = server.block_on(serving.until(&mut signals));
    let pid_file = serving.pid_file.take();
    let ended = match end {
        End::Stop => {
            notify::notify("STOPPING=1");
            server.stop(signals.end())
        }
        End::HandedOver => server.hand_over(signals.end()),
    };
    drop(pid_file);
    Ok(ended)
}

/// `sluicegate demo`: the same server, under a config of the demo's own.
pub(super) fn demo(arguments: DemoArgs) -> ExitCode {
    let Some(classifier) = plugin::bundled("keyword-classifier") else {
        print_chain(&anyhow::anyhow!("this binary has no bundled classifier"));
        return ExitCode::FAILURE;
    };
    demo::run(arguments, classifier, |path| {
        // The demo is the same on every machine: the environment overrides nothing.
        let server = Server::start(path, Overrides::default(), None)?;
        let admin = server.admin_address();
        Ok(Started {
            data: server.data_address(),
            admin: admin.ok_or_else(|| anyhow::anyhow!("the demo has no admin listener"))?,
            stop: Box::new(move || {
                server.stop(pending());
            }),
        })
    })
}

fn start(path: &Path, predecessor: Option<Predecessor>) -> Result<Server, anyhow::Error> {
    match Overrides::from_env() {
        Ok(overrides) => Ok(Server::start(path, overrides, predecessor)?),
        Err(problems) => {
            if let Some(predecessor) = predecessor {
                predecessor.refuse(&problems.to_string());
            }
            Err(anyhow::anyhow!("{problems}"))
        }
    }
}

/// What an upgrade starts: with a path on the command line, whatever lies there then, as behind a
/// link that was set to another version.
fn program(given: Option<PathBuf>) -> io::Result<Program> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().map(PathBuf::from).unwrap_or_default();
    let path = match given {
        Some(path) => path,
        None if name.components().count() > 1 => name,
        None => std::env::current_exe()?,
    };
    Ok(Program {
        path: std::path::absolute(path)?,
        arguments: arguments.collect(),
    })
}

/// The signals that mean something. Without a handler each would end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    quit: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next signal that asks for an end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Why the process ends.
enum End {
    Stop,
    /// Another process serves.
    HandedOver,
}

/// The time between start and end.
struct Serving<'s> {
    server: &'s Server,
    program: Program,
    pid_path: Option<PathBuf>,
    /// Once the server is ready.
    pid_file: Option<PidFile>,
}

impl Serving<'_> {
    async fn until(&mut self, signals: &mut Signals) -> End {
        let server = self.server;
        let mut is_ready = false;
        let mut upgrade = None;
        let mut reloads = JoinSet::new();
        loop {
            tokio::select! {
                () = server.ready(), if !is_ready => {
                    is_ready = true;
                    self.write_pid();
                    notify::notify("READY=1");
                }
                _ = signals.terminate.recv() => return End::Stop,
                _ = signals.interrupt.recv() => return End::Stop,
                _ = signals.hangup.recv() => {
                    // What came of it is in the log; the next signal must not wait for it.
                    let reload = server.reload_handle();
                    reloads.spawn(async move { reload.reload("SIGHUP").await });
                }
                Some(_) = reloads.join_next() => {}
                _ = signals.quit.recv(), if is_ready && upgrade.is_none() => {
                    upgrade = Some(Box::pin(server.upgrade(self.program.clone())));
                }
                outcome = outcome(&mut upgrade) => match outcome {
                    Ok(successor) => {
                        // Only the main process may name another one.
                        notify::notify(&format!("MAINPID={successor}"));
                        return End::HandedOver;
                    }
                    Err(why) => {
                        upgrade = None;
                        self.refused(&why);
                    }
                },
            }
        }
    }

    /// A process that serves does not end for want of the file: clients are with it already.
    fn write_pid(&mut self) {
        let Some(path) = &self.pid_path else { return };
        match PidFile::write(path) {
            Ok(file) => self.pid_file = Some(file),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the pid file cannot be written");
            }
        }
    }

    /// Leaves word for `sluicegate upgrade`; the log has it already.
    fn refused(&self, why: &str) {
        if let Some(file) = &self.pid_file
            && let Err(error) = file.refuse(why)
        {
            tracing::warn!(%error, "the reason cannot be written beside the pid file");
        }
    }
}

/// What came of an upgrade; waits for ever without one.
async fn outcome<F: Future + Unpin>(upgrade: &mut Option<F>) -> F::Output {
    match upgrade {
        Some(upgrade) => upgrade.await,
        None => pending().await,
    }
}

/// One line that a script can read: with port 0, these are the ports.
fn print_addresses(server: &Server) {
    let admin = server
        .admin_address()
        .map_or_else(|| "none".to_owned(), |address| address.to_string());
    let data = server.data_address();
    // Whoever read it may have left, as after an upgrade.
    let _ = writeln!(
        io::stdout(),
        "sluicegate listening data={data} admin={admin}"
    );
}

#[expect(clippy::print_stderr, reason = "a command's output")]
pub(super) fn print_chain(error: &anyhow::Error) {
    eprintln!("sluicegate: {error:#}");
}
