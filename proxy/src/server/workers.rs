//! The worker threads: each has a runtime of its own, accepts on the shared sockets, and keeps the
//! connections that it accepted. Nothing moves between them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::accept;
use super::connection::{Application, Listener};
use super::phase;

/// A thread that runs one listener's application.
pub(super) struct Worker {
    handle: Handle,
    thread: JoinHandle<()>,
    /// The last connection has ended.
    drained: oneshot::Receiver<()>,
    /// Dropped when the thread may end even if connections are left.
    release: oneshot::Sender<()>,
}

impl Worker {
    /// Where tasks of this worker are spawned.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the listener is closed and the last connection has ended.
    pub(super) async fn drained(&mut self) {
        if !self.drained.is_terminated() {
            // A panicked worker has nothing left either.
            let _ = (&mut self.drained).await;
        }
    }

    /// Ends the thread with whatever connections are left.
    pub(super) fn join(self) {
        drop(self.release);
        // A panicked worker has been reported by the panic hook.
        let _ = self.thread.join();
    }
}

/// Binds a socket that workers share.
///
/// # Errors
/// What the system says.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts a worker that accepts on `socket` as the phase says.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub(super) fn start<A: Application>(
    name: String,
    socket: &TcpListener,
    listener: Arc<Listener<A>>,
    phase: phase::Watch,
) -> io::Result<Worker> {
    let socket = socket.try_clone()?;
    let (release, released) = oneshot::channel();
    let (done, drained) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let socket = {
        let _inside = handle.enter();
        tokio::net::TcpListener::from_std(socket)?
    };
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        runtime.block_on(async move {
            tokio::select! {
                () = accept::run(socket, listener, phase) => {
                    // The server may not wait any more.
                    let _ = done.send(());
                }
                _ = released => {}
            }
        });
    })?;
    Ok(Worker {
        handle,
        thread,
        drained,
        release,
    })
}
