//! `sluicegate serve`: runs until a signal, reloads on SIGHUP.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::demo::{self, DemoArgs, Started};
use crate::config::Overrides;
use crate::plugin;
use crate::server::{Server, StartError};

/// Exit code of a config or an environment that cannot be served.
const UNUSABLE: u8 = 2;

/// Serves; the exit code is 0 after a stop in which every request ended by itself.
pub(super) fn run(path: &Path) -> ExitCode {
    let server = match start(path) {
        Ok(server) => server,
        Err(error) => {
            print_chain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    print_addresses(&server);
    if let Err(error) = server.block_on(until_stopped(&server)) {
        print_chain(&error);
    }
    match server.stop() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// `sluicegate demo`: the same server, under a config of the demo's own.
pub(super) fn demo(arguments: DemoArgs) -> ExitCode {
    let Some(classifier) = plugin::bundled("keyword-classifier") else {
        print_chain(&anyhow::anyhow!("this binary has no bundled classifier"));
        return ExitCode::FAILURE;
    };
    demo::run(arguments, classifier, |path| {
        // The demo is the same on every machine: the environment overrides nothing.
        let server = Server::start(path, Overrides::default())?;
        let admin = server.admin_address();
        Ok(Started {
            data: server.data_address(),
            admin: admin.ok_or_else(|| anyhow::anyhow!("the demo has no admin listener"))?,
            stop: Box::new(move || {
                server.stop();
            }),
        })
    })
}

fn start(path: &Path) -> Result<Server, anyhow::Error> {
    let overrides = Overrides::from_env().map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let server: Result<Server, StartError> = Server::start(path, overrides);
    Ok(server?)
}

/// Waits for SIGTERM or SIGINT; SIGHUP reloads. Without a handler it would end the process.
async fn until_stopped(server: &Server) -> Result<(), anyhow::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reloads = JoinSet::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                // What came of it is in the log; the next signal must not wait for it.
                let reload = server.reload_handle();
                reloads.spawn(async move { reload.reload("SIGHUP").await });
            }
            Some(_) = reloads.join_next() => {}
        }
    }
}

/// One line that a script can read: with port 0, these are the ports.
#[expect(clippy::print_stdout, reason = "a command's output")]
fn print_addresses(server: &Server) {
    let admin = server
        .admin_address()
        .map_or_else(|| "none".to_owned(), |address| address.to_string());
    println!(
        "sluicegate listening data={} admin={admin}",
        server.data_address()
    );
}

#[expect(clippy::print_stderr, reason = "a command's output")]
fn print_chain(error: &anyhow::Error) {
    eprintln!("sluicegate: {error:#}");
}
