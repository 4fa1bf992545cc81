//! One process takes over from another on the same sockets.
//!
//! The old process starts the new one with a socket as its standard input, and sends the listening
//! sockets over it; the new one gets ready, says so, and waits for leave to accept. So a new
//! process that fails has touched no client, and at every moment one of the two accepts. What the two
//! say to each other, a line each: `ready`, answered by `go`; or `refused: WHY`.
//!
//! [`start`] is the old process's side, [`Predecessor`] the new one's.

mod handshake;
mod predecessor;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use self::handshake::{Line, Link};
pub(crate) use self::predecessor::Predecessor;
use super::listeners::Sockets;

/// Tells a process that its standard input is such a socket.
const VARIABLE: &str = "SLUICEGATE_TAKES_OVER";

/// What an upgrade starts.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

/// Why the old process goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error("`{}` cannot be started", path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("the sockets cannot be handed to the new process")]
    Sockets(#[source] io::Error),
    #[error("the new process cannot serve: {0}")]
    Refused(String),
    #[error("the new process ended before it was ready: {0}")]
    Ended(ExitStatus),
    #[error("the new process was not ready within {0:?}")]
    Late(Duration),
}

/// Starts the successor and waits until it is ready; then it accepts. Gives its process id.
///
/// # Errors
/// [`UpgradeError`]: nothing has changed, and no other process is left.
///
/// # Cancel safety
/// Dropping the future ends the new process.
pub(super) async fn start(
    program: &Program,
    sockets: &Sockets,
    limit: Duration,
) -> Result<u32, UpgradeError> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(UpgradeError::Sockets)?;
    let child = Command::new(&program.path)
        .args(&program.arguments)
        .env(VARIABLE, "1")
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .map_err(|source| UpgradeError::Start {
            path: program.path.clone(),
            source,
        })?;
    let mut candidate = Candidate { child: Some(child) };
    let mut link = Link::over(ours).map_err(UpgradeError::Sockets)?;
    match link.send_sockets(sockets.named()) {
        // It was quicker to end than this process to speak.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Err(UpgradeError::Ended(candidate.ended().await?));
        }
        sent => sent.map_err(UpgradeError::Sockets)?,
    }
    match timeout(limit, link.line()).await {
        Err(_) => {
            candidate.killed().await;
            Err(UpgradeError::Late(limit))
        }
        Ok(Some(Line::Ready)) => {
            // If it died just now, this fails, and its sockets are still ours.
            link.say(handshake::GO)
                .await
                .map_err(UpgradeError::Sockets)?;
            Ok(candidate.accepted())
        }
        Ok(Some(Line::Refused(why))) => Err(UpgradeError::Refused(why)),
        Ok(Some(Line::Go) | None) => Err(UpgradeError::Ended(candidate.ended().await?)),
    }
}

/// The new process, which dies with this value until it is accepted.
struct Candidate {
    child: Option<Child>,
}

impl Candidate {
    /// Lets it live on. Its id; 0 when it has just ended.
    fn accepted(&mut self) -> u32 {
        self.child.take().and_then(|child| child.id()).unwrap_or(0)
    }

    /// Ends it, and waits for that.
    async fn killed(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has ended already: just as well.
            let _ = child.kill().await;
        }
    }

    /// Makes sure that it has ended.
    async fn ended(&mut self) -> Result<ExitStatus, UpgradeError> {
        let Some(mut child) = self.child.take() else {
            return Ok(ExitStatus::default());
        };
        // It has closed its side, so it ends by itself or does not deserve to live.
        let by_itself = timeout(Duration::from_secs(1), child.wait()).await;
        let status = match by_itself {
            Ok(status) => status,
            Err(_) => {
                let _ = child.start_kill();
                child.wait().await
            }
        };
        status.map_err(UpgradeError::Sockets)
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nobody can wait here: the system reaps it after this process, which ends.
            let _ = child.start_kill();
        }
    }
}
