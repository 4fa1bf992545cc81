//! The worker threads: each has a runtime of its own, accepts on the shared sockets, and keeps the
//! connections that it accepted. Nothing moves between them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::listening::Service;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::StartError;
use crate::config::TlsFiles;

/// Bytes read at once. Each connection keeps such a buffer.
const READ_BUFFER: usize = 16 * 1024;
/// An answer's head and a plain body leave in one write up to this size.
const WRITE_BUFFER: usize = 16 * 1024;

/// A thread that runs one listener's application.
pub(super) struct Worker {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Where tasks of this worker are spawned.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits for the thread's end, which follows the shutdown signal and the last connection.
    pub(super) fn join(self) {
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

/// Starts a worker that accepts on `listener` until `shutdown`, and then for as long as `linger`
/// has its sender.
///
/// # Errors
/// [`StartError::Worker`] when the thread or its runtime cannot be made, [`StartError::Tls`].
pub(super) fn start<A>(
    name: String,
    listener: &TcpListener,
    tls: Option<&TlsFiles>,
    app: A,
    shutdown: ShutdownWatch,
    released: oneshot::Receiver<()>,
) -> Result<Worker, StartError>
where
    A: ServerApp + Send + Sync + 'static,
{
    let failed = |source| StartError::Worker { source };
    let address = listener.local_addr().map_err(failed)?.to_string();
    let socket = listener.try_clone().map_err(failed)?;
    let mut config = ListenerConfig::tcp(address.clone())
        .l4_buffer(L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER));
    if let Some(files) = tls {
        config = config.tls(tls_settings(files)?);
    }
    let mut service = Service::new(name.clone(), app);
    service.add_listener(config);
    let mut fds = Fds::new();
    fds.add(address, socket.into_raw_fd());
    let fds: ListenFds = Arc::new(Mutex::new(fds));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            runtime.block_on(async move {
                pingora::services::Service::start_service(&mut service, Some(fds), shutdown, 1)
                    .await;
                // Requests in flight go on until the server says so.
                let _ = released.await;
            });
        })
        .map_err(failed)?;
    Ok(Worker { handle, thread })
}

/// TLS with ALPN for h2 and h1. The files have been checked with the config: pingora panics on bad
/// ones.
fn tls_settings(files: &TlsFiles) -> Result<TlsSettings, StartError> {
    let failed = |_| StartError::Tls {
        path: files.cert_file.clone(),
    };
    let cert = files.cert_file.to_string_lossy();
    let key = files.key_file.to_string_lossy();
    let mut settings = TlsSettings::intermediate(&cert, &key).map_err(failed)?;
    settings.enable_h2();
    Ok(settings)
}
