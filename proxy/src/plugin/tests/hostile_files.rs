//! Files that mean harm, or are merely wrong, at load time: refused with a message that tells their
//! author what to do, while what runs goes on.

use super::guest::Guest;
use super::*;
use crate::plugin::LoadError;

async fn refused(bench: &Bench, slot: Slot) -> String {
    let error = bench.take(Arc::new(slot)).await.err();
    let text = error.expect("refused").to_string();
    assert!(text.len() < 16 * 1024, "a log can hold it");
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n'),
        "{text:?}"
    );
    text
}

async fn refused_guest(guest: &Guest) -> String {
    let bench = Bench::new();
    let slot = bench.slot(guest);
    refused(&bench, slot).await
}

#[tokio::test]
async fn imports_of_http_are_refused_by_name() {
    let guest = Guest {
        packages: &["package wasi:http@0.2.0; interface outgoing-handler { handle: func(); }"],
        wit: "import wasi:http/outgoing-handler@0.2.0;",
        imports: r#"(import "wasi:http/outgoing-handler@0.2.0" "handle" (func $handle))"#,
        extra: "(call $handle)",
        ..Guest::default()
    };
    let text = refused_guest(&guest).await;
    assert!(
        text.contains("`wasi:http/outgoing-handler@0.2.0`"),
        "{text}"
    );
    assert!(text.contains("no network"), "{text}");
}

#[tokio::test]
async fn contract_that_does_not_exist_is_named_with_the_one_that_does() {
    let bench = Bench::new();
    let component = wat::parse_str(
        r#"(component
             (instance $own)
             (export "sluicegate:plugin/classify@0.9.0" (instance $own))
             (export "sluicegate:plugin/lifecycle@0.9.0" (instance $own)))"#,
    )
    .unwrap();
    let text = bench.refusal(&component).await;
    assert!(text.contains("0.9.0") && text.contains("0.1.0"), "{text}");
}

#[tokio::test]
async fn component_with_thousands_of_exports_is_refused_in_few_words() {
    let bench = Bench::new();
    let exports: String = (0..900)
        .map(|number| format!(r#"(export "an-export-of-no-use-to-anybody-with-a-long-name-{number}" (instance $own))"#))
        .collect();
    let component = wat::parse_str(format!("(component (instance $own) {exports})")).unwrap();
    let path = bench.path("many.wasm");
    fs::write(&path, component).unwrap();
    let text = refused(&bench, slot(&path)).await;
    assert!(text.contains("SDK's macro"), "{text}");
}

/// 200 MiB that take no room on the disk: its size alone refuses it.
#[tokio::test]
async fn file_over_max_component_bytes_is_not_read() {
    let bench = Bench::new();
    let path = bench.path("huge.wasm");
    let file = fs::File::create(&path).unwrap();
    file.set_len(200 << 20).unwrap();
    let text = refused(&bench, slot(&path)).await;
    assert!(text.contains("max_component_bytes = 67108864"), "{text}");
}

#[tokio::test]
async fn trap_at_once_is_found_before_a_client_meets_it() {
    let guest = Guest {
        items: r#"(func $die unreachable) (start $die)"#,
        ..Guest::default()
    };
    let text = refused_guest(&guest).await;
    assert!(text.contains("cannot be instantiated"), "{text}");
    let guest = Guest {
        configure: Some("unreachable"),
        ..Guest::default()
    };
    let text = refused_guest(&guest).await;
    assert!(text.contains("`configure` failed: trap"), "{text}");
    let guest = Guest {
        describe: Some("unreachable"),
        ..Guest::default()
    };
    let text = refused_guest(&guest).await;
    assert!(text.contains("`describe` failed: trap"), "{text}");
}

/// `configure` traps in half of the instances: a pool of three is filled one time in eight.
#[tokio::test]
async fn configure_that_fails_now_and_then_never_leaves_half_a_pool() {
    let guest = Guest {
        packages: &[
            "package wasi:random@0.2.0; interface random { get-random-u64: func() -> u64; }",
        ],
        wit: "import wasi:random/random@0.2.0;",
        imports: r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $draw (result i64)))"#,
        configure: Some(
            "(if (i32.wrap_i64 (i64.and (call $draw) (i64.const 1))) (then unreachable)) i32.const 16",
        ),
        ..Guest::default()
    };
    let bench = Bench::new();
    let slot = Arc::new(bench.slot(&guest));
    let live = || {
        let metrics = bench.host.engine.engine().pooling_allocator_metrics();
        usize::try_from(metrics.unwrap().component_instances()).unwrap()
    };
    for _ in 0..100 {
        if let Ok(plugin) = bench.take(Arc::clone(&slot)).await {
            assert_eq!(plugin.status().idle_instances, INSTANCES);
            assert_eq!(live(), INSTANCES);
            return;
        }
        assert_eq!(live(), 0, "a refused candidate leaves no instance");
    }
    panic!("refused a hundred times");
}

#[tokio::test]
async fn endless_start_is_ended() {
    let guest = Guest {
        items: "(func $spin (loop $again (br $again))) (start $spin)",
        ..Guest::default()
    };
    let bench = Bench::new();
    let text = refused(&bench, bench.slot(&guest)).await;
    assert!(text.contains("deadline"), "{text}");
}

#[tokio::test]
async fn schemas_that_mean_harm_are_refused_or_harmless() {
    let config =
        serde_json::json!({"words": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"});
    let deep = format!(
        "{}{}",
        r#"{"not":"#.repeat(5000),
        "{}".to_owned() + &"}".repeat(5000)
    );
    // Each level asks the next one twice: 2^60 looks.
    let levels: Vec<String> = (0..60)
        .map(|level| {
            let next = format!(r##"{{"$ref": "#/$defs/a{}"}}"##, level + 1);
            format!(r#""a{level}": {{"allOf": [{next}, {next}]}}"#)
        })
        .collect();
    let doubling = format!(
        r##"{{"$defs": {{{}, "a60": {{"type": "object"}}}}, "$ref": "#/$defs/a0"}}"##,
        levels.join(", ")
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let remote = format!(
        r#"{{"$ref": "http://{}/schema.json"}}"#,
        listener.local_addr().unwrap()
    );
    for (schema, said) in [
        ("not JSON", "not JSON"),
        (r#"{"type": "no-such-type"}"#, "no-such-type"),
        (&remote, "not present"),
        (r#"{"$ref": "file:///etc/passwd"}"#, "not present"),
        (
            r#"{"properties": {"words": {"pattern": "^(a+)+$"}}}"#,
            "words",
        ),
        (
            r#"{"properties": {"words": {"pattern": "(?=(a+)+b)((a*)*)*\\1$"}}}"#,
            "words",
        ),
        (&deep, "recursion limit"),
        (&doubling, "takes longer than 5s"),
        // Nothing to hold against any config, and an end.
        (r##"{"$ref": "#"}"##, ""),
        (r##"{"allOf": [{"$ref": "#"}, {"$ref": "#"}]}"##, ""),
        (
            r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}"##,
            "",
        ),
    ] {
        let guest = Guest {
            schema: schema.to_owned().leak(),
            ..Guest::default()
        };
        let bench = Bench::new();
        let mut slot = bench.slot(&guest);
        slot.config = config.clone();
        let refused = bench.take(Arc::new(slot)).await.err();
        let text = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(said), "{schema:.60}: {text:.300}");
        assert_eq!(
            text.is_empty(),
            said.is_empty(),
            "{schema:.60}: {text:.300}"
        );
    }
    assert!(listener.accept().is_err(), "nothing was fetched");
}

#[tokio::test]
async fn configure_that_refuses_without_a_word_is_a_refusal() {
    // The result is an error with an empty list.
    let guest = Guest {
        configure: Some("(i32.store8 (i32.const 64) (i32.const 1)) i32.const 64"),
        ..Guest::default()
    };
    let bench = Bench::new();
    let text = refused(&bench, bench.slot(&guest)).await;
    assert!(text.contains("without saying why"), "{text}");
}

/// A component of some 30 KB that takes seconds to compile: a loop in a loop in a loop, with many
/// variables that live through all of them.
fn slow_to_compile() -> Guest {
    let (locals, depth) = (100, 400);
    let body: String = (0..depth)
        .map(|turn: usize| {
            let (to, from, when) = (turn % locals, turn * 7 % locals, turn * 13 % locals);
            format!(
                "(loop (local.set {to} (i32.add (local.get {from}) (i32.const 1)))
                   (br_if 0 (local.get {when})))"
            )
        })
        .collect();
    let uses: String = (0..locals)
        .map(|local| format!("(i32.store (i32.const {}) (local.get {local}))", local * 4))
        .collect();
    let open = "(loop ".repeat(depth);
    let close = "(br_if 0 (local.get 0)))".repeat(depth);
    let variables = "i32 ".repeat(locals);
    let items = format!("(func (export \"slow\") (local {variables}) {open}{body}{close}{uses})");
    Guest {
        items: items.leak(),
        ..Guest::default()
    }
}

#[tokio::test]
async fn component_that_takes_long_to_compile_is_taken_when_it_is_done() {
    let bench = Bench::new();
    let slot = Arc::new(bench.slot(&slow_to_compile()));
    let load = || {
        bench
            .host
            .load(Arc::clone(&slot), Duration::from_millis(50))
    };
    let error = load().await.err().expect("out of patience");
    assert!(matches!(error, LoadError::Compiling { .. }), "{error}");
    assert_eq!(bench.refused(), 0, "it may be good");
    bench.host.compiled().await;
    assert!(load().await.is_ok());
}
