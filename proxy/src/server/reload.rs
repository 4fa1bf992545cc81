//! Swaps the next snapshot in when it is whole, on file changes and on orders.
//!
//! One task does it, one candidate at a time: changes that come meanwhile are met by the next round.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::candidate::{Builder, Candidate, Refused};
use super::live::Live;
use crate::config::Loaded;
use crate::config::watch::Watcher;
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
}

/// Asks for a reload.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    orders: mpsc::Sender<Order>,
    status: Arc<Mutex<Status>>,
}

struct Order {
    cause: &'static str,
    done: Option<oneshot::Sender<Result<u64, Refused>>>,
}

impl Handle {
    /// Reloads and says what came of it. The round goes on when the future is dropped.
    ///
    /// # Errors
    /// [`Refused`] when the candidate is bad, or the server stops.
    pub(crate) async fn reload(&self, cause: &'static str) -> Result<u64, Refused> {
        let (done, outcome) = oneshot::channel();
        let order = Order {
            cause,
            done: Some(done),
        };
        let stopping = |_| Refused {
            message: "the server is stopping".to_owned(),
            problems: Vec::new(),
            files: Vec::new(),
        };
        self.orders
            .send(order)
            .await
            .map_err(|error| stopping(error.to_string()))?;
        match outcome.await {
            Ok(outcome) => outcome,
            Err(error) => Err(stopping(error.to_string())),
        }
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
    async fn round(&mut self, cause: &'static str) -> Result<u64, Refused> {
        let running = self.live.snapshot();
        let outcome = self.builder.build(Some(&running)).await;
        let reloads = &self.live.shared().metrics.reloads;
        match outcome {
            Ok(candidate) => {
                let bad = candidate.kept.len();
                let result = if bad == 0 { "ok" } else { "partial" };
                reloads.with_label_values(&[result]).inc();
                Ok(self.accept(cause, candidate, &running))
            }
            Err(refused) => {
                reloads.with_label_values(&["refused"]).inc();
                tracing::error!(
                    cause,
                    "reload refused, nothing changed:\n{}",
                    refused.message
                );
                // The candidate's files as well as the running ones may bring the next good state.
                let files = self.watched.iter().chain(&refused.files).cloned().collect();
                self.watcher.set_paths(files);
                self.note(|status| status.refused = Some(refused.message.clone()));
                Err(refused)
            }
        }
    }

    fn accept(&mut self, cause: &'static str, candidate: Candidate, running: &Snapshot) -> u64 {
        let Candidate {
            snapshot,
            loaded,
            kept,
            changed,
        } = candidate;
        for (slot, problem) in &kept {
            tracing::error!(
                slot,
                cause,
                "plugin candidate refused, the old one goes on: {problem}"
            );
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        self.watched.clone_from(&loaded.watched);
        self.watcher.set_paths(loaded.watched.clone());
        self.note(|status| {
            status.refused = None;
            status.config = loaded.redacted.clone();
        });
        if !changed {
            return running.generation;
        }
        let generation = snapshot.generation;
        self.builder
            .registry
            .supervise(&snapshot.pools, &snapshot.config);
        let shared = self.live.shared();
        shared
            .metrics
            .config_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.live.swap(snapshot);
        tracing::info!(generation, cause, "reloaded");
        generation
    }

    fn note(&self, write: impl FnOnce(&mut Status)) {
        write(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
