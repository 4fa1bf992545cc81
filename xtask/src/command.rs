//! Runs other programs, and shows each command line first.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::{env, io, thread};

use crate::stop::Stop;
use crate::tally::Tally;

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A program, to be run in the repository's folder.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    // What `cargo run` tells xtask about xtask. Build scripts that watch these variables (ring's
    // does) would run again, and all that depends on them be built again, each time that one
    // builds now by xtask and now by hand.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_a_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Cargo, the one that runs xtask.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

fn describes_a_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_")
        || variable.starts_with("CARGO_MANIFEST_")
        || variable == "CARGO_BIN_NAME"
}

/// Runs to the end.
///
/// # Errors
/// [`Stop::Start`], or [`Stop::Failed`] when it does not end with exit code 0.
pub(crate) fn run(command: &mut Command) -> Result<(), Stop> {
    announce(command);
    let status = command
        .status()
        .map_err(|source| not_started(command, source))?;
    check(command, status)
}

/// Becomes the program: signals reach it, and its exit code is ours. Where that cannot be, runs it.
///
/// # Errors
/// As [`run`].
pub(crate) fn replace_by(mut command: Command) -> Result<(), Stop> {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        announce(&command);
        let source = command.exec();
        Err(not_started(&command, source))
    }
    #[cfg(not(unix))]
    run(&mut command)
}

/// Runs without input and gives what it wrote to its standard output; none when it cannot be
/// started or fails. Not announced: it only looks.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a test runner, passes its output on line by line, and counts.
///
/// # Errors
/// [`Stop::Start`]. That it failed is the second value: counts are wanted then, too.
pub(crate) fn run_and_count(command: &mut Command) -> Result<(Tally, Result<(), Stop>), Stop> {
    announce(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| not_started(command, source))?;
    // libtest sums up on the one, nextest on the other.
    let errors = child.stderr.take();
    let errors = thread::spawn(move || errors.map(|pipe| pass_on(pipe, io::stderr())));
    let mut tally = child
        .stdout
        .take()
        .map(|pipe| pass_on(pipe, io::stdout()))
        .unwrap_or_default();
    tally += errors.join().ok().flatten().unwrap_or_default();
    let status = child
        .wait()
        .map_err(|source| not_started(command, source))?;
    Ok((tally, check(command, status)))
}

/// Copies lines as they come. A reader that is gone (`| head`) ends the copy, not the count.
fn pass_on(from: impl Read, mut to: impl Write) -> Tally {
    let mut tally = Tally::default();
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines
        .read_until(b'\n', &mut line)
        .is_ok_and(|bytes| bytes > 0)
    {
        _ = to.write_all(&line).and_then(|()| to.flush());
        tally += Tally::of_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    tally
}

fn announce(command: &Command) {
    println!("$ {}", shown(command));
    _ = io::stdout().flush();
}

fn check(command: &Command, status: ExitStatus) -> Result<(), Stop> {
    if status.success() {
        Ok(())
    } else {
        Err(Stop::Failed {
            command: shown(command),
            code: status.code(),
        })
    }
}

fn not_started(command: &Command, source: io::Error) -> Stop {
    Stop::Start {
        command: shown(command),
        source,
    }
}

/// The command as one would type it in the repository's folder.
fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    if let Some(folder) = command.get_current_dir().filter(|folder| *folder != root()) {
        let folder = folder.strip_prefix(root()).unwrap_or(folder);
        words.push(format!("cd {} &&", quoted(folder.as_os_str())));
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.display(), quoted(value)));
        }
    }
    // A full path to cargo tells nothing that `cargo` does not.
    let program = Path::new(command.get_program());
    let program = if program.file_stem() == Some("cargo".as_ref()) {
        "cargo".as_ref()
    } else {
        program.as_os_str()
    };
    words.push(quoted(program));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

/// In single quotes where a shell would see more than one plain word.
fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed_in_the_repository() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command
            .args(["test", "-E", "package(it's)", ""])
            .current_dir(root().join("plugins"));
        command.env("A", "b c").env_remove("GONE");
        assert_eq!(
            shown(&command),
            r"cd plugins && A='b c' cargo test -E 'package(it'\''s)' ''"
        );
        assert_eq!(shown(&program("cmake")), "cmake");
    }

    #[test]
    fn what_cargo_says_about_xtask_is_not_inherited() {
        for variable in [
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
        ] {
            assert!(describes_a_package(variable), "{variable}");
        }
        for variable in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_OFFLINE",
            "PATH",
        ] {
            assert!(!describes_a_package(variable), "{variable}");
        }
    }

    #[test]
    fn output_is_passed_on_whole_and_counted() {
        let text = b"running\ntest result: ok. 2 passed; 0 failed; 0 ignored\n\xff no newline";
        let mut copy = Vec::new();
        let tally = pass_on(&text[..], &mut copy);
        assert_eq!(copy, text);
        assert_eq!(tally.passed, 2);
    }

    #[test]
    fn a_reader_that_is_gone_does_not_stop_the_count() {
        let tally = pass_on(
            &b"a\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n"[..],
            &mut [0_u8; 1][..],
        );
        assert_eq!(tally.failed, 1);
    }
}
