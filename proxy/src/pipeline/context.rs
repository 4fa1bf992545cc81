//! What is true of a whole request: its clock, its record, and what outlives every snapshot.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::error::Error;
use crate::admission::{Admission, Held, Place};
use crate::api::Endpoint;
use crate::config::{BackendName, PoolName};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{Metrics, Outcome, Record, Stage, log, observe};

/// What the pipeline shares over all requests and all snapshots.
pub(crate) struct Shared {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLog,
    /// What may be held at once.
    pub(crate) admission: Admission,
    /// Where work goes that no client waits for: `admit`, exact token counts.
    pub(crate) control: tokio::runtime::Handle,
    /// The server ends: no connection stays behind the answer that it carries.
    pub(crate) closing: AtomicBool,
    /// Exact token counts that run at once.
    counting: Semaphore,
    /// Those that may wait for their turn.
    queue: Semaphore,
}

impl Shared {
    /// Puts together what a process has once.
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        access_log: AccessLog,
        control: tokio::runtime::Handle,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let admission = Admission::new(&metrics);
        Self {
            metrics,
            access_log,
            admission,
            control,
            closing: AtomicBool::new(false),
            counting: Semaphore::new(cores),
            queue: Semaphore::new(COUNTS_QUEUED),
        }
    }

    /// Counts tokens on a blocking thread, when it is its turn: a count for each request at once
    /// would be hundreds of threads, each with memory of its own, beside the workers. None when too
    /// many wait already, each of which holds a request or an answer, or when the process stops.
    pub(super) async fn count<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _place = self.queue.try_acquire().ok()?;
        let _turn = self.counting.acquire().await.ok()?;
        self.control.spawn_blocking(work).await.ok()
    }
}

/// Exact token counts that may wait; further ones are left out, and the estimate holds.
const COUNTS_QUEUED: usize = 256;

/// One request's context. Dropping it ends the record: what never finished reads `aborted`.
pub(crate) struct RequestContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) started: Instant,
    pub(crate) record: Record,
    /// Adds the headers that tell pool, backend and stage times.
    pub(crate) expose_all: bool,
    /// Writes the record to the access log.
    pub(crate) access_log: bool,
    /// When the whole request must be over; none until its route is known.
    pub(crate) deadline: Option<Instant>,
    /// The API of a request that was read; none for what is only passed on.
    pub(crate) endpoint: Option<Endpoint>,
    /// Uniform in 0 <= x < 1, the same for every plugin.
    pub(crate) draw: f64,
    /// Among the requests in flight; none before it is admitted.
    pub(super) place: Option<Place>,
    /// What is kept in memory of the request: its body and what was made of it.
    pub(super) held: Held,
    /// What is kept of its answer.
    pub(super) answer_held: Held,
    stage: Option<(Stage, Instant)>,
    /// What is still to be counted when the answer is out: see [`super::recount`].
    pub(crate) recount: Option<super::recount::Recount>,
}

impl RequestContext {
    /// Begins the clock and the record of a request.
    pub(crate) fn new(shared: Arc<Shared>, request_id: String) -> Self {
        shared.metrics.requests_in_flight.inc();
        let held = shared.admission.buffered.holder();
        let answer_held = shared.admission.buffered.holder();
        Self {
            shared,
            started: Instant::now(),
            record: Record {
                request_id,
                ..Record::default()
            },
            expose_all: false,
            access_log: true,
            deadline: None,
            endpoint: None,
            draw: fastrand::f64(),
            place: None,
            held,
            answer_held,
            stage: None,
            recount: None,
        }
    }

    /// Ends the stage before and begins `stage`.
    pub(crate) fn enter(&mut self, stage: Stage) {
        let now = Instant::now();
        self.leave(now);
        self.stage = Some((stage, now));
    }

    fn leave(&mut self, now: Instant) {
        if let Some((stage, since)) = self.stage.take() {
            // A stage may be entered twice (a retry): its times add up.
            *self.record.stages.get_mut(stage) += now.duration_since(since);
        }
    }

    /// Ends the running stage, so that its time can be told to the client.
    pub(crate) fn close_stage(&mut self) {
        self.leave(Instant::now());
    }

    /// Notes who is asked, or whose answer it is in the end.
    pub(super) fn note_upstream(&mut self, pool: &PoolName, backend: &BackendName) {
        self.record.pool = Some(pool.clone());
        self.record.backend = Some(backend.clone());
    }

    /// Notes that the first content is there, unless it was noted before.
    pub(crate) fn note_first_token(&mut self) {
        let elapsed = self.started.elapsed();
        self.record.ttft.get_or_insert(elapsed);
    }

    /// Notes why the proxy itself ended the request.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.record.error = Some(error.row().code);
        self.record.error_detail = Some(log::chain(error));
    }

    /// Notes how the request ended.
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        self.record.outcome = outcome;
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        self.leave(Instant::now());
        let mut parting = Parting {
            shared: Arc::clone(&self.shared),
            record: std::mem::take(&mut self.record),
            access_log: self.access_log,
        };
        parting.record.duration = self.started.elapsed();
        self.shared.metrics.requests_in_flight.dec();
        if let Some(recount) = self.recount.take() {
            let shared = Arc::clone(&self.shared);
            self.shared.control.spawn(async move {
                // Uncounted at the end of the process, and written all the same.
                let _ = shared.count(move || recount.run(&mut parting.record)).await;
            });
        }
    }
}

/// A record that is complete but for a count. Dropping it counts it and hands it to the access log.
struct Parting {
    shared: Arc<Shared>,
    record: Record,
    access_log: bool,
}

impl Drop for Parting {
    fn drop(&mut self) {
        let record = std::mem::take(&mut self.record);
        observe(&self.shared.metrics, &record);
        if self.access_log {
            self.shared.access_log.write(record);
        }
    }
}
