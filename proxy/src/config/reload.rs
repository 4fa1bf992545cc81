//! What a running proxy cannot change.

use std::fmt::Display;
use std::net::SocketAddr;

use super::load::Loaded;
use super::locator::Locator;
use super::problem::{Problem, Problems};
use super::resolved::{Config, LogFormat};

/// Refuses a new config that differs where the running proxy cannot follow.
///
/// # Errors
/// Every such difference, with both values. The rest of the new config is not used either: a
/// reload is taken whole or not at all.
pub(crate) fn check_reload(old: &Config, loaded: &Loaded) -> Result<(), Problems> {
    let new = loaded.config.as_ref();
    let mut fixed = Fixed {
        locator: &loaded.locator,
        problems: Vec::new(),
    };
    let tls = |config: &Config| match config.server.tls {
        Some(_) => "TLS",
        None => "plain HTTP",
    };
    let admin = |config: &Config| address(config.admin.listen);
    let metrics = |config: &Config| address(config.telemetry.listen);
    let format = |config: &Config| match config.telemetry.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    fixed.same("server.listen", &old.server.listen, &new.server.listen);
    fixed.same("server.workers", &old.server.workers, &new.server.workers);
    fixed.same("server.tls", tls(old), tls(new));
    fixed.same("admin.listen", &admin(old), &admin(new));
    fixed.same("telemetry.listen", &metrics(old), &metrics(new));
    fixed.same("telemetry.log_format", format(old), format(new));
    fixed.same(
        "telemetry.log_level",
        &old.telemetry.log_level,
        &new.telemetry.log_level,
    );

    let (old, new) = (&old.pipeline, &new.pipeline);
    fixed.same(
        "pipeline.max_instances",
        &old.max_instances,
        &new.max_instances,
    );
    fixed.same(
        "pipeline.max_memory_bytes",
        &old.max_memory_bytes,
        &new.max_memory_bytes,
    );
    fixed.same(
        "pipeline.compile_cache",
        &old.compile_cache.display().to_string(),
        &new.compile_cache.display().to_string(),
    );
    fixed.same(
        "pipeline.compile_cache_bytes",
        &old.compile_cache_bytes,
        &new.compile_cache_bytes,
    );
    match fixed.problems.is_empty() {
        true => Ok(()),
        false => Err(Problems::new(fixed.problems).with_files(loaded.watched.clone())),
    }
}

struct Fixed<'l> {
    locator: &'l Locator,
    problems: Vec<Problem>,
}

impl Fixed<'_> {
    fn same<T: PartialEq + Display + ?Sized>(&mut self, field: &str, old: &T, new: &T) {
        if old != new {
            let pointer = format!("/{}", field.replace('.', "/"));
            let message =
                format!("cannot change while running, from {old} to {new}; restart to apply it");
            self.problems.push(self.locator.problem(&pointer, message));
        }
    }
}

fn address(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "none".to_owned(), |address| address.to_string())
}
