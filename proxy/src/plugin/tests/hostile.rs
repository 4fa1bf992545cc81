//! Guests that mean harm, at run time: each is contained, counted as what it is, and leaves a plugin
//! that serves the next request.

use super::guest::Guest;
use super::*;

/// Where [`opinion`] puts its record.
const RECORD: u32 = 0x7000;

/// Code that answers with an opinion of these words, by their offsets in the result, and zeros.
fn opinion(words: &[(u32, u32)]) -> &'static str {
    let stores: String = words
        .iter()
        .map(|(offset, word)| {
            let address = RECORD + offset;
            format!(
                "(i32.store (i32.const {address}) (i32.const {}))",
                word.cast_signed()
            )
        })
        .collect();
    format!("{stores} (return (i32.const {RECORD}))").leak()
}

/// An opinion with a label that lies at `address`.
fn label_at(address: u32, len: u32, confidence: f32) -> &'static str {
    opinion(&[(4, 1), (8, address), (12, len), (16, confidence.to_bits())])
}

/// Code that writes a text to `0x8000` and labels the request with it.
fn label(text: &[u8]) -> &'static str {
    let stores: String = (0..)
        .zip(text)
        .map(|(place, byte): (u32, _)| {
            let address = 0x8000 + place;
            format!("(i32.store8 (i32.const {address}) (i32.const {byte}))")
        })
        .collect();
    let len = u32::try_from(text.len()).unwrap();
    (stores + label_at(0x8000, len, 0.5)).leak()
}

/// A guest that does this on the command `z`.
fn doing(extra: &'static str) -> Guest {
    Guest {
        extra,
        ..Guest::default()
    }
}

/// Loads a guest, has it do its worst, and sees that it is contained: one failure of that kind, a
/// pool that is full again, and an answer to the next request. Gives the failure's words.
async fn contained(guest: &Guest, kind: &str) -> String {
    contained_in(&Bench::new(), |_| {}, guest, kind).await
}

async fn contained_in(
    bench: &Bench,
    settings: impl FnOnce(&mut Slot),
    guest: &Guest,
    kind: &str,
) -> String {
    let mut slot = bench.slot(guest);
    settings(&mut slot);
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    assert_eq!(ask(&plugin, "z").await, Ok(None), "{kind}");
    let status = full(&plugin).await;
    let error = status.last_error.expect("a failure");
    assert_eq!(error.kind, kind, "{}", error.detail);
    assert_eq!(bench.counted(kind), 1, "{}", error.detail);
    assert!(ask(&plugin, "auto").await.unwrap().is_some(), "{kind}");
    error.detail
}

/// A loop over one host function, begun with `prepare`.
fn looping(imports: &'static str, body: &str) -> Guest {
    Guest {
        imports,
        extra: format!("(loop $again {body} (br $again))").leak(),
        ..Guest::default()
    }
}

#[tokio::test]
async fn endless_loops_through_host_calls_end_at_the_deadline() {
    let log = r#"(import "sluicegate:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let log_body = "(call $log (i32.const 3) (i32.const 0x20000) (i32.const 0x10000))";
    let tokens = r#"(import "sluicegate:plugin/tokens@0.1.0" "estimate" (func $count (param i32 i32) (result i32)))"#;
    let tokens_body = "(drop (call $count (i32.const 0x20000) (i32.const 0x10000)))";
    let metrics = r#"(import "sluicegate:plugin/metrics@0.1.0" "add" (func $add (param i32 i32)))"#;
    let metrics_body = "(call $add (i32.const 9) (i32.const 1))";
    let clock =
        r#"(import "sluicegate:plugin/clock@0.1.0" "unix-seconds" (func $time (param i32)))"#;
    let clock_body = "(call $time (i32.const 64))";
    for guest in [
        looping(log, log_body),
        looping(tokens, tokens_body),
        looping(metrics, metrics_body),
        looping(clock, clock_body),
    ] {
        contained(&guest, "deadline").await;
    }
}

/// What a plugin may read buys it time; reading the same again and again buys none.
#[tokio::test]
async fn reading_the_prompt_over_and_over_ends_soon() {
    let read = r#"(import "sluicegate:plugin/prompt@0.1.0" "read" (func $read (param i32 i32 i32 i32 i32)))"#;
    let body = "(global.set $heap (i32.const 1048576))
        (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 64))";
    let guest = looping(read, body);
    let bench = Bench::new();
    let mut slot = bench.slot(&guest);
    slot.text = Some(crate::config::TextWindow::Window { head: 1, tail: 1 });
    slot.read_bytes = 1 << 30;
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    let words = "x".repeat(1 << 16);
    let asked = prompt("z", vec![message(Role::User, &words)]);
    let headers = HeaderMap::new();
    let before = thread_cpu();
    let answer = crate::plugin::classify(&plugin, &context(&asked, &headers)).await;
    assert_eq!(answer, Ok(None));
    assert_eq!(bench.counted("deadline"), 1);
    // 5 ms, 1.3 ms for the 64 KiB that there are, two ticks, and room for a busy machine; what it
    // was let read would have bought twenty seconds.
    let used = thread_cpu() - before;
    assert!(used < Duration::from_millis(60), "{used:?} of CPU");
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

#[tokio::test]
async fn hoarded_handles_are_bounded() {
    let guest = Guest {
        packages: &[
            "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }",
            "package wasi:clocks@0.2.0; interface monotonic-clock {
               use wasi:io/poll@0.2.0.{pollable};
               subscribe-duration: func(when: u64) -> pollable; }",
        ],
        wit: "import wasi:io/poll@0.2.0; import wasi:clocks/monotonic-clock@0.2.0;",
        imports: r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
              (func $timer (param i64) (result i32)))"#,
        extra: "(loop $again (drop (call $timer (i64.const 1))) (br $again))",
        ..Guest::default()
    };
    let detail = contained(&guest, "trap").await;
    assert!(detail.contains("handle"), "{detail}");
}

#[tokio::test]
async fn memory_tables_and_stack_have_their_bounds() {
    contained(
        &doing(
            "(loop $more (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1))
               (then unreachable)) (br $more))",
        ),
        "out_of_memory",
    )
    .await;
    let table = Guest {
        items: "(table $wide 1 funcref)",
        extra: "(loop $more (if (i32.eq (table.grow $wide (ref.null func) (i32.const 1000))
                  (i32.const -1)) (then unreachable)) (br $more))",
        ..Guest::default()
    };
    contained(&table, "trap").await;
    let stack = Guest {
        items: "(func $deep (param i32) (call $deep (i32.add (local.get 0) (i32.const 1))))",
        extra: "(call $deep (i32.const 0))",
        ..Guest::default()
    };
    let detail = contained(&stack, "trap").await;
    assert!(detail.contains("stack"), "{detail}");
}

#[tokio::test]
async fn hundred_mebibytes_of_output_are_never_copied() {
    // 1,600 reasons that are all the same 64 KiB.
    let list: String = (0..1600)
        .map(|reason| {
            let at = 0x30000 + reason * 8;
            format!(
                "(i32.store (i32.const {at}) (i32.const 0x20000))
                 (i32.store (i32.const {}) (i32.const 0x10000))",
                at + 4
            )
        })
        .collect();
    let reasons = opinion(&[(60, 0x30000), (64, 1600)]);
    contained(&doing((list + reasons).leak()), "output_too_large").await;

    // A million texts without a byte: small for the guest, not for the host.
    let empty = "(drop (memory.grow (i32.const 122)))".to_owned();
    let nothing = opinion(&[(60, 1 << 20), (64, 1_000_000)]);
    let bench = Bench::new();
    let roomy = |slot: &mut Slot| slot.memory_bytes = 16 << 20;
    contained_in(
        &bench,
        roomy,
        &doing((empty + nothing).leak()),
        "output_too_large",
    )
    .await;
}

#[tokio::test]
async fn results_that_point_nowhere_are_faults() {
    for extra in [
        // Past the end of the memory, around its end, and a result that is nowhere itself.
        label_at(0xffff_fff0, 100, 0.5),
        label_at(0x10, u32::MAX, 0.5),
        "(return (i32.const -4))",
        "(return (i32.const 3))",
        // A case that does not exist, of a result and of an option.
        opinion(&[(0, 7)]),
        opinion(&[(4, 9)]),
        label(b"\xff\xfe"),
    ] {
        contained(&doing(extra), "trap").await;
    }
}

#[tokio::test]
async fn labels_that_forge_headers_or_are_huge_never_pass() {
    for text in [
        &b"code\r\nx-evil: 1"[..],
        b"code\nx",
        b"a\0b",
        b"\x1b[2Jcode",
        b"",
        "ｃｏｄｅ".as_bytes(),
    ] {
        let detail = contained(&doing(label(text)), "invalid_output").await;
        assert!(!detail.contains(char::is_control), "{detail:?}");
    }
    let almost_a_mebibyte = label_at(0x11_0000, 0xE_0000, 0.5);
    let detail = contained(&doing(almost_a_mebibyte), "invalid_output").await;
    assert!(detail.len() < 1024, "cut to what a log can hold");
}

#[tokio::test]
async fn confidences_that_are_no_fraction_never_pass() {
    for confidence in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.01, 1.01] {
        contained(&doing(label_at(0x10000, 4, confidence)), "invalid_output").await;
    }
}

#[tokio::test]
async fn allocators_that_lie_hang_or_die_are_faults() {
    // Only for a large text, so that the built-in request gets through.
    for (realloc, kind) in [
        ("(return (i32.const -16))", "trap"),
        ("unreachable", "trap"),
        ("(loop $again (br $again))", "deadline"),
    ] {
        let guest = Guest {
            realloc: format!("(if (i32.gt_u (local.get $size) (i32.const 8192)) (then {realloc}))")
                .leak(),
            ..Guest::default()
        };
        let bench = Bench::new();
        let plugin = bench.load(&guest).await;
        let large = prompt("auto", vec![message(Role::User, &"x".repeat(10_000))]);
        let headers = HeaderMap::new();
        let answer = crate::plugin::classify(&plugin, &context(&large, &headers)).await;
        assert_eq!((answer, bench.counted(kind)), (Ok(None), 1), "{realloc}");
        full(&plugin).await;
        assert!(ask(&plugin, "auto").await.unwrap().is_some(), "{realloc}");
    }
}

#[tokio::test]
async fn fault_after_the_answer_is_a_fault() {
    let guest = Guest {
        items: "(global $spoil (mut i32) (i32.const 0))",
        extra: "(global.set $spoil (i32.const 1))",
        post_return: "(if (global.get $spoil) (then unreachable))",
        ..Guest::default()
    };
    contained(&guest, "trap").await;
}

#[tokio::test]
async fn metrics_take_no_wild_values() {
    let guest = Guest {
        counter: Some(("matches", "Keywords that matched.")),
        imports: r#"(import "sluicegate:plugin/metrics@0.1.0" "observe" (func $observe (param i32 f64)))"#,
        // The first is a counter, and there is no second.
        extra: "(call $observe (i32.const 0) (f64.const 1))
                (call $observe (i32.const 1) (f64.const 1))",
        ..Guest::default()
    };
    let bench = Bench::new();
    let plugin = bench.load(&guest).await;
    assert!(ask(&plugin, "z").await.unwrap().is_some());
    let dropped = bench
        .metrics
        .plugin_dropped
        .with_label_values(&["test", "metric"]);
    assert_eq!(dropped.get(), 2);
}

/// A guest of which every tenth call traps.
fn tenth() -> Guest {
    Guest {
        items: "(global $calls (mut i32) (i32.const 0))",
        extra: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (if (i32.eqz (i32.rem_u (global.get $calls) (i32.const 10))) (then unreachable))",
        ..Guest::default()
    }
}

#[tokio::test]
async fn trap_on_every_tenth_call_ends_in_quarantine() {
    let bench = Bench::new();
    let mut slot = bench.slot(&tenth());
    slot.quarantine_after = 5;
    let plugin = bench.take(Arc::new(slot)).await.unwrap();
    let begun = Instant::now();
    while bench.counted("quarantined") == 0 {
        while plugin.inner.pool.idle() == 0 {
            tokio::task::yield_now().await;
        }
        let _ = ask(&plugin, "z").await;
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            plugin.status()
        );
    }
    let traps = bench.counted("trap");
    assert!(
        traps > 5,
        "not for {traps} traps in {} calls",
        bench.counted("ok")
    );
}

/// Nine in ten requests are served, and none waits.
#[tokio::test]
async fn trap_on_every_tenth_call_costs_that_call_alone() {
    let bench = Bench::new();
    let plugin = bench.load(&tenth()).await;
    let mut served = 0;
    for _ in 0..200 {
        full(&plugin).await;
        served += usize::from(ask(&plugin, "z").await.unwrap().is_some());
    }
    assert_eq!(bench.counted("trap") + bench.counted("ok"), 200);
    assert_eq!(bench.counted("ok"), served as u64);
    assert!((1..=20).contains(&bench.counted("trap")), "one in ten");
}
