//! Fifty swaps under sixteen clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluicegate_tests::{
    Backend, Client, Config, Guest, Pool, Proxy, Route, Slot, ask, ask_streaming, ends_with_done,
    eventually, text_of,
};

const CLIENTS: usize = 16;
const SWAPS: usize = 50;
const SLOT: &str = "marked";
const FILE: &str = "marked.wasm";
const ANSWER: &str = "b t1 t2 t3";

/// What the clients saw.
#[derive(Default)]
struct Seen {
    labels: Mutex<BTreeMap<String, usize>>,
    sent: AtomicUsize,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

fn config(backend: &Backend, suffix: &str) -> Config {
    Config::new()
        .pool(Pool::new("main").backend(backend))
        .route(Route::to("main").set("compress", true))
        .slot(Slot::classify(SLOT, FILE).set("config.suffix", suffix))
        .slot(Slot::compress("compressor", "builtin:topk-compressor"))
        .slot(Slot::cache_policy("policy", "builtin:default-cache-policy"))
        .cached()
}

/// One client: streams and plain requests in turn, until told to stop.
async fn traffic(mut client: Client, number: usize, seen: Arc<Seen>) {
    let mut turn = number;
    while !seen.stop.load(Ordering::SeqCst) {
        turn += 1;
        let question = format!("client {number} asks for the {turn}th time");
        let streamed = turn.is_multiple_of(2);
        let request = if streamed {
            ask_streaming(&question)
        } else {
            ask(&question)
        };
        seen.sent.fetch_add(1, Ordering::SeqCst);
        let answer = match client.try_send(&request).await {
            Ok(answer) => answer,
            Err(error) => {
                seen.failures
                    .lock()
                    .unwrap()
                    .push(format!("{question}: {error}"));
                return;
            }
        };
        let whole = match (answer.status, streamed) {
            (200, true) => text_of(&answer.body) == ANSWER && ends_with_done(&answer.body),
            (200, false) => answer.json()["choices"][0]["message"]["content"] == ANSWER,
            _ => false,
        };
        if !whole {
            seen.failures
                .lock()
                .unwrap()
                .push(format!("{} {:?}", answer.status, answer.body));
        }
        let label = answer
            .header("x-sluicegate-label")
            .unwrap_or("none")
            .to_owned();
        *seen.labels.lock().unwrap().entry(label).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_swaps_under_load_fail_no_request_and_every_good_one_serves() {
    let guest = Guest::marked();
    let backend = Backend::model("b").await;
    backend.forget_bodies();
    backend.behave(|behaviour| behaviour.delay = Duration::from_millis(8));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), &guest.0).unwrap();
    let proxy = Proxy::start_in(folder, &config(&backend, ""), &[]).await;

    let seen = Arc::new(Seen::default());
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(traffic(proxy.client().await, number, Arc::clone(&seen)));
    }
    let good = swap_fifty_times(&proxy, &backend, &guest, &seen).await;
    seen.stop.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    proxy.await_idle().await;

    let failures = seen.failures.lock().unwrap().clone();
    let labels = seen.labels.lock().unwrap().clone();
    let sent = seen.sent.load(Ordering::SeqCst);
    eprintln!(
        "{sent} requests over {SWAPS} swaps, {} generations served",
        labels.len()
    );
    assert!(
        failures.is_empty(),
        "{} failures, the first: {:?}",
        failures.len(),
        failures.first()
    );
    let served: BTreeSet<String> = labels.keys().cloned().collect();
    assert_eq!(
        served, good,
        "good generations all serve, bad ones never: {labels:?}"
    );
    assert_eq!(
        backend.request_count(),
        sent,
        "one exchange for each request"
    );

    let metrics = proxy.metrics().await;
    for slot in [SLOT, "compressor"] {
        let calls = metrics.sum("sluicegate_plugin_calls_total", &[("slot", slot)]);
        let ok = [("slot", slot), ("result", "ok")];
        assert_eq!(
            calls,
            sent as f64,
            "{:?}",
            metrics.lines("sluicegate_plugin_calls")
        );
        assert_eq!(
            metrics.sum("sluicegate_plugin_calls_total", &ok),
            sent as f64
        );
    }
    // `decide` for each request, `admit` for each answer that it wants stored.
    let policy = metrics.sum("sluicegate_plugin_calls_total", &[("slot", "policy")]);
    assert!(
        policy >= sent as f64 && policy <= 2.0 * sent as f64,
        "{policy} of {sent}"
    );
}

/// Changes plugin and config, good and bad in turn; gives the labels of all good generations.
async fn swap_fifty_times(
    proxy: &Proxy,
    backend: &Backend,
    guest: &Guest,
    seen: &Seen,
) -> BTreeSet<String> {
    let (mut component, mut mark) = guest.with_label(0);
    let mut suffix = String::new();
    let mut good = BTreeSet::from([mark.clone()]);
    await_label(seen, &mark).await;
    for swap in 0..SWAPS {
        match swap % 4 {
            0 => {
                (component, mark) = guest.with_label(swap + 1);
                proxy.put_file(FILE, &component.0);
            }
            1 => {
                let refused = proxy.refused_reloads().await;
                proxy.put_file(FILE, &bad_component(&component, swap));
                await_refusal(proxy, refused).await;
                proxy.put_file(FILE, &component.0);
                continue;
            }
            2 => {
                suffix = format!("-c{swap}");
                proxy.put_config(&config(backend, &suffix));
            }
            _ => {
                let refused = proxy.refused_reloads().await;
                proxy.put_file("sluicegate.toml", bad_config(backend, swap).as_bytes());
                await_refusal(proxy, refused).await;
                proxy.put_config(&config(backend, &suffix));
                continue;
            }
        }
        let label = format!("{mark}{suffix}");
        await_label(seen, &label).await;
        good.insert(label);
    }
    good
}

/// A file that must not be loaded.
fn bad_component(good: &Guest, swap: usize) -> Vec<u8> {
    match swap / 4 % 3 {
        0 => b"this is no component".to_vec(),
        1 => good.0[..good.0.len() / 2].to_vec(),
        // Its label breaks the contract, which the smoke call shows.
        _ => {
            let mut bytes = good.0.clone();
            let place = bytes
                .windows(7)
                .position(|window| window == b"marked-")
                .unwrap();
            bytes[place..place + 7].copy_from_slice(b"MARKED!");
            bytes
        }
    }
}

/// A config that must not be run.
fn bad_config(backend: &Backend, swap: usize) -> String {
    let config = config(backend, "-bad");
    match swap / 4 % 4 {
        0 => config.to_toml() + "\n[routes",
        1 => config.set("cache.max_entriez", 5).to_toml(),
        2 => config.route(Route::to("no-such-pool")).to_toml(),
        _ => {
            let slot = Slot::classify("refusing", FILE).set("config.refuse", true);
            config.slot(slot).to_toml()
        }
    }
}

async fn await_label(seen: &Seen, label: &str) {
    eventually(&format!("a request is served by {label}"), async || {
        let labels = seen.labels.lock().unwrap();
        if labels.contains_key(label) {
            Ok(())
        } else {
            Err(labels.clone())
        }
    })
    .await;
}

async fn await_refusal(proxy: &Proxy, before: f64) {
    eventually("the bad candidate is refused", async || {
        let now = proxy.refused_reloads().await;
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
}
