//! Keeps a whole answer for the next equal request.
//!
//! Invariants: only what ended completely is stored; nothing waits for it: the policy's `admit`,
//! our own token count and the insertion happen after the client has its last byte.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::StatusCode;

use super::answer::{Answer, Body};
use super::cache_policy::Plan;
use super::context::{RequestContext, Shared};
use super::forward::Reply;
use super::reply;
use super::snapshot::Snapshot;
use crate::api::plain::PlainFacts;
use crate::api::prompt::Endpoint;
use crate::api::request::Request;
use crate::api::sse::Event;
use crate::api::stream::Progress;
use crate::api::{self, Usage, tokens};
use crate::cache::{self, Key, Memory, Recorder, Stored, replay};
use crate::plugin::{self, AnswerFacts, Finish, Plugin};

/// What storing needs of a snapshot. Weak: an answer that takes long keeps no cache and no plugin
/// that have been replaced meanwhile, and is then not stored.
pub(crate) struct Shelf {
    cache: Weak<Memory>,
    policy: Option<Weak<Plugin>>,
    /// What the policy's slot lets it see of the text.
    head_bytes: usize,
    /// Larger answers are not stored.
    max_entry_bytes: usize,
}

impl Shelf {
    /// Takes from a snapshot what is needed after it.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let policy = snapshot.cache_policy.as_ref();
        Self {
            cache: Arc::downgrade(&snapshot.cache),
            policy: policy.map(Arc::downgrade),
            head_bytes: policy.map_or(0, |policy| policy.slot().answer_bytes as usize),
            max_entry_bytes: snapshot.config.cache.max_entry_bytes,
        }
    }
}

/// A place in the cache that an answer takes when it turns out whole.
pub(crate) struct Seat {
    shelf: Shelf,
    shared: Arc<Shared>,
    key: Key,
    ttl: Duration,
    memo: String,
    request_id: String,
    model: String,
    fallback: bool,
    begun: Instant,
    content_type: String,
    recorder: Recorder,
    /// For our own count of a stream that came without one.
    prompt_tokens: u32,
}

/// What an answer says of itself.
struct Facts {
    finish: api::Finish,
    text_bytes: usize,
    head: String,
    usage: Option<Usage>,
}

/// Gives the answer its place in the cache, where the plan wants it stored.
pub(super) fn run(
    cx: &RequestContext,
    shelf: Shelf,
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
    let endpoint = request.prompt.endpoint;
    let most = shelf.max_entry_bytes;
    let held = || cx.shared.admission.buffered.holder();
    let recorder = match &answer.body {
        Body::Live(_) => Recorder::stream(endpoint, most, held()),
        Body::Whole(..) if reply::is_json(&answer.headers) => {
            Recorder::plain(endpoint, most, held())
        }
        Body::Whole(..) | Body::Replay(_) | Body::Relayed(_) => return answer,
    };
    let content_type = answer.headers.get(http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let mut seat = Box::new(Seat {
        shelf,
        shared: Arc::clone(&cx.shared),
        // Another model's answer belongs to that model.
        key: match fallback {
            true => plan.basis.key(asked, &model),
            false => plan.key,
        },
        ttl: plan.ttl,
        memo: plan.memo,
        request_id: cx.record.request_id.clone(),
        model,
        fallback,
        begun: cx.started,
        content_type: content_type.unwrap_or_default().to_owned(),
        recorder,
        prompt_tokens: request.prompt.prompt_tokens,
    });
    match &mut answer.body {
        Body::Live(live) => {
            for event in &live.begun {
                seat.event(event);
            }
            live.seat = Some(seat);
        }
        Body::Whole(whole) => whole.seat = Some(seat),
        Body::Replay(_) | Body::Relayed(_) => {}
    }
    answer
}

impl Seat {
    /// Takes in one event of a stream.
    pub(crate) fn event(&mut self, event: &Event) {
        self.recorder.event(event);
    }

    /// Stores a stream that ended completely. One whose events cannot be read is not stored: it has
    /// no plain form.
    pub(crate) fn commit_stream(self, progress: &Progress) {
        if !progress.is_well_formed() {
            return;
        }
        let head = progress.head(self.shelf.head_bytes).to_owned();
        self.commit(Facts {
            finish: progress.finish(),
            text_bytes: progress.text_bytes,
            head,
            usage: progress.usage(),
        });
    }

    /// Stores a plain answer, when it is one.
    pub(crate) fn commit_whole(mut self, body: &Bytes, facts: &PlainFacts) {
        if !facts.is_answer {
            return;
        }
        self.recorder.chunk(body);
        let head = facts.head(self.shelf.head_bytes).to_owned();
        self.commit(Facts {
            finish: facts.finish,
            text_bytes: facts.text_bytes,
            head,
            usage: facts.usage,
        });
    }

    /// Asks the policy and inserts, off the path.
    fn commit(self, facts: Facts) {
        if self.recorder.is_over() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let control = shared.control.clone();
        control.spawn(async move {
            if let Some(policy) = &self.shelf.policy {
                let Some(policy) = policy.upgrade() else {
                    return;
                };
                let answer = self.answer_facts(&facts);
                if plugin::admit(&policy, &answer).await != Some(true) {
                    return;
                }
            }
            let prompt_tokens = self.prompt_tokens;
            let answer = cache::Answer {
                model: self.model,
                content_type: self.content_type,
                usage: facts.usage,
                created: SystemTime::now(),
            };
            let Some(stored) = self.recorder.finish(true, answer) else {
                return;
            };
            // A tokenizer takes milliseconds: not on a thread that others wait for.
            let stored = match is_counted(&stored) {
                true => Some(stored),
                false => {
                    shared
                        .count(move || with_usage(stored, prompt_tokens))
                        .await
                }
            };
            if let (Some(stored), Some(cache)) = (stored, self.shelf.cache.upgrade()) {
                cache.put(self.key, stored, self.ttl);
            }
        });
    }

    fn answer_facts(&self, facts: &Facts) -> AnswerFacts {
        AnswerFacts {
            request_id: self.request_id.clone(),
            model: self.model.clone(),
            fallback: self.fallback,
            finish: finish(facts.finish),
            text_bytes: u32::try_from(facts.text_bytes).unwrap_or(u32::MAX),
            head: facts.head.clone(),
            prompt_tokens: facts.usage.map_or(0, |usage| usage.prompt),
            completion_tokens: facts.usage.map_or(0, |usage| usage.completion),
            duration: self.begun.elapsed(),
            memo: self.memo.clone(),
        }
    }
}

/// Whether an answer has the upstream's count, or needs none.
fn is_counted(stored: &Stored) -> bool {
    stored.usage.is_some() || stored.endpoint == Endpoint::Embeddings
}

/// An answer without the upstream's count gets ours, for a client that wants one on replay.
fn with_usage(stored: Stored, prompt_tokens: u32) -> Stored {
    let completion = tokens::exact(&stored.model, &replay::text(&stored));
    Stored {
        usage: Some(Usage {
            prompt: prompt_tokens,
            completion,
        }),
        ..stored
    }
}

fn finish(finish: api::Finish) -> Finish {
    match finish {
        api::Finish::Stop => Finish::Stop,
        api::Finish::ToolCalls => Finish::ToolCalls,
        api::Finish::Length => Finish::Length,
        api::Finish::Refusal => Finish::Refusal,
        api::Finish::Other => Finish::Other,
    }
}
