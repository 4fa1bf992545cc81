//! Why a task ended early, and the exit code that says so.

use std::fmt;
use std::io;

/// Why a task ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The command line asks for something that is not there.
    Usage(String),
    /// The machine lacks something that xtask may not or cannot install; the text names the command.
    Setup(String),
    /// A command could not be started.
    Start {
        /// As printed before it was run.
        command: String,
        source: io::Error,
    },
    /// A command ran and failed.
    Failed {
        /// As printed before it was run.
        command: String,
        /// Its own exit code; none when a signal ended it.
        code: Option<i32>,
    },
    /// A test failed, or the one that was asked for is not there; the counts are printed already.
    Tests,
}

impl Stop {
    /// 2 where the person at the keyboard has to do something first, else what the command said.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Setup(_) => 2,
            Self::Start { .. } | Self::Tests => 1,
            Self::Failed { code, .. } => code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Setup(text) => f.write_str(text),
            Self::Start { command, source } => write!(f, "cannot start `{command}`: {source}"),
            Self::Failed {
                command,
                code: Some(code),
            } => {
                write!(f, "`{command}` ended with exit code {code}")
            }
            Self::Failed {
                command,
                code: None,
            } => {
                write!(f, "`{command}` was ended by a signal")
            }
            Self::Tests => f.write_str("tests failed, or were not found"),
        }
    }
}
