//! The path of one request, top to bottom. [`serve`] is the only entry point.
//!
//! A stage takes by value what it consumes, borrows what it only reads, and returns the typed value
//! that a later stage needs, so most wrong orders do not compile. [`RequestContext`] holds what is
//! true of the whole request: its clock, its stage times, its record. Whatever must be given back
//! is a guard owned by a value in these functions: dropping the future cancels everything. The
//! snapshot is held while the request is decided, and let go before its upstream is asked: an
//! answer may take minutes, and must not keep plugins and pools that have been replaced.

mod admit;
mod answer;
mod attempt;
mod authenticate;
mod balance;
mod cache_lookup;
mod cache_policy;
mod classify;
mod client;
mod compress;
mod context;
mod error;
mod events;
mod forward;
mod gather;
mod models;
mod parse;
mod recount;
mod refuse;
mod relay;
mod replay;
mod reply;
mod route;
mod sampling;
mod snapshot;
mod store;
mod stream;
mod target;
mod upload;

use std::sync::Arc;

use self::answer::Answer;
use self::authenticate::Caller;
use self::cache_lookup::Lookup;
use self::compress::Wish;
use self::error::Result;
use self::route::Facts;
use self::store::Shelf;
use self::target::Destination;
use crate::api::request::Request;

pub(crate) use self::client::{BODY_PAUSE, Client, Head};
pub(crate) use self::context::{RequestContext, Shared};
pub(crate) use self::snapshot::{Plugins, Snapshot};

/// Serves one request and leaves exactly one record of it, however it ends.
pub(crate) async fn serve(
    mut cx: RequestContext,
    snapshot: Arc<Snapshot>,
    head: Head,
    client: &mut Client<'_>,
) {
    let outcome = match answer(&mut cx, snapshot, &head, client).await {
        Ok(answer) => stream::run(&mut cx, answer, client).await,
        Err(error) => refuse::run(&mut cx, &error, client).await,
    };
    cx.finish(outcome); // written on drop; a request that was never finished reads `aborted`
}

/// Receives the request, then works on it for as long as the client stays.
async fn answer(
    cx: &mut RequestContext,
    snapshot: Arc<Snapshot>,
    head: &Head,
    client: &mut Client<'_>,
) -> Result<Answer> {
    let destination = target::run(cx, head, client)?;
    admit::run(cx, client)?;
    let caller = authenticate::run(cx, &snapshot, head)?;
    match destination {
        Destination::Models => models::run(&snapshot, head.plain_path()),
        Destination::Relay => Box::pin(relay::run(cx, snapshot, &caller, client, head)).await,
        Destination::Inspect(endpoint) => {
            let server = &snapshot.config.server;
            let request = parse::run(cx, server, client, head, endpoint).await?;
            // A client that leaves drops what is below, and with it the upstream exchange.
            let decided = decide(cx, snapshot, &caller, head, request);
            client.unless_gone(decided).await
        }
    }
}

/// Decides who answers. Returns before the body of the answer has been sent.
async fn decide(
    cx: &mut RequestContext,
    snapshot: Arc<Snapshot>,
    caller: &Caller,
    head: &Head,
    request: Request,
) -> Result<Answer> {
    let class = classify::run(cx, &snapshot, caller, head, &request.prompt).await?;
    let facts = Facts {
        head,
        caller,
        class: &class,
        prompt: Some(&request.prompt),
    };
    let target = route::run(cx, &snapshot, &facts)?;
    let wish = Wish::of(cx, caller, head, &target.route);
    let plan = cache_policy::run(cx, &snapshot, &facts, &request, &target, wish).await?;
    let plan = match cache_lookup::run(cx, &snapshot.cache, plan)? {
        Lookup::Hit(stored) => return Ok(replay::run(&stored, &request.prompt)),
        Lookup::Miss(plan) => plan,
    };
    let asked = request.clone(); // a fallback's answer is stored under a key of what was asked
    let request = compress::run(cx, &snapshot, caller, head, request, &class, wish).await?;
    let shelf = Shelf::of(&snapshot);
    drop(snapshot);
    let candidates = balance::run(cx, &target);
    let reply = forward::run(cx, &request, caller, head, &target, candidates).await?;
    let plan = plan.map(|plan| (*plan, &asked));
    Ok(store::run(cx, shelf, &request, reply, plan))
}
