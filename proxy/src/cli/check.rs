//! `sluicegate check FILE`: says whether a config may be used, without starting anything.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, AuthMode, Config, Loaded, Overrides, Problems, Severity};

/// Checks a config file and prints everything that is wrong with it, or what it comes to. Fails
/// when there is an error; warnings are shown and forgiven.
#[must_use]
pub fn run(path: &Path) -> ExitCode {
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
    let loaded = Overrides::from_env().and_then(|overrides| config::load(path, &overrides));
    match loaded {
        Ok(loaded) => (success(path, &loaded, colour), true),
        Err(problems) => (failure(path, &problems, colour), false),
    }
}

fn failure(path: &Path, problems: &Problems, colour: bool) -> String {
    let count = problems.list().len();
    let errors = if count == 1 { "error" } else { "errors" };
    let rendered = problems.render(Severity::Error, colour);
    format!("{rendered}\n\n{}: {count} {errors}", path.display())
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
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let caller = match config.auth.mode {
        AuthMode::Keys => format!("{} keys", config.auth.keys.len()),
        AuthMode::Open => "open to everybody".to_owned(),
        AuthMode::PassThrough => "bearers passed through".to_owned(),
    };
    let admin = match config.admin.listen {
        Some(listen) => format!("admin on http://{listen}"),
        None => "no admin listener".to_owned(),
    };
    let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let pipeline = &config.pipeline;
    let slots = pipeline.slots().count();
    let needed = pipeline.instances_needed(server.workers);
    let bytes = pipeline
        .slots()
        .map(|slot| {
            let instances = u64::from(slot.spares).saturating_add(as_u64(server.workers)) * 2;
            instances.saturating_mul(as_u64(slot.memory_bytes))
        })
        .fold(0, u64::saturating_add);
    let lines = [
        ("listen", format!("{scheme}://{}, {caller}; {admin}", server.listen)),
        (
            "traffic",
            format!("{} routes to {} pools of {backends} backends", config.routes.len(), config.pools.len()),
        ),
        (
            "plugins",
            format!(
                "{slots} slots × ({} workers + spares) × 2 generations = {needed} of {} instances, \
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

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
