//! Step 5: another classifier is dropped in, while clients go on asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{Step, Tour};
use crate::cli::demo::client::{Client, pause};
use crate::cli::demo::questions;

/// Clients that ask during the swap.
const CLIENTS: u64 = 4;

/// Longest time until the next generation: the file watch, a compilation and a smoke call, on a
/// machine that has other things to do.
const SWAP_LIMIT: Duration = Duration::from_secs(60);

/// Name of the slot in the config.
const SLOT: &str = "classifier";

/// The label that only the new plugin says, and its route's pool.
const LABEL: &str = "incident";
const POOL: &str = "oncall";

pub(super) async fn take(tour: &Tour<'_>) -> anyhow::Result<Step> {
    let mut step = Step::default();
    let client = tour.client;
    let asked = questions::incident("before");
    let before = client.chat(&asked.body).await?;
    step.expect_success(&before);
    step.check(
        before.pool() != POOL && before.label() != LABEL,
        format!(
            "before, it went to pool {} with label {}",
            before.pool(),
            before.label()
        ),
    );
    step.push(Some("before"), &asked, before);

    let traffic = Traffic::start(client);
    let swapped = swap(tour).await;
    let traffic = traffic.stop().await;
    let swapped = swapped?;

    let asked = questions::incident("after");
    let after = client.chat(&asked.body).await?;
    step.expect_success(&after);
    step.expect("the label, now,", after.label(), LABEL);
    step.expect("the pool, now,", after.pool(), POOL);
    step.push(Some("after"), &asked, after);

    step.facts.push(("was", described(&swapped.old)));
    step.facts.push(("is", described(&swapped.new)));
    step.facts.push((
        "generation",
        format!(
            "{}, running {:.1} s after the files were written",
            swapped.generation,
            swapped.took.as_secs_f64()
        ),
    ));
    step.check(
        swapped.old["source"] != swapped.new["source"],
        "the slot runs what was dropped in",
    );
    step.check(
        traffic.failed == 0 && traffic.served > 0,
        format!(
            "{} requests ran meanwhile, {} failed",
            traffic.served + traffic.failed,
            traffic.failed
        ),
    );
    if let Some(failure) = traffic.failure {
        step.facts.push(("failure", failure));
    }
    Ok(step)
}

struct Swapped {
    /// The slot, as `/admin/plugins` shows it.
    old: Value,
    new: Value,
    generation: u64,
    took: Duration,
}

/// Writes the files and awaits the generation that runs them.
async fn swap(tour: &Tour<'_>) -> anyhow::Result<Swapped> {
    let old = slot(tour.client).await?;
    let (generation, _) = running(tour.client).await?;
    let began = Instant::now();
    tour.folder.drop_in(tour.classifier)?;
    loop {
        let (now, error) = running(tour.client).await?;
        if now > generation {
            let new = slot(tour.client).await?;
            return Ok(Swapped {
                old,
                new,
                generation: now,
                took: began.elapsed(),
            });
        }
        if let Some(error) = error {
            bail!("the swap was refused:\n{error}");
        }
        if began.elapsed() > SWAP_LIMIT {
            bail!("no new generation after {SWAP_LIMIT:?}");
        }
        pause().await;
    }
}

/// Number of the running generation, and the last reload's error.
async fn running(client: &Client) -> anyhow::Result<(u64, Option<String>)> {
    let config = client.admin("/admin/config").await?;
    let generation = config["generation"]
        .as_u64()
        .context("/admin/config has no generation")?;
    Ok((
        generation,
        config["last_reload_error"].as_str().map(str::to_owned),
    ))
}

async fn slot(client: &Client) -> anyhow::Result<Value> {
    let plugins = client.admin("/admin/plugins").await?;
    plugins["plugins"]
        .as_array()
        .and_then(|plugins| plugins.iter().find(|plugin| plugin["slot"] == SLOT))
        .cloned()
        .with_context(|| format!("/admin/plugins has no slot {SLOT}"))
}

fn described(slot: &Value) -> String {
    let field = |name: &str| slot[name].as_str().unwrap_or("–").to_owned();
    let hash: String = field("sha256").chars().take(12).collect();
    format!(
        "{} {} from {}, sha256 {hash}…",
        field("name"),
        field("version"),
        field("source")
    )
}

/// Clients that ask one question after the other.
struct Traffic {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Count>,
}

#[derive(Default)]
struct Count {
    served: u64,
    failed: u64,
    /// The first one.
    failure: Option<String>,
}

impl Traffic {
    fn start(client: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let number = Arc::new(AtomicU64::new(1));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(ask_on(client.clone(), stop.clone(), number.clone()));
        }
        Self { stop, clients }
    }

    /// Lets every client finish its request; the sum of what they saw.
    async fn stop(self) -> Count {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Count::default();
        for count in self.clients.join_all().await {
            sum.served += count.served;
            sum.failed += count.failed;
            sum.failure = sum.failure.or(count.failure);
        }
        sum
    }
}

async fn ask_on(client: Client, stop: Arc<AtomicBool>, number: Arc<AtomicU64>) -> Count {
    let mut count = Count::default();
    // At least once: a swap may be over before this task has run at all.
    loop {
        let body = questions::small_talk(number.fetch_add(1, Ordering::Relaxed));
        let failure = match client.chat(&body).await {
            Ok(reply) if reply.status == 200 => None,
            Ok(reply) => Some(format!("{}: {}", reply.status, reply.text)),
            Err(error) => Some(format!("{error:#}")),
        };
        if failure.is_some() {
            count.failed += 1;
            count.failure = count.failure.or(failure);
        } else {
            count.served += 1;
        }
        if stop.load(Ordering::Relaxed) {
            return count;
        }
    }
}
