//! What happens to a request: answers, faults, limits.

use super::guest::{Guest, STAGE_RESULT, fixed_stage};
use super::*;
use crate::config::TextWindow;
use crate::plugin::{
    AnswerFacts, Budget, Finish, Scope, Summary, admit, classify, compress, decide,
};

#[tokio::test]
async fn classifier_answers() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    let opinion = ask(&plugin, "auto").await.unwrap().unwrap();
    let label = opinion.label.unwrap();
    assert_eq!((label.label.as_str(), label.confidence), ("code", 0.9));
    assert_eq!(bench.counted("ok"), 1);
    assert_eq!(plugin.status().calls, 1, "the smoke call is not a request");
}

/// Every fault: what it counts as, and that the next request is served by a fresh instance.
#[tokio::test]
async fn faults_are_counted_and_the_instance_replaced() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    for (command, kind) in [
        ("l", "deadline"),
        ("t", "trap"),
        ("m", "out_of_memory"),
        ("o", "output_too_large"),
    ] {
        assert_eq!(ask(&plugin, command).await, Ok(None), "{kind}");
        assert_eq!(bench.counted(kind), 1, "{kind}");
        let status = full(&plugin).await;
        assert_eq!(status.failures[kind], 1);
        assert_eq!(status.last_error.unwrap().kind, kind);
        assert!(
            ask(&plugin, "auto").await.unwrap().is_some(),
            "after {kind}"
        );
    }
    assert_eq!(bench.counted("ok"), 4);
    assert_eq!(plugin.status().calls, 8);
}

#[tokio::test]
async fn endless_loop_ends_soon_after_its_cpu_budget() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    let before = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    assert_eq!(ask(&plugin, "l").await, Ok(None));
    let after = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let used = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1_000_000;
    // The budget of 5 ms, a tick until its clock begins, a tick until it is seen, and room for a
    // busy machine.
    assert!((4..=25).contains(&used), "{used} ms of CPU");
}

#[tokio::test]
async fn failures_that_a_plugin_reports_leave_its_instance_alive() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    assert_eq!(ask(&plugin, "i").await, Ok(None));
    let status = plugin.status();
    assert_eq!(
        (status.failures["internal"], status.idle_instances),
        (1, INSTANCES)
    );
    assert_eq!(status.last_error.unwrap().detail, "a bug\\nof my own");
}

#[tokio::test]
async fn invalid_output_is_refused_whole() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    assert_eq!(ask(&plugin, "n").await, Ok(None));
    let status = plugin.status();
    assert_eq!(
        (status.failures["invalid_output"], status.idle_instances),
        (1, INSTANCES)
    );
    assert!(status.last_error.unwrap().detail.contains("confidence NaN"));
}

#[tokio::test]
async fn on_failure_deny_refuses_but_not_for_unsupported() {
    let bench = Bench::new();
    let mut slot = bench.slot(&Guest::default());
    slot.on_failure = OnFailure::Deny;
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    let denied = ask(&plugin, "t").await.unwrap_err();
    assert_eq!(denied.slot.as_str(), "test");
    assert_eq!(ask(&plugin, "u").await, Ok(None));
    assert_eq!(bench.counted("unsupported"), 1);
    assert!(
        plugin.status().last_error.unwrap().kind == "trap",
        "unsupported is no error"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_traps_in_a_row_leave_the_pool_full() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    for _ in 0..100 {
        // One may come before the refill: then it counts as `no_instance`, and that is no trap.
        while plugin.status().idle_instances == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&plugin, "t").await, Ok(None));
    }
    assert_eq!(bench.counted("trap"), 100);
    full(&plugin).await;
    assert!(ask(&plugin, "auto").await.unwrap().is_some());
}

#[tokio::test]
async fn call_without_an_instance_does_not_wait() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    let leases: Vec<_> = (0..INSTANCES)
        .map(|_| plugin.inner.pool.take().unwrap())
        .collect();
    assert_eq!(ask(&plugin, "auto").await, Ok(None));
    assert_eq!(bench.counted("no_instance"), 1);
    leases.into_iter().for_each(|lease| lease.finish(true));
    assert!(ask(&plugin, "auto").await.unwrap().is_some());
}

#[tokio::test]
async fn instance_is_replaced_after_its_calls() {
    let bench = Bench::new();
    let mut slot = bench.slot(&Guest::default());
    slot.max_calls = 2;
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    for _ in 0..2 {
        assert!(ask(&plugin, "auto").await.unwrap().is_some());
    }
    assert_eq!(plugin.status().idle_instances, INSTANCES - 1, "worn out");
    full(&plugin).await;
}

/// With every core taken by eight others, a call of some microseconds often sees several ticks pass.
#[tokio::test]
async fn busy_machine_kills_no_call() {
    const CALLS: u64 = 20_000;
    let cores = std::thread::available_parallelism().unwrap().get();
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 * cores {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let calls = async {
            for _ in 0..CALLS {
                // Counted below: a panic here would leave the others spinning.
                let _ = ask(&plugin, "w").await;
            }
        };
        futures::executor::block_on(calls);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(
        bench.counted("ok"),
        CALLS,
        "last: {:?}",
        plugin.status().last_error
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_texts_go_over_on_a_blocking_thread() {
    let bench = Bench::new();
    let plugin = bench.load(&Guest::default()).await;
    let large = prompt("auto", vec![message(Role::User, &"é".repeat(300 * 1024))]);
    let headers = HeaderMap::new();
    // As many spare instances as there are: the workers' own is left to them.
    let calls = (0..8).map(|_| async {
        let cx = context(&large, &headers);
        classify(&plugin, &cx).await.unwrap().is_some()
    });
    assert_eq!(futures::future::join_all(calls).await, [true; 8]);
    assert_eq!(bench.counted("ok"), 8);
}

/// Rust's panic message goes through standard error, by a blocking write: on a worker that must
/// neither wait nor panic.
#[tokio::test]
async fn what_a_faulting_guest_printed_is_in_the_error() {
    let guest = Guest {
        packages: &[
            "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }
             interface error { resource error; }
             interface streams { use error.{error};
               variant stream-error { last-operation-failed(error), closed }
               resource output-stream {
                 blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; } }",
            "package wasi:cli@0.2.0; interface stderr { use wasi:io/streams@0.2.0.{output-stream};
               get-stderr: func() -> output-stream; }",
            "package wasi:clocks@0.2.0; interface monotonic-clock {
               use wasi:io/poll@0.2.0.{pollable}; now: func() -> u64;
               subscribe-duration: func(when: u64) -> pollable; }",
        ],
        wit: "import wasi:cli/stderr@0.2.0; import wasi:io/streams@0.2.0;
              import wasi:io/poll@0.2.0; import wasi:clocks/monotonic-clock@0.2.0;",
        imports: r#"
            (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
            (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
              (func $write (param i32 i32 i32 i32)))
            (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $close (param i32)))
            (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
            (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
            (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
              (func $timer (param i64) (result i32)))"#,
        // Sleeps for an hour, which takes no time by any clock; prints its version; dies.
        extra: "(local.set $n (i32.wrap_i64 (call $now)))
                (call $block (call $timer (i64.const 3600000000000)))
                (if (i32.ne (local.get $n) (i32.wrap_i64 (call $now))) (then (return (i32.const 0))))
                (local.set $n (call $stderr))
                (call $write (local.get $n) (i32.const 65552) (i32.const 5) (i32.const 32))
                (call $close (local.get $n))
                unreachable",
        ..Guest::default()
    };
    let bench = Bench::new();
    let plugin = bench.load(&guest).await;
    assert_eq!(ask(&plugin, "z").await, Ok(None));
    let error = plugin.status().last_error.unwrap();
    assert_eq!(error.kind, "trap");
    assert!(
        error.detail.ends_with("it printed: 1.0.0"),
        "{}",
        error.detail
    );
}

#[tokio::test]
async fn log_is_bounded_in_a_call() {
    let guest = Guest {
        imports: r#"(import "sluicegate:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#,
        extra: "(local.set $n (i32.const 20))
                (loop $again
                  (call $log (i32.const 3) (i32.const 65552) (i32.const 5))
                  (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                  (br_if $again (local.get $n)))",
        ..Guest::default()
    };
    let bench = Bench::new();
    let plugin = bench.load(&guest).await;
    assert!(ask(&plugin, "z").await.unwrap().is_some());
    let dropped = bench
        .metrics
        .plugin_dropped
        .with_label_values(&["test", "log"]);
    assert_eq!(dropped.get(), 4);
    ask(&plugin, "z").await.unwrap();
    assert_eq!(dropped.get(), 8, "each call has its own sixteen");
}

#[tokio::test]
async fn prompt_read_is_bounded_by_the_slot() {
    // Reads all of the first text and dies unless the host gave it.
    let guest = Guest {
        imports: r#"(import "sluicegate:plugin/prompt@0.1.0" "read"
                      (func $read (param i32 i32 i32 i32 i32)))"#,
        extra:
            "(call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 100) (i32.const 64))
                (if (i32.load8_u (i32.const 64)) (then unreachable))
                (if (i32.ne (i32.load (i32.const 76)) (i32.const 5)) (then unreachable))",
        ..Guest::default()
    };
    let bench = Bench::new();
    let mut slot = bench.slot(&guest);
    slot.text = Some(TextWindow::Window { head: 1, tail: 1 });
    let generous = bench.take(Arc::new(slot.clone())).await.unwrap();
    assert!(ask(&generous, "z").await.unwrap().is_some());
    slot.read_bytes = 4;
    let tight = bench.take(Arc::new(slot)).await.unwrap();
    assert_eq!(ask(&tight, "z").await, Ok(None));
}

#[tokio::test]
async fn declared_metrics_are_counted_across_generations() {
    let counting = |label| Guest {
        label,
        counter: Some(("matches", "Keywords that matched.")),
        imports: r#"(import "sluicegate:plugin/metrics@0.1.0" "add" (func $add (param i32 i32)))"#,
        extra: "(call $add (i32.const 0) (i32.const 2)) (call $add (i32.const 7) (i32.const 1))",
        ..Guest::default()
    };
    let bench = Bench::new();
    for label in ["code", "chat"] {
        let plugin = bench.load(&counting(label)).await;
        assert!(ask(&plugin, "z").await.unwrap().is_some());
    }
    let text = bench.metrics.text().unwrap();
    let line = "sluicegate_plugin_test_guest_matches_total{slot=\"test\"} 4";
    assert!(text.lines().any(|found| found == line), "{text}");
    let undeclared = bench
        .metrics
        .plugin_dropped
        .with_label_values(&["test", "metric"]);
    assert_eq!(undeclared.get(), 2);

    let other = Guest {
        counter: Some(("matches", "Something else.")),
        ..Guest::default()
    };
    let refused = bench
        .take(Arc::new(bench.slot(&other)))
        .await
        .err()
        .unwrap();
    assert!(
        refused.to_string().contains("another kind or help"),
        "{refused}"
    );
}

#[tokio::test]
async fn clock_needs_grant_and_wish() {
    let guest = |wants_clock| Guest {
        wants_clock,
        imports: r#"(import "sluicegate:plugin/clock@0.1.0" "unix-seconds" (func $time (param i32)))"#,
        // Dies unless it was told the time.
        extra: "(call $time (i32.const 64)) (if (i32.load8_u (i32.const 64)) (then unreachable))",
        ..Guest::default()
    };
    let bench = Bench::new();
    let refused = bench
        .take(Arc::new(bench.slot(&guest(true))))
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("needs `clock`"), "{refused}");
    for (wants, told) in [(true, true), (false, false)] {
        let mut slot = bench.slot(&guest(wants));
        slot.grant_clock = true;
        let plugin = bench.take(Arc::new(slot)).await.unwrap();
        assert_eq!(
            ask(&plugin, "z").await.unwrap().is_some(),
            told,
            "wanted: {wants}"
        );
    }
}

/// A compressor that wants to drop one message, whatever it is asked.
fn dropper(message: u32) -> Guest {
    let (history, outdated) = (2, 4);
    let list = [0, STAGE_RESULT + 12, 1];
    let edit = [0, message, 0, 0, 0, 0, 0, history | outdated << 8];
    let exports = [("compress@0.1.0#compress", "(param i32)")];
    let stage = fixed_stage("compressor", &exports, &[&list[..], &edit[..]].concat());
    Guest {
        stage: Some(stage),
        ..Guest::default()
    }
}

#[tokio::test]
async fn compressor_edits_become_a_plan() {
    let bench = Bench::new();
    let mut slot = bench.slot(&dropper(0));
    slot.kind = SlotKind::Compress;
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    let headers = HeaderMap::new();
    let wish = Budget {
        target_tokens: Some(10),
        label: None,
        language: None,
    };

    let long = vec![
        message(Role::User, "first"),
        message(Role::Assistant, "answer"),
        message(Role::User, "second"),
    ];
    let prompt_of_three = prompt("auto", long);
    let done = compress(&plugin, &context(&prompt_of_three, &headers), &wish).await;
    let done = done.unwrap().unwrap();
    assert_eq!(done.plan.messages[0], sluicegate_edits::MessagePlan::Drop);

    // Here the same edit would drop the last user message.
    let short = prompt("auto", vec![message(Role::User, "only")]);
    let refused = compress(&plugin, &context(&short, &headers), &wish)
        .await
        .unwrap();
    assert!(refused.is_none());
    assert_eq!(
        (bench.counted("ok"), bench.counted("invalid_output")),
        (1, 1)
    );
}

#[tokio::test]
async fn compressor_that_touches_the_last_user_message_is_not_loaded() {
    let bench = Bench::new();
    let mut slot = bench.slot(&dropper(1));
    slot.kind = SlotKind::Compress;
    let refused = bench.take(Arc::new(slot)).await.err().unwrap().to_string();
    assert!(refused.contains("invalid_output"), "{refused}");
}

/// A decision that stores, for `ttl` seconds, ignoring the fields of `ignore`.
fn policy(ttl: u32, ignore: u32) -> Guest {
    let flags = 1 | 1 << 8;
    let scope_and_ignored = 1 | ignore << 8;
    let result = [0, flags, ttl, scope_and_ignored, 0, 0, 0, 0, 0, 0, 0];
    let exports = [("cache@0.1.0#decide", "(param i32)")];
    let mut stage = fixed_stage("cache-policy", &exports, &result);
    // `admit` admits: `ok(true)`.
    stage.functions.push_str(
        r#"(func (export "sluicegate:plugin/cache@0.1.0#admit")
             (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
             (i32.store8 (i32.const 128) (i32.const 0))
             (i32.store8 (i32.const 132) (i32.const 1))
             i32.const 128)"#,
    );
    Guest {
        stage: Some(stage),
        ..Guest::default()
    }
}

#[tokio::test]
async fn cache_policy_decides_and_admits() {
    let bench = Bench::new();
    let mut slot = bench.slot(&policy(60, 0));
    slot.kind = SlotKind::CachePolicy;
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    let prompt = prompt("auto", vec![message(Role::User, "Hello")]);
    let headers = HeaderMap::new();
    let cx = context(&prompt, &headers);
    let decision = decide(&plugin, &cx, &Summary::default())
        .await
        .unwrap()
        .unwrap();
    assert!(decision.lookup && decision.store);
    assert_eq!(
        (decision.ttl, decision.scope),
        (Duration::from_secs(60), Scope::Tenant)
    );
    let answer = AnswerFacts {
        request_id: "req-1".to_owned(),
        model: "m".to_owned(),
        fallback: false,
        finish: Finish::Stop,
        text_bytes: 2,
        head: "ok".to_owned(),
        prompt_tokens: 1,
        completion_tokens: 1,
        duration: Duration::from_millis(3),
        memo: String::new(),
    };
    assert_eq!(admit(&plugin, &answer).await, Some(true));
    assert_eq!(bench.counted("ok"), 2);
}

#[tokio::test]
async fn cache_policy_cannot_leave_out_what_is_not_granted() {
    let bench = Bench::new();
    // Bit 0: the model.
    let mut slot = bench.slot(&policy(60, 1));
    slot.kind = SlotKind::CachePolicy;
    let refused = bench
        .take(Arc::new(slot.clone()))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("ignores `model`"), "{refused}");
    slot.may_ignore = vec!["model".to_owned()];
    assert!(bench.take(Arc::new(slot)).await.is_ok());
}
