//! The process whose sockets this one takes over.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::VARIABLE;
use super::handshake::{self, Link};

/// The old process sends the sockets at once.
const SENT_WITHIN: Duration = Duration::from_secs(10);

/// The old process, seen from the new one.
pub(crate) struct Predecessor {
    link: UnixStream,
    sockets: Vec<(String, TcpListener)>,
}

impl Predecessor {
    /// The process that started this one for an upgrade, if one did.
    ///
    /// # Errors
    /// When it did not send its sockets.
    pub(crate) fn from_environment() -> io::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        link.set_read_timeout(Some(SENT_WITHIN))?;
        let sockets = handshake::receive_sockets(&link)?;
        Ok(Some(Self { link, sockets }))
    }

    /// The socket of this name, when it is one for `address`. Port 0 stands for any.
    pub(crate) fn socket(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let fits = |(known, socket): &(String, TcpListener)| {
            known == name
                && socket.local_addr().is_ok_and(|bound| {
                    bound.ip() == address.ip()
                        && (address.port() == 0 || bound.port() == address.port())
                })
        };
        let index = self.sockets.iter().position(fits)?;
        let (_, socket) = self.sockets.swap_remove(index);
        socket.set_nonblocking(true).ok()?;
        Some(socket)
    }

    /// Says that this process can serve, and waits until the old one has let go. An old process
    /// that died meanwhile has let go, too.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn succeed(self) -> io::Result<()> {
        let mut link = Link::over(self.link)?;
        // Fails when it has died.
        let _ = link.say(handshake::READY).await;
        let _ = link.line().await;
        Ok(())
    }

    /// Says why this process cannot serve.
    pub(crate) fn refuse(mut self, why: &str) {
        // Nobody may be left who could be told.
        let _ = self.link.write_all(handshake::refused(why).as_bytes());
    }
}
