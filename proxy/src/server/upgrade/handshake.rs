//! What the two processes say to each other, and how sockets go over.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Sockets that go over at once, at most.
const MAX_SOCKETS: usize = 8;
/// Longest line that is read: a refused config may have many faults.
const MAX_LINE: u64 = 64 * 1024;
/// Before the reasons of a refusal.
const REFUSED: &str = "refused: ";

/// Says that the new process could serve.
pub(super) const READY: &str = "ready\n";
/// Says that the old process lets go.
pub(super) const GO: &str = "go\n";

/// One line, as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Ready,
    Go,
    /// The new process cannot serve, and ends.
    Refused(String),
}

/// Says why the new process cannot serve; in one line, because a line is what is read.
pub(super) fn refused(why: &str) -> String {
    format!("{REFUSED}{}\n", why.replace('\n', "\u{1}"))
}

/// One side of the socket between the processes.
pub(super) struct Link(BufReader<UnixStream>);

impl Link {
    /// Takes over a socket.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn over(socket: std::os::unix::net::UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self(BufReader::new(UnixStream::from_std(socket)?)))
    }

    /// Sends sockets and their names, before anything else.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn send_sockets<'s>(
        &self,
        sockets: impl Iterator<Item = (&'static str, &'s TcpListener)>,
    ) -> io::Result<()> {
        let (names, files): (Vec<_>, Vec<BorrowedFd<'_>>) =
            sockets.map(|(name, socket)| (name, socket.as_fd())).unzip();
        let names = names.join(" ") + "\n";
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("too many sockets"));
        }
        let text = [IoSlice::new(names.as_bytes())];
        sendmsg(self.0.get_ref(), &text, &mut rights, SendFlags::empty())?;
        Ok(())
    }

    /// The next line; none at the end, and for what no line is.
    pub(super) async fn line(&mut self) -> Option<Line> {
        let mut text = String::new();
        let mut bounded = (&mut self.0).take(MAX_LINE);
        bounded.read_line(&mut text).await.ok()?;
        match text.as_str() {
            READY => Some(Line::Ready),
            GO => Some(Line::Go),
            other => {
                let why = other.strip_prefix(REFUSED)?.trim_end();
                Some(Line::Refused(why.replace('\u{1}', "\n")))
            }
        }
    }

    /// Says a line.
    ///
    /// # Errors
    /// When the other side has gone.
    pub(super) async fn say(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(line.as_bytes()).await
    }
}

/// Receives what [`Link::send_sockets`] sent.
///
/// # Errors
/// What the system says, or that it is something else.
pub(super) fn receive_sockets(
    link: &std::os::unix::net::UnixStream,
) -> io::Result<Vec<(String, TcpListener)>> {
    let mut text = [0; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        link,
        &mut [IoSliceMut::new(&mut text)],
        &mut rights,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let files: Vec<OwnedFd> = rights
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    let names = text.get(..received.bytes).unwrap_or_default();
    let names = std::str::from_utf8(names).map_err(io::Error::other)?;
    let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    if names.len() != files.len() {
        return Err(io::Error::other("sockets without names"));
    }
    let sockets = files.into_iter().map(TcpListener::from);
    Ok(names.into_iter().zip(sockets).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_and_lines_go_over() {
        let (old, new) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut old = Link::over(old).unwrap();
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        old.send_sockets([("data", &one), ("admin", &two)].into_iter())
            .unwrap();
        let sockets = receive_sockets(&new).unwrap();
        let addresses: Vec<_> = sockets
            .iter()
            .map(|(name, socket)| (name.as_str(), socket.local_addr().unwrap()))
            .collect();
        let expected = [
            ("data", one.local_addr().unwrap()),
            ("admin", two.local_addr().unwrap()),
        ];
        assert_eq!(addresses, expected);

        let mut new = Link::over(new).unwrap();
        let said = [refused("two\nlines"), READY.to_owned(), GO.to_owned()];
        let read = [
            Line::Refused("two\nlines".to_owned()),
            Line::Ready,
            Line::Go,
        ];
        for (said, read) in said.iter().zip(read) {
            new.say(said).await.unwrap();
            assert_eq!(old.line().await, Some(read));
        }
        drop(new);
        assert_eq!(old.line().await, None);
    }
}
