//! A plugin that keeps faulting is taken off the path, shown, and tried again.

use super::guest::Guest;
use super::*;

async fn loaded(bench: &Bench, after: u32, on_failure: OnFailure) -> Arc<Plugin> {
    let mut slot = bench.slot(&Guest::default());
    slot.quarantine_after = after;
    slot.on_failure = on_failure;
    bench.take(Arc::new(slot)).await.unwrap()
}

fn quarantined(bench: &Bench) -> i64 {
    bench
        .metrics
        .plugin_quarantined
        .with_label_values(&["test"])
        .get()
}

/// Faults until the plugin is off the path.
async fn fault(bench: &Bench, plugin: &Plugin, command: &str, times: usize) {
    for _ in 0..times {
        idle(plugin, 1).await;
        let _ = ask(plugin, command).await;
    }
    assert_eq!(quarantined(bench), 1);
}

#[tokio::test]
async fn plugin_that_keeps_faulting_is_not_called_until_a_probe_goes_well() {
    let bench = Bench::new();
    let plugin = loaded(&bench, 3, OnFailure::Skip).await;
    fault(&bench, &plugin, "t", 3).await;
    assert_eq!(ask(&plugin, "auto").await, Ok(None), "not called");
    assert_eq!(
        (bench.counted("trap"), bench.counted("quarantined")),
        (3, 1)
    );
    let status = plugin.status();
    assert_eq!(status.state, "quarantined");
    assert!(status.next_probe_ms.is_some());
    assert_eq!(status.last_error.unwrap().kind, "trap");

    plugin.inner.breaker.make_due();
    idle(&plugin, INSTANCES).await;
    assert!(ask(&plugin, "auto").await.unwrap().is_some(), "the probe");
    assert_eq!(quarantined(&bench), 0);
    assert_eq!(full(&plugin).await.next_probe_ms, None);
}

#[tokio::test]
async fn probe_that_faults_leaves_it_off_the_path() {
    let bench = Bench::new();
    let plugin = loaded(&bench, 1, OnFailure::Skip).await;
    fault(&bench, &plugin, "n", 1).await;
    plugin.inner.breaker.make_due();
    idle(&plugin, INSTANCES).await;
    assert_eq!(ask(&plugin, "n").await, Ok(None));
    assert_eq!(bench.counted("invalid_output"), 2);
    assert_eq!(ask(&plugin, "auto").await, Ok(None));
    assert_eq!(bench.counted("quarantined"), 1);
}

#[tokio::test]
async fn what_a_plugin_reports_itself_is_no_fault() {
    let bench = Bench::new();
    let plugin = loaded(&bench, 1, OnFailure::Skip).await;
    for command in ["i", "u", "i", "u"] {
        assert_eq!(ask(&plugin, command).await, Ok(None));
    }
    assert!(ask(&plugin, "auto").await.unwrap().is_some());
    assert_eq!(quarantined(&bench), 0);
}

#[tokio::test]
async fn quarantine_denies_where_the_slot_says_so() {
    let bench = Bench::new();
    let plugin = loaded(&bench, 1, OnFailure::Deny).await;
    fault(&bench, &plugin, "t", 1).await;
    assert!(ask(&plugin, "auto").await.is_err());
}

#[tokio::test]
async fn swap_begins_anew() {
    let bench = Bench::new();
    let plugin = loaded(&bench, 1, OnFailure::Skip).await;
    fault(&bench, &plugin, "t", 1).await;
    let next = bench
        .load(&Guest {
            label: "chat",
            ..Guest::default()
        })
        .await;
    drop(plugin);
    assert_eq!(quarantined(&bench), 0);
    assert!(ask(&next, "auto").await.unwrap().is_some());
}

/// Waits until so many instances are idle, whatever the breaker says.
async fn idle(plugin: &Plugin, instances: usize) {
    eventually("instances are idle", || match plugin.inner.pool.idle() {
        idle if idle < instances => Err(idle),
        _ => Ok(()),
    })
    .await;
}
