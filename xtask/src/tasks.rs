//! The tasks, each as the list of commands that it is.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::command::{cargo, output, program, replace_by, root, run, run_and_count};
use crate::stop::Stop;
use crate::tally::Tally;
use crate::{python, setup};

/// Builds what the tests need, the binary that the end-to-end tests start among it. One selection
/// with the runners below: another one would resolve other features, and build dependencies twice.
const BUILD: [&str; 6] = [
    "build",
    "--workspace",
    "--lib",
    "--bins",
    "--tests",
    "--examples",
];

/// Builds what the bench needs. The whole workspace, for the same reason.
const BUILD_RELEASE: [&str; 4] = ["build", "--release", "--workspace", "--bins"];

/// `cargo xtask demo`: does not return where the demo starts.
///
/// # Errors
/// What is missing, or why cargo could not be started.
pub(crate) fn demo(arguments: &[OsString]) -> Result<(), Stop> {
    setup::ready_to_build()?;
    let mut command = cargo(&[
        "run",
        "--package",
        "sluicegate",
        "--bin",
        "sluicegate",
        "--",
    ]);
    command.arg("demo").args(arguments);
    replace_by(command)
}

/// `cargo xtask test`: all runners run, also when an earlier one has failures; the last line has
/// the sum.
///
/// # Errors
/// What is missing, a build that failed, or [`Stop::Tests`].
pub(crate) fn test(arguments: &[OsString]) -> Result<(), Stop> {
    setup::ready_to_build()?;
    let python = python::for_tests();
    run(&mut cargo(&BUILD))?;

    let mut workspace = workspace_runner(arguments);
    if let Some(python) = &python {
        workspace.env(python::VARIABLE, python);
    }
    let mut runners = vec![workspace];
    if arguments.is_empty() {
        runners.push(cargo(&["test", "--workspace", "--doc"]));
        let mut plugins = cargo(&["test", "--workspace"]);
        plugins.current_dir(root().join("plugins"));
        runners.push(plugins);
    }

    let mut sum = Tally::default();
    let mut failures = Vec::new();
    for runner in &mut runners {
        let (mut tally, ended) = run_and_count(runner.stdin(Stdio::null()))?;
        if let Err(stop) = ended {
            // A runner that could not build its tests has no counts, and is not to look like
            // success.
            tally.failed = tally.failed.max(1);
            failures.push(stop);
        }
        sum += tally;
    }
    for failure in &failures {
        println!("xtask: {failure}");
    }
    println!("{sum}");
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Stop::Tests)
    }
}

/// nextest where it is installed: it runs tests in processes of their own and kills what hangs.
/// Without `--workspace`, which a virtual workspace implies, so that `-p` can narrow the run.
fn workspace_runner(arguments: &[OsString]) -> Command {
    let mut runner = if output(&mut cargo(&["nextest", "--version"])).is_some() {
        cargo(&["nextest", "run"])
    } else {
        cargo(&["test", "--bins", "--tests", "--examples", "--no-fail-fast"])
    };
    runner.args(arguments);
    runner
}

/// `cargo xtask soak`: does not return where it starts. The driver finds the proxy beside itself,
/// so both are built first, with the selection of the tests.
///
/// # Errors
/// What is missing, a build that failed, or why the driver could not be started.
pub(crate) fn soak(arguments: &[OsString]) -> Result<(), Stop> {
    setup::ready_to_build()?;
    run(&mut cargo(&BUILD))?;
    let driver = beside_this(&format!("soak{}", env::consts::EXE_SUFFIX))?;
    let mut command = program(driver);
    command.args(arguments);
    replace_by(command)
}

/// `cargo xtask bench`: does not return where it starts.
///
/// # Errors
/// What is missing, a build that failed, or why the driver could not be started.
pub(crate) fn bench(arguments: &[OsString]) -> Result<(), Stop> {
    setup::ready_to_build()?;
    run(&mut cargo(&BUILD_RELEASE))?;
    let driver = beside_this(&format!("../release/bench{}", env::consts::EXE_SUFFIX))?;
    let mut command = program(driver);
    command.args(arguments);
    replace_by(command)
}

/// A program that cargo has put into the folder where it put this one.
fn beside_this(name: &str) -> Result<PathBuf, Stop> {
    let this = env::current_exe().map_err(|source| Stop::Start {
        command: name.to_owned(),
        source,
    })?;
    Ok(this.with_file_name(name))
}

/// `cargo xtask schema`: the test that compares the checked-in schema with the types writes it
/// when asked to, so that both always mean the same file.
///
/// # Errors
/// What is missing, that cargo failed, or that the test was not there to be run.
pub(crate) fn schema() -> Result<(), Stop> {
    setup::ready_to_build()?;
    let filter = "config::tests::the_checked_in_schema_is_current";
    let mut command = cargo(&["test", "--package", "sluicegate", "--lib", filter]);
    let (tally, ended) = run_and_count(command.env("SLUICEGATE_WRITE_SCHEMA", "1"))?;
    ended?;
    // A filter that finds nothing is a success to libtest.
    if tally.passed == 0 {
        return Err(Stop::Tests);
    }
    Ok(())
}
