//! How a component gets in, and why it does not.

use std::collections::HashSet;

use prometheus::proto::MetricFamily;

use super::guest::{Guest, ISSUES, fixed_stage};
use super::*;
use crate::plugin::LoadError;
use crate::plugin::failure::FailureKind;
use crate::telemetry::forget::{KEPT, Names};

#[tokio::test]
async fn each_wrong_file_is_refused_with_what_to_do() {
    let bench = Bench::new();
    let good = Guest::default().build();
    let module = wat::parse_str("(module)").unwrap();
    let empty_component = wat::parse_str("(component)").unwrap();
    let cut = &good[..good.len() * 2 / 3];
    for (bytes, hint) in [
        (&b""[..], "empty"),
        (b"#!/bin/sh\necho hello\n", "--target wasm32-wasip2"),
        (&module, "wasm-tools component new"),
        (cut, "cut off"),
        (&empty_component, "SDK's macro"),
    ] {
        let refusal = bench.refusal(bytes).await;
        assert!(refusal.contains(hint), "{hint}: {refusal}");
    }
    assert_eq!(bench.refused(), 5);
    assert!(
        bench
            .host
            .refused(&SlotName::new("test"))
            .unwrap()
            .error
            .contains("SDK's macro")
    );
}

#[tokio::test]
async fn missing_file_and_large_file_are_refused() {
    let bench = Bench::new();
    let refused = bench
        .take(Arc::new(slot(&bench.path("no.wasm"))))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, LoadError::Read { .. }));
    let mut slot = bench.slot(&Guest::default());
    slot.max_component_bytes = 100;
    let refused = bench.take(Arc::new(slot)).await.err().unwrap().to_string();
    assert!(refused.contains("max_component_bytes = 100"), "{refused}");
}

#[tokio::test]
async fn component_of_another_hash_is_refused() {
    let bench = Bench::new();
    let mut slot = bench.slot(&Guest::default());
    slot.sha256 = Some([7; 32]);
    let refused = bench.take(Arc::new(slot)).await.err().unwrap();
    assert!(matches!(refused, LoadError::Sha256 { .. }), "{refused}");
}

#[tokio::test]
async fn plugin_of_another_stage_is_refused_by_name() {
    let bench = Bench::new();
    let exports = [("compress@0.1.0#compress", "(param i32)")];
    let compressor = fixed_stage("compressor", &exports, &[0, 0, 0]);
    let guest = Guest {
        stage: Some(compressor),
        ..Guest::default()
    };
    let refused = bench
        .take(Arc::new(bench.slot(&guest)))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("`compress`") && refused.contains("`classify`"),
        "{refused}"
    );
}

#[tokio::test]
async fn component_that_wants_the_network_is_refused() {
    let guest = Guest {
        packages: &["package wasi:sockets@0.2.0; interface tcp { listen: func(); }"],
        wit: "import wasi:sockets/tcp@0.2.0;",
        imports: r#"(import "wasi:sockets/tcp@0.2.0" "listen" (func $listen))"#,
        extra: "(call $listen)",
        ..Guest::default()
    };
    let bench = Bench::new();
    let refused = bench
        .take(Arc::new(bench.slot(&guest)))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("`wasi:sockets/tcp@0.2.0`"), "{refused}");
}

#[tokio::test]
async fn config_is_validated_by_the_plugins_schema() {
    let guest = Guest {
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "threshold": {"type": "number", "maximum": 1},
            "words": {"type": "array", "items": {"type": "string"}}}}"#,
        ..Guest::default()
    };
    let bench = Bench::new();
    let mut slot = bench.slot(&guest);
    slot.config = serde_json::json!({"threshold": "hunter2", "words": ["a", 5]});
    let refused = bench.take(Arc::new(slot.clone())).await.err().unwrap();
    let LoadError::Config { issues } = refused else {
        panic!("{refused}")
    };
    assert!(
        issues
            .iter()
            .all(|issue| !issue.message.contains("hunter2")),
        "a value may be a secret: {issues:?}"
    );
    let mut pointers: Vec<&str> = issues.iter().map(|issue| issue.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/threshold", "/words/1"]);
    slot.config = serde_json::json!({"threshold": 0.5});
    assert!(bench.take(Arc::new(slot)).await.is_ok());
}

#[tokio::test]
async fn plugin_without_a_schema_finds_faults_in_its_config_itself() {
    const NO: &str = "i32.const 9472";
    assert_eq!(ISSUES, 9472);
    let bench = Bench::new();
    let load = async |configure| {
        let guest = Guest {
            configure,
            ..Guest::default()
        };
        let mut slot = bench.slot(&guest);
        slot.config = serde_json::json!({"threshold": 3});
        bench.take(Arc::new(slot)).await
    };
    assert!(load(None).await.is_ok());
    let refused = load(Some(NO)).await.err().unwrap();
    assert!(matches!(refused, LoadError::Config { .. }), "{refused}");
}

#[tokio::test]
async fn plugin_that_refuses_its_config_is_refused_with_its_words() {
    const NO: &str = "i32.const 9472";
    assert_eq!(ISSUES, 9472);
    let bench = Bench::new();
    let guest = Guest {
        configure: Some(NO),
        ..Guest::default()
    };
    let refused = bench
        .take(Arc::new(bench.slot(&guest)))
        .await
        .err()
        .unwrap();
    assert!(
        refused
            .to_string()
            .contains("`/threshold`: must not exceed the limit"),
        "{refused}"
    );
}

#[tokio::test]
async fn plugin_that_hangs_before_it_serves_is_refused() {
    let bench = Bench::new();
    let guest = Guest {
        describe: Some("(loop $l (br $l)) unreachable"),
        ..Guest::default()
    };
    let refused = bench
        .take(Arc::new(bench.slot(&guest)))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, LoadError::Describe(_)), "{refused}");
    let guest = Guest {
        configure: Some("(loop $l (br $l)) unreachable"),
        ..Guest::default()
    };
    let mut slot = bench.slot(&guest);
    slot.configure_timeout = Duration::from_millis(20);
    let refused = bench.take(Arc::new(slot)).await.err().unwrap();
    assert!(matches!(refused, LoadError::Configure(_)), "{refused}");
}

#[tokio::test]
async fn plugin_that_fails_the_built_in_request_is_refused() {
    let bench = Bench::new();
    // An upper-case label breaks the contract.
    let guest = Guest {
        label: "Code",
        ..Guest::default()
    };
    let refused = bench
        .take(Arc::new(bench.slot(&guest)))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("label `Code`"), "{refused}");
}

#[tokio::test]
async fn unchanged_slot_keeps_its_plugin() {
    let bench = Bench::new();
    let slot = bench.slot(&Guest::default());
    let first = bench.take(Arc::new(slot.clone())).await.unwrap();
    let again = bench.take(Arc::new(slot.clone())).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));

    let mut changed = slot.clone();
    changed.max_output_bytes = 1 << 16;
    let second = bench.take(Arc::new(changed)).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(
        (first.status().generation, second.status().generation),
        (1, 2)
    );

    // Back to the first settings: a new candidate with a new number, though the first still lives.
    let third = bench.take(Arc::new(slot)).await.unwrap();
    assert_eq!(third.status().generation, 3);
}

#[tokio::test]
async fn bad_candidate_leaves_the_running_plugin_alone() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    bench.refusal(b"nonsense").await;
    let status = plugin.status();
    assert!(
        status
            .refused_candidate
            .unwrap()
            .error
            .contains("no WebAssembly")
    );
    assert!(ask(&plugin, "auto").await.unwrap().is_some());
    let next = bench
        .load(&Guest {
            label: "chat",
            ..Guest::default()
        })
        .await;
    assert_eq!(next.status().generation, 2, "the bad one got no number");
    assert!(next.status().refused_candidate.is_none());
}

#[tokio::test]
async fn superseded_pool_is_freed() {
    let bench = Bench::new();
    let idle = bench
        .metrics
        .plugin_idle_instances
        .with_label_values(&["test"]);
    let pools = bench.metrics.plugin_pools.with_label_values(&["test"]);
    let live = || {
        bench
            .host
            .engine
            .engine()
            .pooling_allocator_metrics()
            .unwrap()
            .component_instances()
    };
    let first = bench.load(&Guest::default()).await;
    let second = bench
        .load(&Guest {
            label: "chat",
            ..Guest::default()
        })
        .await;
    assert_eq!((live(), idle.get(), pools.get()), (6, 6, 2));
    let busy = first.inner.pool.take().unwrap();
    drop(first);
    assert_eq!(
        (live(), idle.get(), pools.get()),
        (4, 3, 2),
        "idle ones at once, the busy one and its code not"
    );
    busy.finish(true);
    assert_eq!((live(), idle.get(), pools.get()), (3, 3, 1));
    assert!(ask(&second, "auto").await.unwrap().is_some());
}

#[tokio::test]
async fn slots_and_plugins_under_ever_new_names_are_forgotten() {
    let bench = Bench::new();
    let mut running = None;
    for number in 0..3 * KEPT {
        let guest = Guest {
            // Every other plugin takes a new name, too: its metrics are families of their own.
            name: match number % 2 {
                0 => Box::leak(format!("guest-{number}").into_boxed_str()),
                _ => "guest",
            },
            counter: Some(("matches", "Keywords that matched.")),
            ..Guest::default()
        };
        let mut slot = bench.slot(&guest);
        slot.name = SlotName::new(&format!("slot-{number}"));
        let plugin = bench.take(Arc::new(slot)).await.unwrap();
        let named = HashSet::from([&plugin.slot().name]);
        // What ran until now is still in use.
        let used = bench.host.forget_slots(&named);
        assert_eq!(used.len(), if number == 0 { 1 } else { 2 }, "{used:?}");
        bench.metrics.forget_gone(&Names {
            slots: used,
            ..Names::default()
        });
        running = Some(plugin);
    }
    drop(running);
    let families = bench.metrics.registry().gather();
    for family in &families {
        let series = family.get_metric().len();
        // A slot has a counter for each way in which a call ends.
        let most = KEPT + 2 * (FailureKind::ALL.len() + 1);
        assert!(series <= most, "{} has {series} series", family.name());
    }
    let of_plugins =
        |family: &&_| MetricFamily::name(family).starts_with("sluicegate_plugin_guest");
    let declared = families.iter().filter(of_plugins).count();
    assert!(declared <= KEPT + 2, "{declared} families of plugins");
}

#[tokio::test]
async fn many_generations_fit_the_room_for_two() {
    let bench = Bench::new();
    let mut plugin = bench.load(&Guest::default()).await;
    for generation in 2..20 {
        let label = if generation % 2 == 0 { "chat" } else { "code" };
        plugin = bench
            .load(&Guest {
                label,
                ..Guest::default()
            })
            .await;
        assert_eq!(plugin.status().generation, generation);
    }
    assert!(ask(&plugin, "auto").await.unwrap().is_some());
}

#[tokio::test]
async fn too_many_instances_are_refused_with_the_setting() {
    let bench = Bench::new();
    let mut slot = bench.slot(&Guest::default());
    slot.spares = 100;
    let refused = bench.take(Arc::new(slot)).await.err().unwrap().to_string();
    assert!(refused.contains("max_instances"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_written_file_is_awaited() {
    let bench = Bench::new();
    let slot = bench.slot(&Guest::default());
    let whole = Guest::default().build();
    let path = bench.path("guest.wasm");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let host = Arc::clone(&bench.host);
    let (loaded, ()) = tokio::join!(host.load(Arc::new(slot), PATIENCE), async {
        #[expect(clippy::disallowed_methods, reason = "a slow writer is played")]
        tokio::time::sleep(Duration::from_millis(50)).await;
        fs::write(&path, &whole).unwrap();
    });
    assert!(loaded.is_ok());
    assert_eq!(bench.refused(), 0);
}

#[tokio::test]
async fn second_host_finds_the_compiled_component() {
    let bench = Bench::new();
    bench.load(&Guest::default()).await;
    let compiled = fs::read_dir(bench.path("compiled")).unwrap().count();
    assert_eq!(compiled, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bundled_plugin_loads_in_its_stage_and_answers() {
    let bench = Bench::new();
    for (name, kind) in [
        ("keyword-classifier", SlotKind::Classify),
        ("topk-compressor", SlotKind::Compress),
        ("default-cache-policy", SlotKind::CachePolicy),
    ] {
        let mut slot = slot(&bench.path("unused"));
        slot.source = Source::Builtin(name.to_owned());
        slot.name = SlotName::new(name);
        slot.kind = kind;
        slot.memory_bytes = 16 << 20;
        slot.spares = 0;
        slot.cpu_time = if kind == SlotKind::Compress {
            slot.cpu_time * 4
        } else {
            slot.cpu_time
        };
        let plugin = bench.take(Arc::new(slot)).await;
        let plugin = plugin.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(plugin.status().name, name);
    }
}

#[tokio::test]
async fn unknown_builtin_is_refused_with_the_known_names() {
    let bench = Bench::new();
    let mut slot = slot(&bench.path("unused"));
    slot.source = Source::Builtin("keyword-clasifier".to_owned());
    let refused = bench.take(Arc::new(slot)).await.err().unwrap().to_string();
    assert!(refused.contains("keyword-classifier"), "{refused}");
}
