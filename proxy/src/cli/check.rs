//! `sluicegate check FILE`: says whether a config may be used, without starting anything.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{AuthMode, Config, Loaded, Overrides, Problems, Severity};
use crate::server::{Server, StartError};
use crate::telemetry::log;

/// Checks a config file and prints everything that is wrong with it, or what it comes to. Fails
/// when there is an error; warnings are shown and forgiven.
#[must_use]
pub(super) fn run(path: &Path) -> ExitCode {
    let colour = io::stdout().is_terminal();
    let (report, is_good) = report(path, colour);
    // A reader that closed the pipe knows enough; the exit code still tells.
    let _ = writeln!(io::stdout().lock(), "{report}");
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What is printed, and whether the config may be used.
fn report(path: &Path, colour: bool) -> (String, bool) {
    let checked = Overrides::from_env()
        .map_err(StartError::Config)
        .and_then(|overrides| Server::dry_run(path, overrides));
    match checked {
        Ok(loaded) => (success(path, &loaded, colour), true),
        Err(StartError::Config(problems)) => (failure(path, &problems, colour), false),
        Err(error) => (refusal(path, &error), false),
    }
}

fn failure(path: &Path, problems: &Problems, colour: bool) -> String {
    let rendered = problems.render(Severity::Error, colour);
    format!(
        "{rendered}\n\n{}: {}",
        path.display(),
        counted(problems.count(), "error")
    )
}

/// The file is in order, and this machine does not have what it asks for.
fn refusal(path: &Path, error: &StartError) -> String {
    let chain = log::chain(error);
    format!(
        "error: {chain}\n\n{}: the config cannot be used",
        path.display()
    )
}

fn success(path: &Path, loaded: &Loaded, colour: bool) -> String {
    let mut report = String::new();
    let warned = loaded.warned();
    if !warned.list().is_empty() {
        report = warned.render(Severity::Warning, colour);
        report.push_str("\n\n");
    }
    let summary = summary(&loaded.config);
    report.push_str(&format!("{}: ok\n{summary}", path.display()));
    report
}

/// The config in a few lines.
fn summary(config: &Config) -> String {
    let server = &config.server;
    let scheme = if server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let caller = match config.auth.mode {
        AuthMode::Keys => counted(config.auth.keys.len(), "key"),
        AuthMode::Open => "open to everybody".to_owned(),
        AuthMode::PassThrough => "bearers passed through".to_owned(),
    };
    let admin = match config.admin.listen {
        Some(listen) => format!("admin on http://{listen}"),
        None => "no admin listener".to_owned(),
    };
    let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let pipeline = &config.pipeline;
    let slots = counted(pipeline.slots().count(), "slot");
    let needed = pipeline.instances_needed(server.workers);
    let bytes = pipeline
        .slots()
        .map(|slot| {
            let instances = u64::from(slot.spares).saturating_add(as_u64(server.workers)) * 2;
            instances.saturating_mul(as_u64(slot.memory_bytes))
        })
        .fold(0, u64::saturating_add);
    let lines = [
        (
            "listen",
            format!("{scheme}://{}, {caller}; {admin}", server.listen),
        ),
        (
            "traffic",
            format!(
                "{} to {} of {}",
                counted(config.routes.len(), "route"),
                counted(config.pools.len(), "pool"),
                counted(backends, "backend"),
            ),
        ),
        (
            "plugins",
            format!(
                "{slots} × ({} workers + spares) × 2 generations = {needed} of {} instances, \
                 at most {} of memory",
                server.workers,
                pipeline.max_instances,
                mebibytes(bytes),
            ),
        ),
    ];
    let mut summary = String::new();
    for (name, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(summary, "  {name:<8} {value}");
    }
    summary.trim_end().to_owned()
}

/// `1 pool`, `2 pools`.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn check(text: &str) -> (String, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluicegate.toml");
        fs::write(&path, text).unwrap();
        let (report, is_good) = report(&path, false);
        let shown = report.replace(&path.display().to_string(), "sluicegate.toml");
        (shown, is_good)
    }

    const GOOD: &str = "[server]\nworkers = 2\n[auth]\nmode = \"open\"\n\
        [[pools]]\nname = \"main\"\nmodels = [\"m\"]\nbackends = [{ url = \"http://127.0.0.1:8000\" }]\n";

    #[test]
    fn a_good_config_is_summed_up() {
        let (report, is_good) = check(GOOD);
        assert!(is_good);
        insta::assert_snapshot!(report);
    }

    #[test]
    fn warnings_come_before_the_summary_and_are_forgiven() {
        let text = format!("{GOOD}[[routes]]\npool = \"main\"\n[[routes]]\npool = \"main\"\n");
        let (report, is_good) = check(&text);
        assert!(is_good);
        insta::assert_snapshot!(report);
    }

    #[test]
    fn every_error_is_shown_and_counted() {
        let (report, is_good) = check("[server]\nlistn = \"x\"\nworkers = 0\n");
        assert!(!is_good);
        insta::assert_snapshot!(report);
    }

    #[test]
    fn colours_are_for_terminals_alone() {
        let plain = Problems::nowhere(Path::new("a"), "wrong").render(Severity::Error, false);
        let coloured = Problems::nowhere(Path::new("a"), "wrong").render(Severity::Error, true);
        assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
    }
}
