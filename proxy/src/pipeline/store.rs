//! Keeps a whole answer for the next equal request.
//!
//! Invariants: only what ended completely is stored; nothing waits for it: the policy's `admit` and
//! the insertion happen after the client has its last byte.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;

use super::answer::{Answer, Body};
use super::cache_policy::Plan;
use super::context::{RequestContext, Shared};
use super::forward::Reply;
use super::reply;
use super::snapshot::Snapshot;
use crate::api::plain;
use crate::api::prompt::Endpoint;
use crate::api::request::Request;
use crate::api::stream::Progress;
use crate::api::tokens;
use crate::cache::{Key, Recorder, Usage};
use crate::plugin::{self, AnswerFacts, Plugin};

/// A place in the cache that an answer takes when it turns out whole.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    policy: Option<Arc<Plugin>>,
    key: Key,
    ttl: std::time::Duration,
    memo: String,
    endpoint: Endpoint,
    model: String,
    fallback: bool,
    begun: Instant,
    recorder: Recorder,
    /// For our own count of a stream that came without one.
    prompt_tokens: u32,
}

/// Gives the answer its place in the cache, where the plan wants it stored.
pub(super) fn run(
    cx: &RequestContext,
    snapshot: &Snapshot,
    request: &Request,
    reply: Reply,
    plan: Option<(Plan, &Request)>,
) -> Answer {
    let Reply {
        mut answer,
        model,
        fallback,
    } = reply;
    let Some((plan, asked)) = plan else {
        return answer;
    };
    if answer.status != StatusCode::OK {
        return answer;
    }
    // Another model's answer belongs to that model.
    let key = if fallback {
        plan.basis.key(asked, &model)
    } else {
        plan.key
    };
    let seat = Box::new(Seat {
        shared: Arc::clone(&cx.shared),
        policy: snapshot.cache_policy.clone(),
        key,
        ttl: plan.ttl,
        memo: plan.memo,
        endpoint: request.prompt.endpoint,
        model,
        fallback,
        begun: cx.started,
        recorder: Recorder::new(snapshot.config.cache.max_entry_bytes),
        prompt_tokens: request.prompt.prompt_tokens,
    });
    match &mut answer.body {
        Body::Live(live) => {
            let mut seat = seat;
            for event in &live.begun {
                seat.event(event);
            }
            live.seat = Some(seat);
        }
        Body::Whole(_, place) if reply::is_json(&answer.headers) => *place = Some(seat),
        Body::Whole(..) | Body::Replay(_) | Body::Relayed(_) => {}
    }
    answer
}

impl Seat {
    /// Takes in one event of a stream.
    pub(crate) fn event(&mut self, raw: &Bytes) {
        self.recorder.event(raw);
    }

    /// Stores a stream that ended completely.
    pub(crate) fn commit_stream(self, progress: Progress) {
        let facts = AnswerFacts {
            model: self.model.clone(),
            fallback: self.fallback,
            finish: progress.finish(),
            text_bytes: progress.text_bytes(),
            head: String::new(),
            usage: progress.usage(),
            duration: self.begun.elapsed(),
            memo: self.memo.clone(),
        };
        self.commit(facts, move |model, prompt_tokens| {
            // Our own count, for a client that wants a usage chunk on replay.
            progress.usage().unwrap_or_else(|| Usage {
                prompt_tokens,
                completion_tokens: tokens::exact(model, progress.text()),
            })
        });
    }

    /// Stores a plain answer, when it parses.
    pub(crate) fn commit_whole(mut self, body: &Bytes) {
        let Ok(answer) = plain::inspect(self.endpoint, body) else {
            return;
        };
        self.recorder.body(body);
        let facts = AnswerFacts {
            model: self.model.clone(),
            fallback: self.fallback,
            finish: answer.finish,
            text_bytes: answer.text_bytes,
            head: String::new(),
            usage: answer.usage,
            duration: self.begun.elapsed(),
            memo: self.memo.clone(),
        };
        let usage = answer.usage;
        self.commit(facts, move |_, prompt_tokens| {
            usage.unwrap_or(Usage {
                prompt_tokens,
                completion_tokens: 0,
            })
        });
    }

    /// Asks the policy and inserts, off the path.
    fn commit(
        self,
        mut facts: AnswerFacts,
        usage: impl FnOnce(&str, u32) -> Usage + Send + 'static,
    ) {
        let control = self.shared.control.clone();
        control.spawn(async move {
            if let Some(policy) = &self.policy {
                let bytes = policy.slot().answer_bytes as usize;
                facts.head = self.recorder.head(bytes);
                if plugin::admit(policy, &facts).await != Some(true) {
                    return;
                }
            }
            let prompt_tokens = self.prompt_tokens;
            let model = self.model.clone();
            let counted =
                tokio::task::spawn_blocking(move || usage(&model, prompt_tokens)).await;
            let Ok(usage) = counted else { return };
            if let Some(stored) = self.recorder.finish(self.endpoint, self.model, usage) {
                self.shared.cache.put(self.key, stored, self.ttl);
                let cache = &self.shared.cache;
                let metrics = &self.shared.metrics;
                metrics.cache_entries.set(i64::try_from(cache.len()).unwrap_or(i64::MAX));
                metrics.cache_bytes.set(i64::try_from(cache.bytes()).unwrap_or(i64::MAX));
            }
        });
    }
}
