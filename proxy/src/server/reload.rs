//! Swaps the next snapshot in when it is whole, on file changes and on orders.
//!
//! One task does it, one candidate at a time: changes that come meanwhile are met by the next round.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::candidate::{Builder, Candidate, Kept};
use super::live::Live;
use crate::config::watch::Watcher;
use crate::config::{Loaded, Problems};
use crate::pipeline::Snapshot;

/// Reloads that may wait; more of them would find the same files.
const QUEUE: usize = 16;
/// What a config edit gets of time to settle, and a file that inotify is silent about at most waits.
const DEBOUNCE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_secs(10);

/// What the last rounds gave, for the admin API.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// The running config, without secrets.
    pub(super) config: serde_json::Value,
    /// Why the newest candidate was refused.
    pub(super) refused: Option<String>,
    /// Slots that keep an older plugin than their file holds.
    pub(super) kept: Vec<Kept>,
}

/// What a reload came to.
#[derive(Debug)]
pub(crate) struct Reloaded {
    /// The number of the running snapshot.
    pub(super) generation: u64,
    /// Slots that keep their old plugin.
    pub(super) kept: Vec<Kept>,
}

/// Asks for a reload.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    orders: mpsc::Sender<Order>,
    status: Arc<Mutex<Status>>,
}

struct Order {
    cause: &'static str,
    done: Option<oneshot::Sender<Result<Reloaded, Problems>>>,
}

impl Handle {
    /// Reloads and says what came of it. The round goes on when the future is dropped.
    ///
    /// # Errors
    /// Everything that is wrong with the candidate, or that the server stops.
    pub(crate) async fn reload(&self, cause: &'static str) -> Result<Reloaded, Problems> {
        let (done, outcome) = oneshot::channel();
        let order = Order {
            cause,
            done: Some(done),
        };
        let stopping = || Problems::nowhere(Path::new("reload"), "the server is stopping");
        self.orders.send(order).await.map_err(|_| stopping())?;
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Reads the status.
    pub(super) fn status<T>(&self, read: impl FnOnce(&Status) -> T) -> T {
        read(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Begins to watch a config's files. Before the plugins load, so that no change is missed.
pub(super) fn watch(loaded: &Loaded) -> (Watcher, mpsc::Receiver<()>) {
    Watcher::new(loaded.watched.clone(), DEBOUNCE, POLL)
}

/// Starts the task that reloads on file changes and on orders, until all handles are gone.
pub(super) fn start(
    builder: Builder,
    live: Arc<Live>,
    first: &Loaded,
    (watcher, changes): (Watcher, mpsc::Receiver<()>),
    control: &tokio::runtime::Handle,
) -> Handle {
    let (orders, inbox) = mpsc::channel(QUEUE);
    let status = Arc::new(Mutex::new(Status {
        config: first.redacted.clone(),
        ..Status::default()
    }));
    let reloader = Reloader {
        builder,
        live,
        watcher,
        watched: first.watched.clone(),
        status: Arc::clone(&status),
    };
    control.spawn(reloader.run(inbox, changes));
    Handle { orders, status }
}

struct Reloader {
    builder: Builder,
    live: Arc<Live>,
    watcher: Watcher,
    /// Files of the running config.
    watched: Vec<PathBuf>,
    status: Arc<Mutex<Status>>,
}

impl Reloader {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>, mut changes: mpsc::Receiver<()>) {
        loop {
            let order = tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => order,
                    None => return,
                },
                Some(()) = changes.recv() => Order { cause: "file change", done: None },
                () = self.builder.host.compiled() => Order { cause: "plugin compiled", done: None },
            };
            let outcome = self.round(order.cause).await;
            if let Some(done) = order.done {
                // Whoever ordered it may have left.
                let _ = done.send(outcome);
            }
        }
    }

    /// One candidate: swapped in, or refused with everything that is wrong.
    async fn round(&mut self, cause: &'static str) -> Result<Reloaded, Problems> {
        let running = self.live.snapshot();
        let outcome = self.candidate(&running).await;
        match outcome {
            Ok(candidate) => {
                let is_whole = candidate.kept.iter().all(|kept| kept.is_pending);
                let result = if is_whole { "ok" } else { "partial" };
                let reloaded = self.accept(cause, candidate, &running);
                // Whoever has seen the count finds the status changed.
                self.count(result);
                Ok(reloaded)
            }
            Err(refused) => {
                let message = refused.to_string();
                tracing::error!(cause, "reload refused, nothing changed:\n{message}");
                // The candidate's files as well as the running ones may bring the next good state.
                let files = self.watched.iter().chain(refused.files());
                self.watcher.set_paths(files.cloned().collect());
                self.note(|status| status.refused = Some(message));
                self.count("refused");
                Err(refused)
            }
        }
    }

    /// The next candidate. Its files are watched before its plugins load, so that no change that
    /// comes meanwhile is missed.
    async fn candidate(&self, running: &Snapshot) -> Result<Candidate, Problems> {
        let loaded = self.builder.load(running)?;
        let files = self.watched.iter().chain(&loaded.watched);
        self.watcher.set_paths(files.cloned().collect());
        self.builder.build(loaded, Some(running)).await
    }

    fn accept(
        &mut self,
        cause: &'static str,
        candidate: Candidate,
        running: &Snapshot,
    ) -> Reloaded {
        let Candidate {
            snapshot,
            loaded,
            kept,
            changed,
        } = candidate;
        log_kept(cause, &kept);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.watched.clone_from(&loaded.watched);
        self.watcher.set_paths(loaded.watched.clone());
        let generation = match changed {
            true => self.swap(cause, snapshot),
            false => running.generation,
        };
        self.note(|status| {
            status.refused = None;
            status.config = loaded.redacted.clone();
            status.kept.clone_from(&kept);
        });
        Reloaded { generation, kept }
    }

    fn swap(&self, cause: &'static str, snapshot: Snapshot) -> u64 {
        let generation = snapshot.generation;
        self.builder
            .registry
            .supervise(&snapshot.pools, &snapshot.config);
        self.builder.adopt(&snapshot);
        self.live.swap(snapshot);
        // Whoever has seen this number is served by this snapshot.
        let gauge = &self.live.shared().metrics.config_generation;
        gauge.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.builder.forget_gone(&self.live.snapshot());
        tracing::info!(generation, cause, "reloaded");
        generation
    }

    fn count(&self, result: &str) {
        let reloads = &self.live.shared().metrics.reloads;
        reloads.with_label_values(&[result]).inc();
    }

    fn note(&self, write: impl FnOnce(&mut Status)) {
        write(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn log_kept(cause: &'static str, kept: &[Kept]) {
    for kept in kept {
        let slot = &kept.slot;
        for problem in &kept.problems {
            if kept.is_pending {
                tracing::info!(%slot, cause, "the slot keeps its plugin for now: {problem}");
            } else {
                tracing::error!(
                    %slot,
                    cause,
                    "plugin candidate refused, the old one goes on: {problem}"
                );
            }
        }
    }
}
