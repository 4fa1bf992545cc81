//! The real binary as a child process.
//!
//! Invariants: addresses come from the line that the binary prints, never from guesses; the process
//! is killed when its [`Proxy`] goes; its output is printed when the test that owns it fails.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::Certificate;
use crate::{Answer, Client, Config, H2Client, Metrics, Request, eventually, eventually_within};

/// In the config's folder.
const CONFIG_FILE: &str = "sluicegate.toml";
/// In the config's folder.
const PID_FILE: &str = "sluicegate.pid";

/// How many of the last output lines a failing test prints.
const SHOWN_LINES: usize = 400;

/// The target folder that this test executable was built into.
///
/// # Panics
/// When the executable is not inside of one.
pub(crate) fn target_dir() -> PathBuf {
    profile_dir()
        .parent()
        .expect("a profile's folder is inside of target")
        .to_owned()
}

fn profile_dir() -> PathBuf {
    let executable = std::env::current_exe().expect("this executable has a path");
    let deps = executable.parent().expect("it is in a folder");
    match deps.file_name() {
        Some(name) if name == "deps" => deps.parent().expect("deps has a parent").to_owned(),
        _ => deps.to_owned(),
    }
}

/// The binary under test: `SLUICEGATE_BIN`, else the one beside the test's own profile.
fn binary() -> PathBuf {
    let path = std::env::var_os("SLUICEGATE_BIN")
        .map_or_else(|| profile_dir().join("sluicegate"), PathBuf::from);
    assert!(
        path.is_file(),
        "no binary at {}: run `cargo build -p sluicegate`, or set SLUICEGATE_BIN",
        path.display()
    );
    path
}

fn command() -> Command {
    let mut command = Command::new(binary());
    // The developer's own settings must not reach the binary.
    for name in ["HOST", "PORT", "WORKERS", "CACHE_SIZE", "CACHE_TTL"] {
        command.env_remove(format!("SLUICEGATE_{name}"));
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command line that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Finished {
    /// Both outputs.
    #[must_use]
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs the binary to its end.
///
/// # Panics
/// When it cannot be started, or prints what is not UTF-8.
pub fn run(arguments: &[&dyn AsRef<OsStr>], environment: &[(&str, &str)]) -> Finished {
    let mut command = command();
    command.args(arguments.iter().map(|argument| argument.as_ref()));
    command.envs(environment.iter().copied());
    let output = command.output().expect("the binary starts");
    Finished {
        status: output.status,
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs `serve` with a config that it must refuse, and gives what it said.
///
/// # Panics
/// When it starts all the same.
#[must_use]
pub fn start_refused(config: &Config) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluicegate.toml");
    std::fs::write(&path, config.to_toml()).unwrap();
    let mut child = command()
        .arg("serve")
        .arg("--config")
        .arg(&path)
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            panic!(
                "the binary serves a config that it must refuse:\n{}",
                config.to_toml()
            );
        }
        std::thread::yield_now();
    }
    let output = child.wait_with_output().unwrap();
    assert!(
        !output.status.success(),
        "a refused config must not end in success"
    );
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// What `/admin/plugins` says of one slot.
#[derive(Debug, Clone)]
pub struct Plugin(pub Value);

impl Plugin {
    /// A field as text; empty when it is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// The number of the running candidate.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0["generation"]
            .as_u64()
            .unwrap_or_else(|| panic!("a generation in {}", self.0))
    }
}

/// A running proxy.
pub struct Proxy {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    output: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
    data: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    /// Starts the binary and awaits that it is ready.
    ///
    /// # Panics
    /// When it does not come up: with its output.
    pub async fn start(config: &Config) -> Self {
        Self::start_with(config, &[]).await
    }

    /// [`Proxy::start`] with environment variables.
    ///
    /// # Panics
    /// When it does not come up: with its output.
    pub async fn start_with(config: &Config, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, config, environment).await
    }

    /// [`Proxy::start_with`], with the config in a folder that already holds other files.
    ///
    /// # Panics
    /// When it does not come up: with its output.
    pub async fn start_in(
        folder: tempfile::TempDir,
        config: &Config,
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_toml(folder, &config.to_toml(), environment).await
    }

    /// [`Proxy::start_in`], with a config as text.
    ///
    /// # Panics
    /// When it does not come up: with its output.
    pub async fn start_toml(
        folder: tempfile::TempDir,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_told(folder, config, environment, &[]).await
    }

    /// [`Proxy::start_toml`] with more arguments.
    ///
    /// # Panics
    /// When it does not come up: with its output.
    pub async fn start_told(
        folder: tempfile::TempDir,
        config: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        let file = |name: &str| folder.path().join(name).display().to_string();
        let path = file(CONFIG_FILE);
        std::fs::write(&path, config).unwrap();
        let pid_file = file(PID_FILE);
        let own = ["serve", "--config", &path, "--pid-file", &pid_file];
        let line: Vec<&str> = own.iter().chain(arguments).copied().collect();
        Self::start_line(folder, &line, environment).await
    }

    /// Starts the binary with a whole command line. Its config and its pid file, where it has one,
    /// are `sluicegate.toml` and `sluicegate.pid` in the folder.
    ///
    /// # Panics
    /// When it does not come up: with its output.
    pub async fn start_line(
        folder: tempfile::TempDir,
        line: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = command();
        command.args(line).envs(environment.iter().copied());
        let mut child = command.spawn().expect("the binary starts");
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            collect(child.stdout.take().expect("piped"), Arc::clone(&output)),
            collect(child.stderr.take().expect("piped"), Arc::clone(&output)),
        ];
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self {
            child,
            readers,
            output,
            folder,
            data: nowhere,
            admin: nowhere,
        };
        proxy.await_listening().await;
        proxy.await_ready().await;
        proxy
    }

    async fn await_listening(&mut self) {
        let limit = Duration::from_secs(60);
        (self.data, self.admin) = eventually_within(limit, "the binary listens", || {
            let told = self
                .output
                .lock()
                .unwrap()
                .iter()
                .find_map(|line| addresses(line));
            let exit = self.child.try_wait().unwrap();
            assert!(
                told.is_some() || exit.is_none(),
                "the binary ended: {exit:?}"
            );
            std::future::ready(told.ok_or("no addresses"))
        })
        .await;
    }

    async fn await_ready(&self) {
        eventually("the proxy is ready", async || {
            let answer = self.admin_get("/readyz").await;
            if answer.status == 200 {
                Ok(())
            } else {
                Err((answer.status, answer.body))
            }
        })
        .await;
    }

    /// The data listener.
    #[must_use]
    pub fn data(&self) -> SocketAddr {
        self.data
    }

    /// The admin listener.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The folder of the config file.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The config file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("sluicegate.toml")
    }

    /// A new connection to the data listener.
    pub async fn client(&self) -> Client {
        Client::connect(self.data).await
    }

    /// A new connection to the data listener, over TLS.
    pub async fn tls_client(&self, certificate: &Certificate) -> Client {
        Client::connect_tls(self.data, certificate).await
    }

    /// A new HTTP/2 connection to the data listener.
    pub async fn h2_client(&self) -> H2Client {
        H2Client::connect(self.data).await
    }

    /// Sends one request to the data listener on a connection of its own.
    pub async fn send(&self, request: &Request) -> Answer {
        self.client().await.send(request).await
    }

    /// Sends one request to the admin listener, with its own address as `Host`.
    pub async fn admin_send(&self, request: Request) -> Answer {
        let request = request.header("host", &self.admin.to_string());
        Client::connect(self.admin).await.send(&request).await
    }

    /// Reads from the admin listener.
    pub async fn admin_get(&self, path: &str) -> Answer {
        self.admin_send(Request::get(path)).await
    }

    /// The number of the running snapshot.
    ///
    /// # Panics
    /// When `/admin/config` does not say.
    pub async fn generation(&self) -> u64 {
        let config = self
            .admin_get("/admin/config")
            .await
            .expect_status(200)
            .json();
        config["generation"]
            .as_u64()
            .unwrap_or_else(|| panic!("a generation in {config}"))
    }

    /// All plugin slots.
    ///
    /// # Panics
    /// When `/admin/plugins` does not list them.
    pub async fn plugins(&self) -> Vec<Plugin> {
        let plugins = self
            .admin_get("/admin/plugins")
            .await
            .expect_status(200)
            .json();
        let list = plugins["plugins"].as_array();
        list.unwrap_or_else(|| panic!("a list in {plugins}"))
            .iter()
            .cloned()
            .map(Plugin)
            .collect()
    }

    /// One plugin slot.
    ///
    /// # Panics
    /// When there is none of this name.
    pub async fn plugin(&self, slot: &str) -> Plugin {
        let plugins = self.plugins().await;
        let found = plugins
            .iter()
            .find(|plugin| plugin.text("slot") == slot)
            .cloned();
        found.unwrap_or_else(|| panic!("no slot {slot} in {plugins:?}"))
    }

    /// All metrics.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(self.admin_get("/metrics").await.expect_status(200).text())
    }

    /// Puts a file into the config's folder as careful editors do: written beside, then renamed.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn put_file(&self, name: &str, bytes: &[u8]) {
        let beside = self.folder.path().join(format!(".{name}.new"));
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(&beside, self.folder.path().join(name)).unwrap();
    }

    /// Writes a new config, and awaits nothing.
    pub fn put_config(&self, config: &Config) {
        self.put_file("sluicegate.toml", config.to_toml().as_bytes());
    }

    /// Writes a new config and awaits the generation that runs it.
    pub async fn reload_and_wait(&self, config: &Config) -> u64 {
        let before = self.generation().await;
        self.put_config(config);
        self.await_generation_after(before).await
    }

    /// Awaits a newer generation than this one.
    pub async fn await_generation_after(&self, before: u64) -> u64 {
        eventually("the next generation runs", async || {
            let now = self.generation().await;
            if now > before { Ok(now) } else { Err(now) }
        })
        .await
    }

    /// Awaits that a slot runs the component with this SHA-256, in hex.
    pub async fn await_component(&self, slot: &str, sha256: &str) -> Plugin {
        eventually("the slot runs the component", async || {
            let plugin = self.plugin(slot).await;
            if plugin.text("sha256") == sha256 {
                Ok(plugin)
            } else {
                Err(plugin)
            }
        })
        .await
    }

    /// Configs and plugin candidates refused so far.
    pub async fn refused_reloads(&self) -> f64 {
        let metrics = self.metrics().await;
        metrics.sum("sluicegate_reloads_total", &[("result", "refused")])
            + metrics.sum("sluicegate_plugin_refused_total", &[])
    }

    /// Awaits that every in-flight gauge is at zero.
    pub async fn await_idle(&self) {
        eventually("every in-flight gauge is back at zero", async || {
            let metrics = self.metrics().await;
            let busy = metrics.sum("sluicegate_upstream_in_flight", &[])
                + metrics.sum("sluicegate_requests_in_flight", &[]);
            if busy == 0.0 {
                Ok(())
            } else {
                Err(metrics.lines("sluicegate_"))
            }
        })
        .await;
    }

    /// All output lines so far.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// All warnings and errors in the log so far.
    #[must_use]
    pub fn severe_lines(&self) -> Vec<String> {
        let is_severe = |line: &String| {
            line.contains(r#""level":"ERROR""#) || line.contains(r#""level":"WARN""#)
        };
        self.output().into_iter().filter(is_severe).collect()
    }

    /// Awaits an output line that contains this text.
    pub async fn await_line(&self, text: &str) -> String {
        eventually(&format!("the log says {text:?}"), async || {
            let lines = self.output();
            lines
                .iter()
                .find(|line| line.contains(text))
                .cloned()
                .ok_or(lines)
        })
        .await
    }

    /// Awaits the access-log line of a request.
    pub async fn access_line(&self, request_id: &str) -> Value {
        eventually(&format!("the access log has {request_id}"), async || {
            let lines = self.output();
            access_line(&lines, request_id).ok_or(lines)
        })
        .await
    }

    /// How many access-log lines a request has.
    #[must_use]
    pub fn access_lines(&self, request_id: &str) -> usize {
        self.output()
            .iter()
            .filter(|line| access_of(line, request_id).is_some())
            .count()
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The pid file.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.folder.path().join(PID_FILE)
    }

    /// The process in the pid file.
    #[must_use]
    pub fn serving_id(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.pid_file()).ok()?;
        text.trim().parse().ok()
    }

    /// Awaits that another process has taken over.
    pub async fn successor(&self) -> u32 {
        eventually("another process has taken over", async || {
            let serving = self.serving_id();
            serving.filter(|id| *id != self.id()).ok_or(serving)
        })
        .await
    }

    /// Sends a signal by its name in [`rustix::process::Signal`].
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .expect("the proxy runs");
    }

    /// Awaits the end of the process.
    pub async fn exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let mut look = || child.try_wait().unwrap().ok_or("it still runs");
        eventually("the proxy ends", || std::future::ready(look())).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // One that has taken over, and one that was about to, are nobody's children here, and hold
        // the pipes open.
        let mut others = children(self.id());
        if let Some(serving) = self.serving_id().filter(|id| *id != self.id()) {
            others.extend(children(serving));
            others.push(serving);
        }
        for id in others {
            let id = i32::try_from(id)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            let id = id.expect("a process id");
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            let lines = self.output.lock().unwrap();
            eprintln!("--- the proxy's output ---");
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES)) {
                eprintln!("{line}");
            }
        }
    }
}

/// The processes that a process has started and that run still.
fn children(id: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let ids: Vec<_> = list.split_whitespace().map(str::parse).collect();
            ids.into_iter().flatten()
        })
        .collect()
}

/// Collects the lines of a pipe until it closes.
fn collect(pipe: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            lines.lock().unwrap().push(line);
        }
    })
}

/// Both addresses of the line that says where the binary listens.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let rest = line.split("listening ").nth(1)?;
    let value = |name: &str| {
        rest.split([' ', '"'])
            .find_map(|word| word.strip_prefix(name)?.parse().ok())
    };
    Some((value("data=")?, value("admin=")?))
}

fn access_line(lines: &[String], request_id: &str) -> Option<Value> {
    lines.iter().find_map(|line| access_of(line, request_id))
}

/// The access record in a log line, if it is one of this request.
fn access_of(line: &str, request_id: &str) -> Option<Value> {
    let record: Value = serde_json::from_str(line).ok()?;
    let candidates = [&record["fields"], &record];
    let found = candidates
        .into_iter()
        .find(|fields| fields["request_id"] == request_id && !fields["outcome"].is_null());
    found.cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_line_gives_both_addresses() {
        let line = "sluicegate listening data=127.0.0.1:4000 admin=127.0.0.1:4001";
        let (data, admin) = addresses(line).unwrap();
        assert_eq!((data.port(), admin.port()), (4000, 4001));
        assert!(addresses("something else").is_none());
    }
}
