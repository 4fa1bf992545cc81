//! The process's own log: `tracing` events and the `log` records of dependencies, to stderr.

use std::io::{IsTerminal as _, stderr};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, Telemetry};

/// pingora tells of every connection that a client resets and of its own start; from `warn` on it
/// tells what an operator can act on. notify warns of each watched folder that was deleted, whose
/// watch has gone with it. A directive of the config for the same target wins.
const QUIET: &str = "pingora=warn,notify=error,h2=error";

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub(crate) enum LogError {
    /// The config's filter is malformed.
    #[error("`telemetry.log_level` is not a log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody has set one up before.
    #[error("the log is set up already: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Sets up the log of the whole process. Called once, before anything logs.
///
/// # Errors
/// [`LogError`] when the filter is malformed or a log exists.
pub(crate) fn init(config: &Telemetry) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.log_level)?)
        .with_writer(stderr);
    match config.log_format {
        LogFormat::Text => builder
            .with_ansi(stderr().is_terminal())
            .finish()
            .try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    Ok(EnvFilter::builder().parse(format!("{QUIET},{level}"))?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(buf)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(level).unwrap())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "sluicegate::server", "ours");
            tracing::info!(target: "pingora_core::server", "their-start");
            tracing::warn!(target: "pingora_core::listeners", "their-warning");
            tracing::warn!(target: "notify::inotify", "gone-with-its-folder");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn dependencies_speak_of_what_an_operator_can_act_on() {
        let out = logged("info");
        assert!(
            out.contains("ours") && out.contains("their-warning"),
            "{out}"
        );
        assert!(!out.contains("their-start"), "{out}");
        assert!(!out.contains("gone-with-its-folder"), "{out}");
    }

    #[test]
    fn the_config_may_let_pingora_say_more() {
        assert!(logged("info,pingora_core=info").contains("their-start"));
        assert!(logged("info,pingora=info").contains("their-start"));
    }

    #[test]
    fn a_malformed_filter_is_named() {
        let error = filter("info,=loud=").unwrap_err();
        assert!(error.to_string().contains("telemetry.log_level"), "{error}");
    }
}
