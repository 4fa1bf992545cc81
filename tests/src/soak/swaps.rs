//! The changes: which one comes next, how it is written, and what must come of it.

use std::collections::BTreeSet;

use crate::{Backend, Config, Guest, Pool, Proxy, Route, Slot, ask, eventually};

/// The component's file.
pub(super) const FILE: &str = "marked.wasm";

/// The model that the pool of the long streams serves.
pub(super) const LONG: &str = "long";

/// Slots of every config that each request calls once.
pub(super) const SLOTS: [&str; 2] = ["marked", "compressor"];

/// Good components; with the bad ones there are eight.
const GOOD: usize = 5;

/// What came of a change.
pub(super) enum Swap {
    /// A good one: its generation runs and serves.
    Served,
    /// A bad one: it was refused, and what ran goes on.
    Refused,
    /// A request afterwards was served by something else.
    Unserved(String),
}

/// What a good config says, by number where it varies.
#[derive(Clone, Copy, Default)]
struct State {
    component: usize,
    suffix: usize,
    /// A pool, a route, a label and a slot that were never there before.
    names: usize,
    cache_entries: usize,
}

/// A kind of change.
#[derive(Clone, Copy)]
enum Change {
    Component,
    Suffix,
    Names,
    Cache,
    BadComponent,
    BadConfig,
}

/// Draws changes and makes them.
pub(super) struct Swaps<'a> {
    random: fastrand::Rng,
    /// With their labels.
    components: Vec<(Guest, String)>,
    bad: [Vec<u8>; 3],
    model: &'a Backend,
    long: &'a Backend,
    state: State,
    /// Files that hold something bad, until the next change.
    spoilt: Option<Change>,
    count: usize,
    asked: usize,
    good: BTreeSet<String>,
}

impl<'a> Swaps<'a> {
    pub(super) fn new(seed: u64, guest: &Guest, model: &'a Backend, long: &'a Backend) -> Self {
        let mut swaps = Self {
            random: fastrand::Rng::with_seed(seed),
            components: (0..GOOD).map(|number| guest.with_label(number)).collect(),
            bad: [
                b"this is no component".to_vec(),
                guest.0[..guest.0.len() / 2].to_vec(),
                guest.with_wrong_label().0,
            ],
            model,
            long,
            state: State::default(),
            spoilt: None,
            count: 0,
            asked: 0,
            good: BTreeSet::new(),
        };
        swaps.good.insert(swaps.label());
        swaps
    }

    /// The component that should run.
    pub(super) fn component(&self) -> &[u8] {
        &self.components[self.state.component].0.0
    }

    /// The config that should run.
    pub(super) fn config(&self) -> Config {
        let State {
            suffix,
            names,
            cache_entries,
            ..
        } = self.state;
        let suffix = format!("-c{suffix}");
        let extra = format!("extra-{names}");
        let route = |pool: &str| {
            Route::to(pool)
                .set("compress", true)
                .set("timeouts.total", "24h")
        };
        Config::new()
            .cached()
            .set(
                "cache.max_entries",
                1_000 + i64::try_from(cache_entries).expect("small"),
            )
            .pool(Pool::new("main").backend(self.model))
            .pool(Pool::new(LONG).backend(self.long).models(&[LONG]))
            .pool(Pool::new(&extra).backend(self.model).named(&extra))
            .route(route(&extra).labels(&[&extra]))
            .route(route("main"))
            .slot(patient(Slot::classify(SLOTS[0], FILE)).set("config.suffix", suffix))
            .slot(patient(Slot::classify(
                &extra,
                "builtin:keyword-classifier",
            )))
            .slot(patient(Slot::compress(SLOTS[1], "builtin:topk-compressor")))
            .slot(patient(Slot::cache_policy(
                "policy",
                "builtin:default-cache-policy",
            )))
    }

    /// What the right generation calls every request.
    fn label(&self) -> String {
        let mark = &self.components[self.state.component].1;
        format!("{mark}-c{}", self.state.suffix)
    }

    /// Labels of all good generations so far.
    pub(super) fn good(&self) -> BTreeSet<String> {
        self.good.clone()
    }

    /// Requests sent to see what serves.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// Makes the next change, and awaits what becomes of it.
    pub(super) async fn make(&mut self, proxy: &Proxy) -> Swap {
        self.count += 1;
        let change = self.draw();
        let (generation, refused) = (proxy.generation().await, refusals(proxy).await);
        match self.spoilt.take() {
            Some(Change::BadComponent) => self.write(proxy, FILE, self.component()),
            Some(_) => self.write_config(proxy, &self.config().to_toml()),
            None => {}
        }
        let is_good = self.write_change(proxy, change);
        if is_good {
            proxy.await_generation_after(generation).await;
        } else {
            self.spoilt = Some(change);
            await_refusal(proxy, refused).await;
        }
        let expected = self.label();
        self.good.insert(expected.clone());
        self.asked += 1;
        // A question of its own, lest the cache answer it.
        let question = format!("who serves swap {}?", self.count);
        let answer = proxy.send(&ask(&question)).await;
        match answer.header("x-sluicegate-label") {
            Some(label) if label == expected && answer.status == 200 => match is_good {
                true => Swap::Served,
                false => Swap::Refused,
            },
            other => Swap::Unserved(format!("{} by {other:?}, not by {expected}", answer.status)),
        }
    }

    /// A bad change comes after a good one only: written over an equal one it would be none.
    fn draw(&mut self) -> Change {
        let kinds = if self.spoilt.is_some() { 8 } else { 11 };
        match self.random.usize(0..kinds) {
            0..4 => Change::Component,
            4..6 => Change::Suffix,
            6 => Change::Names,
            7 => Change::Cache,
            8 | 9 => Change::BadComponent,
            _ => Change::BadConfig,
        }
    }

    /// Writes a change; true when it is a good one.
    fn write_change(&mut self, proxy: &Proxy, change: Change) -> bool {
        match change {
            Change::Component => {
                // Another one than runs.
                let step = self.random.usize(1..GOOD);
                self.state.component = (self.state.component + step) % GOOD;
                self.write(proxy, FILE, self.component());
                return true;
            }
            Change::Suffix => {}
            Change::Names => self.state.names = self.count,
            Change::Cache => self.state.cache_entries = self.count,
            Change::BadComponent => {
                let which = self.random.usize(0..self.bad.len());
                self.write(proxy, FILE, &self.bad[which]);
                return false;
            }
            Change::BadConfig => {
                let bad = self.bad_config();
                self.write_config(proxy, &bad);
                return false;
            }
        }
        // Each good config has a label of its own, so that its answers tell it from the last one.
        self.state.suffix = self.count;
        self.write_config(proxy, &self.config().to_toml());
        true
    }

    fn bad_config(&mut self) -> String {
        let config = self.config();
        let slot = || Slot::classify("bad", FILE);
        match self.random.usize(0..5) {
            0 => config.to_toml() + "\n[routes",
            1 => config.set("cache.max_entriez", 5).to_toml(),
            2 => config.route(Route::to("no-such-pool")).to_toml(),
            3 => config.slot(slot().set("config.refuse", true)).to_toml(),
            _ => config.slot(Slot::classify("bad", "none.wasm")).to_toml(),
        }
    }

    fn write_config(&self, proxy: &Proxy, text: &str) {
        self.write(proxy, "sluicegate.toml", text.as_bytes());
    }

    /// Writes in place and by a rename in turn.
    fn write(&self, proxy: &Proxy, name: &str, bytes: &[u8]) {
        match self.count.is_multiple_of(2) {
            true => std::fs::write(proxy.folder().join(name), bytes).unwrap(),
            false => proxy.put_file(name, bytes),
        }
    }
}

/// Rounds that refused something. Slots have a count of their own, which is a moment ahead.
async fn refusals(proxy: &Proxy) -> f64 {
    let metrics = proxy.metrics().await;
    let of = |result| metrics.sum("sluicegate_reloads_total", &[("result", result)]);
    of("refused") + of("partial")
}

async fn await_refusal(proxy: &Proxy, before: f64) {
    eventually("the bad change is refused", async || {
        let now = refusals(proxy).await;
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
}

/// With CPU time to spare: on a virtual machine, what the host takes of a core is charged to the call
/// that runs on it.
fn patient(slot: Slot) -> Slot {
    slot.set("cpu_time", "100ms")
}
