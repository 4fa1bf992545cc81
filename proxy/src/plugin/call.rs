//! A call of a plugin: where it runs, how it is counted, and what a failure means.
//!
//! Every call takes the same way: choose the view, take an instance, enter it under the deadline,
//! check the result, count exactly one outcome, and let the slot's `on_failure` decide. Up to
//! [`WORKER_BYTES`] of text the call runs on the caller's thread, without a hop and without an
//! await; above that on a blocking thread of the control plane, as many at a time as there are
//! cores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::breaker::{Change, Leave};
use super::check;
use super::failure::{Denied, Failure, FailureKind};
use super::instance::LiveInstance;
use super::limits::{WORKER_BYTES, cpu_for};
use super::plugin::{Inner, Plugin, stage};
use super::types::{AnswerFacts, Budget, Compression, Decision, Opinion, Summary};
use super::view::{CallContext, Selection, ViewRules, select, with_request};
use crate::api::text::cut;
use crate::config::{OnFailure, Slot};

/// A stage's function on one instance: everything between taking it and giving it back.
type Stage<A, T> =
    fn(&ViewRules, &mut LiveInstance, &CallContext<'_>, &Selection, &A) -> Result<T, Failure>;

/// Asks a classifier. `Ok(None)`: the stage goes on without it.
///
/// # Errors
/// [`Denied`] when it gave no result and its slot says `deny`.
pub(crate) async fn classify(
    plugin: &Plugin,
    cx: &CallContext<'_>,
) -> Result<Option<Opinion>, Denied> {
    dispatch(plugin, cx, &(), on_classify).await
}

/// Asks a compressor. `Ok(None)`: the prompt stays as it is.
///
/// # Errors
/// [`Denied`] when it gave no result and its slot says `deny`.
pub(crate) async fn compress(
    plugin: &Plugin,
    cx: &CallContext<'_>,
    budget: &Budget,
) -> Result<Option<Compression>, Denied> {
    dispatch(plugin, cx, budget, on_compress).await
}

/// Asks a cache policy. `Ok(None)`: the cache's own defaults hold.
///
/// # Errors
/// [`Denied`] when it gave no result and its slot says `deny`.
pub(crate) async fn decide(
    plugin: &Plugin,
    cx: &CallContext<'_>,
    summary: &Summary,
) -> Result<Option<Decision>, Denied> {
    dispatch(plugin, cx, summary, on_decide).await
}

/// Asks a cache policy about an answer. None: it gave no result, so the answer is not stored.
/// The client has its answer by then, so there is nothing to deny.
pub(crate) async fn admit(plugin: &Plugin, answer: &AnswerFacts) -> Option<bool> {
    let inner = &plugin.inner;
    let outcome = run(inner, &answer.request_id, |instance| {
        instance.state().begin(None, &answer.request_id);
        on_admit(&inner.slot, instance, answer)
    });
    outcome.ok()
}

/// Runs a stage where its size says, and settles its outcome.
async fn dispatch<A, T>(
    plugin: &Plugin,
    cx: &CallContext<'_>,
    argument: &A,
    stage: Stage<A, T>,
) -> Result<Option<T>, Denied>
where
    A: Clone + Send + Sync + 'static,
    T: Send + 'static,
{
    let inner = &plugin.inner;
    let selection = select(cx.prompt, &inner.view);
    let outcome = if selection.shown_bytes <= WORKER_BYTES {
        run_stage(inner, cx, &selection, argument, stage)
    } else {
        on_blocking_thread(inner, cx, selection, argument.clone(), stage).await
    };
    match outcome {
        Ok(result) => Ok(Some(result)),
        Err(Failure {
            kind: FailureKind::Unsupported,
            ..
        }) => Ok(None),
        Err(_) => match inner.slot.on_failure {
            OnFailure::Skip => Ok(None),
            OnFailure::Deny => Err(Denied {
                slot: inner.slot.name.clone(),
            }),
        },
    }
}

/// # Cancel safety
/// Dropped while it waits for its turn: nothing was called. Dropped later: the call ends on its own
/// thread, is counted, and its result is thrown away.
async fn on_blocking_thread<A, T>(
    inner: &Arc<Inner>,
    cx: &CallContext<'_>,
    selection: Selection,
    argument: A,
    stage: Stage<A, T>,
) -> Result<T, Failure>
where
    A: Send + Sync + 'static,
    T: Send + 'static,
{
    if inner
        .breaker
        .until_probe()
        .is_some_and(|wait| !wait.is_zero())
    {
        // Fails at once, as it should: nothing to wait for.
        return run_stage(inner, cx, &selection, &argument, stage);
    }
    // The plugin's turn before the core's, so that one slow plugin does not hold all cores.
    let spare = turn(&inner.lane.spares).await?;
    let core = turn(&inner.lane.cores).await?;
    let cx = cx.detach();
    let owner = Arc::clone(inner);
    let task = inner.lane.control.spawn_blocking(move || {
        let _turns = (spare, core);
        run_stage(&owner, &cx.lend(), &selection, &argument, stage)
    });
    task.await
        .unwrap_or_else(|error| Err(Failure::new(FailureKind::Trap, error.to_string())))
}

async fn turn(lane: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Failure> {
    let permit = Arc::clone(lane).acquire_owned().await;
    permit.map_err(|_| Failure::new(FailureKind::NoInstance, "the proxy is stopping"))
}

fn run_stage<A, T>(
    inner: &Inner,
    cx: &CallContext<'_>,
    selection: &Selection,
    argument: &A,
    stage: Stage<A, T>,
) -> Result<T, Failure> {
    run(inner, cx.request_id, |instance| {
        instance
            .state()
            .begin(Some(Arc::clone(cx.prompt)), cx.request_id);
        stage(&inner.view, instance, cx, selection, argument)
    })
}

/// Takes an instance, calls, gives it back, counts and logs: the one place where an outcome is
/// counted.
fn run<T>(
    inner: &Inner,
    request_id: &str,
    call: impl FnOnce(&mut LiveInstance) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (outcome, took) = match inner.breaker.ask() {
        Some(leave) => enter(inner, request_id, leave, call),
        None => {
            let detail = "off the path for its faults until the next probe";
            (Err(Failure::new(FailureKind::Quarantined, detail)), None)
        }
    };
    // A plugin may print, or put into its words, what its config holds.
    let outcome = outcome.map_err(|mut failure| {
        failure.detail = inner.slot.secrets.redact(&failure.detail).into_owned();
        failure
    });
    inner.tally.count(outcome.as_ref().map(|_| ()), took);
    if let Err(failure) = &outcome {
        log(inner, request_id, failure);
    }
    outcome
}

/// Takes an instance, calls, gives it back, and tells the breaker; and how long that took, if
/// there was an instance to call.
fn enter<T>(
    inner: &Inner,
    request_id: &str,
    leave: Leave,
    call: impl FnOnce(&mut LiveInstance) -> Result<T, Failure>,
) -> (Result<T, Failure>, Option<Duration>) {
    let started = Instant::now();
    let Some(mut lease) = inner.pool.take() else {
        let detail = "every instance is busy or being replaced";
        return (Err(Failure::new(FailureKind::NoInstance, detail)), None);
    };
    let instance = lease.instance();
    instance.calls += 1;
    let outcome = call(instance);
    instance.state().end();
    let took = started.elapsed();
    let kind = outcome.as_ref().err().map(|failure| failure.kind);
    lease.finish(kind.is_none_or(FailureKind::leaves_instance_alive));
    let change = inner
        .breaker
        .report(leave, kind.is_some_and(FailureKind::is_fault));
    log_change(inner, request_id, change);
    (outcome, Some(took))
}

fn log_change(inner: &Inner, request_id: &str, change: Change) {
    let slot = inner.slot.name.as_str();
    let plugin = inner.info.name.as_str();
    match change {
        Change::None => {}
        Change::Quarantined(wait) => tracing::error!(
            slot,
            plugin,
            request_id,
            "plugin quarantined for its faults, the next probe in {wait:?}"
        ),
        Change::Released => tracing::info!(slot, plugin, request_id, "plugin is called again"),
    }
}

fn log(inner: &Inner, request_id: &str, failure: &Failure) {
    let slot = inner.slot.name.as_str();
    let plugin = inner.info.name.as_str();
    let stage = stage(inner.slot.kind);
    let kind = failure.kind.as_str();
    let detail = failure.detail.as_str();
    if failure.kind == FailureKind::Quarantined {
        // Said once, when it began; every call is counted.
        return;
    }
    if failure.kind == FailureKind::Unsupported {
        tracing::debug!(
            slot,
            plugin,
            stage,
            request_id,
            detail,
            "plugin does not support this"
        );
    } else if inner.tally.may_log() {
        tracing::warn!(
            slot,
            plugin,
            stage,
            request_id,
            kind,
            detail,
            "plugin call failed"
        );
    }
}

/// CPU time for a call that hands over `bytes` of text.
fn budget(slot: &Slot, bytes: usize) -> Duration {
    slot.cpu_time.saturating_add(cpu_for(bytes))
}

/// `classify`.
pub(super) fn on_classify(
    rules: &ViewRules,
    instance: &mut LiveInstance,
    cx: &CallContext<'_>,
    selection: &Selection,
    (): &(),
) -> Result<Opinion, Failure> {
    let budget = budget(rules.slot(), selection.shown_bytes);
    let opinion = with_request(cx, selection, rules, |request| {
        instance.enter(budget, |store, exports| exports.classify(store, request))
    })??;
    check::opinion(opinion, cx.explain)
}

/// `compress`.
pub(super) fn on_compress(
    rules: &ViewRules,
    instance: &mut LiveInstance,
    cx: &CallContext<'_>,
    selection: &Selection,
    wish: &Budget,
) -> Result<Compression, Failure> {
    let budget = budget(rules.slot(), selection.shown_bytes);
    let edits = with_request(cx, selection, rules, |request| {
        instance.enter(budget, |store, exports| {
            exports.compress(store, request, wish)
        })
    })??;
    let plan = check::edits(cx.prompt, rules.slot(), &edits)?;
    Ok(Compression { plan })
}

/// `decide`.
pub(super) fn on_decide(
    rules: &ViewRules,
    instance: &mut LiveInstance,
    cx: &CallContext<'_>,
    selection: &Selection,
    summary: &Summary,
) -> Result<Decision, Failure> {
    let budget = budget(rules.slot(), selection.shown_bytes);
    let decision = with_request(cx, selection, rules, |request| {
        instance.enter(budget, |store, exports| {
            exports.decide(store, request, summary)
        })
    })??;
    check::decision(decision, rules.slot())
}

/// `admit`.
pub(super) fn on_admit(
    slot: &Slot,
    instance: &mut LiveInstance,
    answer: &AnswerFacts,
) -> Result<bool, Failure> {
    let head = cut(
        &answer.head,
        usize::try_from(slot.answer_bytes).unwrap_or(usize::MAX),
    );
    let budget = budget(slot, head.len());
    instance.enter(budget, |store, exports| exports.admit(store, answer, head))?
}
