//! Decides whether a request may be answered from the cache, and its answer stored.
//!
//! Invariants: the policy only narrows what the operator and the client allow; the key is made of
//! the request as the client sent it, before compression.

use std::time::Duration;

use super::authenticate::{Caller, granted};
use super::classify::call_context;
use super::client::Head;
use super::compress::Wish;
use super::context::RequestContext;
use super::error::{Error, Result};
use super::route::{Facts, Target};
use super::sampling;
use super::snapshot::Snapshot;
use crate::api::request::Request;
use crate::cache::{self, Control, Key, KeyParts};
use crate::config::Cache;
use crate::plugin::{self, Decision, Scope};
use crate::telemetry::Stage;
use crate::upstream;

/// What may happen with the cache.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) lookup: bool,
    pub(crate) store: bool,
    /// The client wants a stored answer or none.
    pub(crate) only: bool,
    pub(crate) ttl: Duration,
    /// For the model that the route names first.
    pub(crate) key: Key,
    /// Whose answers are shared, as in the key; with the rest, makes the key of another model.
    pub(crate) basis: Basis,
    /// Oldest stored answer that may serve.
    pub(crate) max_age: Option<Duration>,
    /// The policy's note to itself.
    pub(crate) memo: String,
}

/// What a key is made of besides the request and the model.
#[derive(Debug, Clone)]
pub(crate) struct Basis {
    scope: String,
    variant: String,
    compression: String,
    epoch: String,
    ignore: Vec<&'static str>,
    extra: Vec<String>,
}

impl Basis {
    /// The key under which `model`'s answer to `request` stands.
    pub(crate) fn key(&self, request: &Request, model: &str) -> Key {
        cache::key(
            request,
            &KeyParts {
                endpoint: request.prompt.endpoint,
                scope: &self.scope,
                model,
                variant: &self.variant,
                compression: &self.compression,
                epoch: &self.epoch,
                ignore: &self.ignore,
                extra: &self.extra,
            },
        )
    }
}

/// Makes the plan; none: the cache is not for this request.
///
/// # Errors
/// [`super::error::Error::PluginDenied`].
pub(super) async fn run(
    cx: &mut RequestContext,
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    request: &Request,
    target: &Target,
    wish: Wish,
) -> Result<Option<Plan>> {
    cx.enter(Stage::CachePolicy);
    let control = control(cx, facts.caller, facts.head);
    let only = control.only;
    let plan = plan(cx, snapshot, facts, request, target, wish, control).await?;
    match plan {
        // Nothing can be stored for such a request, so nothing is.
        None if only => Err(Error::NotCached),
        plan => Ok(plan),
    }
}

async fn plan(
    cx: &RequestContext,
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    request: &Request,
    target: &Target,
    wish: Wish,
    control: Control,
) -> Result<Option<Plan>> {
    let config = &snapshot.config.cache;
    if !config.enabled || !target.route.cache {
        return Ok(None);
    }
    let Facts {
        head,
        caller,
        class,
        ..
    } = facts;
    if !control.lookup && !control.store {
        return Ok(None);
    }
    let decision = match &snapshot.cache_policy {
        None => without_policy(config.ttl),
        Some(policy) => {
            let call = call_context(cx, caller, head, &request.prompt, None);
            match plugin::decide(policy, &call, &class.summary).await? {
                Some(decision) => decision,
                None => return Ok(None),
            }
        }
    };
    let Some(scope) = scope(&decision, caller, &request.prompt) else {
        return Ok(None);
    };
    let lookup = decision.lookup && control.lookup;
    let store = decision.store && control.store;
    if !lookup && !store {
        return Ok(None);
    }
    let basis = Basis {
        scope,
        variant: sampling::variant(request, &target.route),
        compression: wish.as_key(),
        epoch: config.epoch.clone(),
        ignore: decision
            .ignore
            .iter()
            .flat_map(|name| fields(name))
            .copied()
            .collect(),
        extra: extra(decision.key_parts, facts, target),
    };
    Ok(Some(Plan {
        lookup,
        store,
        only: control.only,
        max_age: control.max_age,
        ttl: ttl(config, decision.ttl, &control),
        key: basis.key(request, target.model(&request.prompt.model)),
        basis,
        memo: decision.memo,
    }))
}

/// Headers that differ from request to request and change no answer.
const NOT_IN_KEY: [&str; 10] = [
    "accept",
    "accept-encoding",
    "authorization",
    "baggage",
    "content-type",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-correlation-id",
    "x-request-id",
];

/// What else goes upstream with the body and may change the answer: the query, and the headers that
/// the pool gets.
fn extra(mut parts: Vec<String>, facts: &Facts<'_>, target: &Target) -> Vec<String> {
    let head = facts.head;
    if head.path_and_query.len() > head.path.len() {
        parts.push(format!("target {}", head.path_and_query));
    }
    let Some(hop) = target.chain.first() else {
        return parts;
    };
    let sent = upstream::headers::request(&head.headers, hop.pool.config(), None);
    let mut headers: Vec<String> = sent
        .iter()
        .filter(|(name, _)| !NOT_IN_KEY.contains(&name.as_str()))
        .map(|(name, value)| format!("header {name} {}", value.as_bytes().escape_ascii()))
        .collect();
    // Their order among each other says nothing.
    headers.sort();
    parts.append(&mut headers);
    parts
}

/// The request's fields behind a name of the contract.
fn fields(name: &str) -> &'static [&'static str] {
    match name {
        "model" => &["model"],
        "temperature" => &["temperature"],
        "top-p" => &["top_p"],
        "seed" => &["seed"],
        "max-tokens" => &["max_tokens", "max_completion_tokens"],
        "end-user" => &["user"],
        "metadata" => &["metadata"],
        _ => &[],
    }
}

/// What holds where no policy runs: equal requests of one tenant share an answer.
fn without_policy(ttl: Duration) -> Decision {
    Decision {
        lookup: true,
        store: true,
        ttl,
        scope: Scope::Tenant,
        ignore: Vec::new(),
        key_parts: Vec::new(),
        memo: String::new(),
        reason: None,
    }
}

fn control(cx: &RequestContext, caller: &Caller, head: &Head) -> Control {
    let control = cache::control::parse(&head.headers, caller.grants.cache);
    for header in &control.ignored {
        granted(cx, false, header);
    }
    control
}

/// The shortest of what policy, client and operator say.
fn ttl(config: &Cache, decided: Duration, control: &Control) -> Duration {
    control.ttl.unwrap_or(decided).min(config.max_ttl)
}

/// Who shares the answer. None: a session scope without a session.
fn scope(
    decision: &Decision,
    caller: &Caller,
    prompt: &crate::api::prompt::Prompt,
) -> Option<String> {
    let tenant = caller.tenant.as_str();
    match decision.scope {
        Scope::Global => Some("global".to_owned()),
        Scope::Tenant => Some(format!("tenant:{tenant}")),
        Scope::Session => caller
            .session
            .as_deref()
            .or(prompt.user.as_deref().filter(|_| caller.grants.session))
            // The tenant's length keeps its name apart from the session's.
            .map(|session| format!("session:{}:{tenant}:{session}", tenant.len())),
    }
}
