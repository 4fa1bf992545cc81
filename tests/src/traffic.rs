//! Plain traffic beside whatever a test does: it checks every answer, and counts by label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use crate::{Backend, Client, Proxy, ask, ask_streaming, ends_with_done, eventually, text_of};

/// Clients that ask, streamed and plain in turn, each on one connection, until they are stopped.
///
/// They pace themselves by the backend: give it a delay.
pub struct Traffic {
    seen: Arc<Seen>,
    clients: JoinSet<()>,
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    sent: AtomicUsize,
    labels: Mutex<BTreeMap<String, usize>>,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// What came of some traffic.
#[derive(Debug)]
pub struct Outcome {
    /// Requests sent.
    pub sent: usize,
    /// What was wrong with those that got no whole, good answer.
    pub failures: Vec<String>,
    /// Answers by the label that they were given.
    pub labels: BTreeMap<String, usize>,
}

impl Traffic {
    /// Starts as many clients, which expect `answer` each time.
    pub async fn start(proxy: &Proxy, clients: usize, answer: &'static str) -> Self {
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let client = proxy.client().await;
            tasks.spawn(ask_on(client, number, answer, Arc::clone(&seen)));
        }
        let clients = tasks;
        Self { seen, clients }
    }

    /// Awaits that a request is given this label.
    pub async fn await_label(&self, label: &str) {
        eventually(&format!("a request is served by {label}"), async || {
            let labels = self.seen.labels.lock().unwrap();
            if labels.contains_key(label) {
                Ok(())
            } else {
                Err(labels.clone())
            }
        })
        .await;
    }

    /// Requests sent so far, and how many of them failed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let failed = self.seen.failures.lock().unwrap().len();
        (self.seen.sent.load(Ordering::SeqCst), failed)
    }

    /// Lets every client finish what it asked for, and says what came of it all.
    ///
    /// # Panics
    /// When a client panicked.
    pub async fn stop(mut self) -> Outcome {
        self.seen.stop.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            client.expect("clients note what fails");
        }
        Outcome {
            sent: self.seen.sent.load(Ordering::SeqCst),
            failures: std::mem::take(&mut *self.seen.failures.lock().unwrap()),
            labels: std::mem::take(&mut *self.seen.labels.lock().unwrap()),
        }
    }
}

impl Outcome {
    /// All labels that were given.
    #[must_use]
    pub fn served(&self) -> BTreeSet<&str> {
        self.labels.keys().map(String::as_str).collect()
    }

    /// Holds that each request was answered, and by one exchange with the backend.
    ///
    /// # Panics
    /// When one was not: with the first failure.
    pub fn assert_whole(&self, backend: &Backend) {
        let (failed, first) = (self.failures.len(), self.failures.first());
        assert!(failed == 0, "{failed} of {} failed: {first:?}", self.sent);
        assert!(self.sent > 0, "there was no traffic");
        assert_eq!(backend.request_count(), self.sent, "exchanges of requests");
    }
}

async fn ask_on(mut client: Client, number: usize, expected: &'static str, seen: Arc<Seen>) {
    let failed = |what: String| seen.failures.lock().unwrap().push(what);
    let mut turn = number;
    while !seen.stop.load(Ordering::SeqCst) {
        turn += 1;
        let question = format!("client {number} asks for the {turn}th time");
        let streamed = turn.is_multiple_of(2);
        let request = match streamed {
            true => ask_streaming(&question),
            false => ask(&question),
        };
        seen.sent.fetch_add(1, Ordering::SeqCst);
        let answer = match client.try_send(&request).await {
            Ok(answer) => answer,
            Err(error) => return failed(format!("{question}: {error}")),
        };
        let whole = match (answer.status, streamed) {
            (200, true) => text_of(&answer.body) == expected && ends_with_done(&answer.body),
            (200, false) => answer.json()["choices"][0]["message"]["content"] == expected,
            _ => false,
        };
        if !whole {
            failed(format!("{} {:?}", answer.status, answer.body));
        }
        let label = answer.header("x-sluicegate-label").unwrap_or("none");
        let mut labels = seen.labels.lock().unwrap();
        *labels.entry(label.to_owned()).or_default() += 1;
    }
}
