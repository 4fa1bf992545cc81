//! What is measured: nothing in between, nginx, and Sluicegate under several configs.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::cpu;

/// How long one may take to listen.
const START: Duration = Duration::from_secs(30);
/// The core that what is measured has for itself.
const CORE: &str = "0";

/// One way from the clients to the backend.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    /// None: there is nothing in between.
    child: Option<Child>,
    pub(super) folder: TempDir,
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Subject {
    /// The backend itself.
    ///
    /// # Errors
    /// When there is no folder for temporary files.
    pub(super) fn direct(backend: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            name: "direct",
            address: backend,
            child: None,
            folder: tempfile::tempdir()?,
        })
    }

    /// nginx with kept connections to the backend, one worker, no access log.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn nginx(backend: SocketAddr) -> io::Result<Self> {
        let (folder, address) = (tempfile::tempdir()?, free_port()?);
        let config = folder.path().join("nginx.conf");
        fs::write(&config, nginx_config(folder.path(), address, backend))?;
        let mut command = pinned("nginx");
        command.arg("-c").arg(config).arg("-p").arg(folder.path());
        Self::start("nginx", command, address, folder)
    }

    /// Sluicegate with one worker; `config` stands behind the listeners and the pool.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn sluicegate(name: &'static str, binary: &Path, config: &str) -> io::Result<Self> {
        let (folder, address) = (tempfile::tempdir()?, free_port()?);
        let cache = folder.path().display().to_string();
        let path = folder.path().join("sluicegate.toml");
        let config = config.replace("LISTEN", &address.to_string());
        fs::write(&path, config.replace("FOLDER", &cache))?;
        let mut command = pinned(&binary.display().to_string());
        command.arg("serve").arg("-c").arg(path);
        Self::start(name, command, address, folder)
    }

    fn start(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        folder: TempDir,
    ) -> io::Result<Self> {
        let output = fs::File::create(folder.path().join("output"))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let subject = Self {
            name,
            address,
            child: Some(command.spawn()?),
            folder,
        };
        let until = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > until {
                return Err(io::Error::other(format!(
                    "{name} does not listen: {}",
                    subject.output()
                )));
            }
            pause();
        }
        Ok(subject)
    }

    /// What it has printed.
    pub(super) fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    /// CPU time so far; zero where there is nothing in between.
    pub(super) fn cpu(&self) -> Duration {
        self.child
            .as_ref()
            .map_or(Duration::ZERO, |child| cpu::time(child.id()))
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> u64 {
        self.child
            .as_ref()
            .map_or(0, |child| cpu::resident(child.id()))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a foreign program has no event for this"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// `taskset` becomes the program, so the process id is that of the program.
fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(CORE).arg(program);
    command
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn nginx_config(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 64m; client_body_buffer_size 2m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream backend {{ server {backend}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{ listen {listen} backlog=4096; location / {{
    proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
  }} }}
}}"
    )
}

/// A config of Sluicegate, but for its port and folder.
pub(super) fn config(backends: &[SocketAddr], plugins: bool, cache: bool, more: &str) -> String {
    let backends: Vec<String> = backends
        .iter()
        .map(|address| format!("{{ url = \"http://{address}\" }}"))
        .collect();
    let pipeline = match plugins {
        true => "[pipeline]\ncompile_cache = \"FOLDER/compiled\"\n",
        false => "[pipeline]\nclassify = []\ncompress = []\ncache_policy = { enabled = false }\n",
    };
    format!(
        "[server]\nlisten = \"LISTEN\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"open\"\n\
         [telemetry]\nlog_level = \"warn\"\n[cache]\nenabled = {cache}\n\
         [[pools]]\nname = \"main\"\nmodels = [\"m\"]\nbackends = [{}]\n\
         {more}\n[[routes]]\nname = \"last\"\npool = \"main\"\ncompress = {plugins}\n{pipeline}",
        backends.join(", ")
    )
}
