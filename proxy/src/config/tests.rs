//! What the whole loader promises: precise messages, no secrets, no panics, files that are current.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::load::load_with;
use super::*;

/// The repository's `config/` folder.
fn config_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

/// The environment of all tests here.
fn variable(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("s3cr3t-v4lue".to_owned()),
        "PROVIDER_API_KEY" => Some("provider-key".to_owned()),
        _ => None,
    }
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    load_with(
        text,
        Path::new("sluicegate.toml"),
        &two_workers(),
        &variable,
    )
}

fn two_workers() -> Overrides {
    Overrides {
        workers: Some(2),
        ..Overrides::default()
    }
}

fn good(text: &str) -> Arc<Config> {
    load_text(text).unwrap().config
}

/// A config to which each test adds what it is about.
fn with(more: &str) -> String {
    format!(
        "[[pools]]\nname = \"main\"\nbackends = [{{ url = \"http://127.0.0.1:8000\" }}]\n\n\
         [auth]\nmode = \"open\"\n\n{more}"
    )
}

fn slots(config: &Config) -> Vec<&str> {
    let slots = config.pipeline.slots();
    slots.map(|slot| slot.name.as_str()).collect()
}

mod shapes;
mod wrong;

#[test]
fn the_least_config_turns_everything_on() {
    let config = good(&with(""));
    let route = config.routes.first().unwrap();
    assert_eq!(config.routes.len(), 1);
    assert_eq!(
        (route.name.as_str(), route.pool.as_str()),
        ("default", "main")
    );
    assert_eq!(
        slots(&config),
        [
            "keyword-classifier",
            "topk-compressor",
            "default-cache-policy"
        ]
    );
    assert_eq!(config.pipeline.instances_needed(2), 24);
    assert_eq!(config.pipeline.max_instances, 128);
    assert_eq!(config.admin.listen, Some("127.0.0.1:9090".parse().unwrap()));
    assert!(config.cache.enabled && config.telemetry.expose_all);
    let backend = config.pools.first().unwrap().backends.first().unwrap();
    assert_eq!(backend.name.as_str(), "main-1");
}

#[test]
fn empty_lists_switch_stages_off() {
    let config = good(&with(
        "[pipeline]\nclassify = []\ncompress = []\ncache_policy = { enabled = false }\n",
    ));
    assert_eq!(config.pipeline.slots().count(), 0);
}

#[test]
fn a_stage_that_is_left_out_keeps_its_bundled_plugin() {
    let config = good(&with("[pipeline]\nclassify = []\n"));
    assert_eq!(slots(&config), ["topk-compressor", "default-cache-policy"]);
}

#[test]
fn a_route_that_takes_all_leaves_no_implied_one() {
    let config = good(&with("[[routes]]\npool = \"main\"\n"));
    let names: Vec<&str> = config
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .collect();
    assert_eq!(names, ["route-1"]);
}

#[test]
fn conditions_take_one_entry_or_several() {
    let config = good(&with(
        "[[routes]]\npool = \"main\"\nmatch = { label = \"code\", model = [\"a\", \"b-*\"] }\n",
    ));
    let matches = &config.routes.first().unwrap().matches;
    assert_eq!(matches.labels, [Label::new("code")]);
    assert_eq!(matches.models, ["a", "b-*"]);
}

#[test]
fn the_environment_overrides_the_file() {
    let overrides = Overrides {
        host: Some("127.0.0.2".parse().unwrap()),
        port: Some(7777),
        workers: Some(5),
        cache_size: Some(overrides::CacheSize::Entries(9)),
        cache_ttl: Some(Duration::from_secs(40 * 24 * 3600)),
    };
    let text = with("[server]\nlisten = \"127.0.0.1:80\"\nworkers = 1\n");
    let loaded = load_with(&text, Path::new("a.toml"), &overrides, &variable).unwrap();
    let config = loaded.config;
    assert_eq!(config.server.listen, "127.0.0.2:7777".parse().unwrap());
    assert_eq!((config.server.workers, config.cache.max_entries), (5, 9));
    assert_eq!(config.cache.ttl, Duration::from_secs(40 * 24 * 3600));
    assert_eq!(
        loaded.redacted.pointer("/server/listen"),
        Some(&json!("127.0.0.2:7777"))
    );
}

#[test]
fn an_overridden_address_is_checked_like_a_typed_one() {
    let overrides = Overrides {
        host: Some("0.0.0.0".parse().unwrap()),
        ..two_workers()
    };
    let problems = load_with(&with(""), Path::new("a.toml"), &overrides, &variable).unwrap_err();
    assert!(problems.to_string().contains("0.0.0.0:8080"), "{problems}");
}

#[test]
fn substituted_values_are_used_and_never_shown() {
    let text = with(
        "[admin]\ntoken = \"${SECRET}\"\n\n\
         [[pipeline.classify]]\nsource = \"builtin:keyword-classifier\"\n\
         config = { words = [\"plain\", \"a ${SECRET}\"] }\n",
    );
    let loaded = load_text(&text).unwrap();
    let slot = loaded.config.pipeline.classify.first().unwrap();
    assert_eq!(slot.config, json!({ "words": ["plain", "a s3cr3t-v4lue"] }));
    assert_eq!(loaded.config.admin.token, Some(Secret::new("s3cr3t-v4lue")));
    assert_eq!(
        loaded.redacted.pointer("/pipeline/classify/0/config/words"),
        Some(&json!(["plain", "[redacted]"]))
    );
    let shown = format!("{loaded:?} {}", loaded.redacted);
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn columns_behind_a_masked_secret_are_counted_in_characters() {
    let line = "keys = [{ tenant = \"a\", key = \"clé-😀-漢字-0123456789\", bogus = 1 }]";
    let problems = load_text(&with(line)).unwrap_err();
    let problem = problems
        .list()
        .iter()
        .find(|it| it.message.contains("bogus"))
        .unwrap();
    let before = line.split_once("bogus").unwrap().0;
    assert_eq!(problem.column, before.chars().count() + 1, "{problems}");
    assert!(!problems.to_string().contains('漢'), "{problems}");
}

#[test]
fn secrets_that_are_written_in_the_file_are_shown_nowhere() {
    let text =
        with("[admin]\ntoken = \"writ-ten\" \n[[auth.keys]]\nname = \"a\"\nkey = \"writ-ten\"\n");
    let loaded = load_text(&text).unwrap();
    let warned = loaded.warned().to_string();
    assert!(
        warned.contains("a secret is written in the file"),
        "{warned}"
    );
    let shown = format!("{loaded:?} {} {warned}", loaded.redacted);
    assert!(!shown.contains("writ-ten"), "{shown}");
}

#[test]
fn a_file_is_read_for_a_substitution_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "from-file\n").unwrap();
    let path = folder.path().join("sluicegate.toml");
    fs::write(&path, with("[admin]\ntoken = \"${file:token}\"\n")).unwrap();
    let loaded = load(&path, &two_workers()).unwrap();
    assert_eq!(loaded.config.admin.token, Some(Secret::new("from-file")));
    assert_eq!(loaded.watched, [path, folder.path().join("token")]);
}

#[test]
fn a_plugin_file_and_a_certificate_file_are_watched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my_plugin.wasm"), "").unwrap();
    let path = folder.path().join("sluicegate.toml");
    let text = with("[[pipeline.classify]]\nsource = \"my_plugin.wasm\"\n");
    fs::write(&path, text).unwrap();
    let loaded = load(&path, &two_workers()).unwrap();
    let slot = loaded.config.pipeline.classify.first().unwrap();
    assert_eq!(slot.name.as_str(), "my-plugin");
    assert_eq!(loaded.watched, [path, folder.path().join("my_plugin.wasm")]);
}

#[test]
fn a_config_that_waits_for_a_file_names_it() {
    let problems = load_text(&with("[[pipeline.classify]]\nsource = \"/gone/a.wasm\"\n"));
    assert_eq!(problems.unwrap_err().files(), [Path::new("/gone/a.wasm")]);
    let problems = load_text(&with("[admin]\ntoken = \"${file:/gone/token}\"\n"));
    assert_eq!(problems.unwrap_err().files(), [Path::new("/gone/token")]);
}

#[test]
fn every_setting_of_a_slot_arrives() {
    let config = good(&with(
        "[[pipeline.classify]]\nenabled = false\nsource = \"not looked at\"\n\
         [[pipeline.classify]]\nname = \"words\"\nsha256 = \"00000000000000000000000000000000000000000000000000000000000000ff\"\n\
         on_failure = \"deny\"\ncpu_time = \"7ms\"\nmemory_bytes = \"1MiB\"\nmax_output_bytes = \"2KiB\"\n\
         max_component_bytes = 5\nspares = 0\nmax_calls = 9\nquarantine_after = 4\nconfigure_timeout = \"1s\"\n\
         last_messages = 8\ntext = { head = \"4KiB\", tail = 0 }\nmax_messages = 3\nread_bytes = 6\n\
         headers = [\"X-Use-Case\"]\ngrants = [\"clock\"]\n\
         [[pipeline.compress]]\nmax_edits = 2\nedit_last_user = true\nedit_tool_results = true\ntext = \"all\"\n\
         [pipeline.cache_policy]\nmay_ignore = [\"top-p\", \"end-user\"]\nanswer_bytes = \"1KiB\"\n",
    ));
    let pipeline = &config.pipeline;
    let [words] = pipeline.classify.as_slice() else {
        panic!("the slot that is not enabled was kept");
    };
    let mut hash = [0; 32];
    hash[31] = 0xff;
    let expected = Slot {
        kind: SlotKind::Classify,
        name: SlotName::new("words"),
        source: Source::Builtin("keyword-classifier".to_owned()),
        sha256: Some(hash),
        config: json!({}),
        secrets: Secrets::default(),
        on_failure: OnFailure::Deny,
        cpu_time: Duration::from_millis(7),
        memory_bytes: 1 << 20,
        max_output_bytes: 2048,
        max_component_bytes: 5,
        spares: 0,
        max_calls: 9,
        quarantine_after: 4,
        configure_timeout: Duration::from_secs(1),
        last_messages: Some(8),
        text: Some(TextWindow::Window {
            head: 4096,
            tail: 0,
        }),
        max_messages: 3,
        read_bytes: 6,
        headers: vec![http::HeaderName::from_static("x-use-case")],
        grant_clock: true,
        max_edits: 4096,
        edit_last_user: false,
        edit_tool_results: false,
        may_ignore: Vec::new(),
        answer_bytes: 0,
    };
    assert!(**words == expected);
    let compressor = pipeline.compress.first().unwrap();
    assert_eq!(compressor.cpu_time, Duration::from_millis(20));
    assert_eq!(compressor.text, Some(TextWindow::All));
    assert_eq!(compressor.max_edits, 2);
    assert!(compressor.edit_last_user && compressor.edit_tool_results);
    let policy = pipeline.cache_policy.as_ref().unwrap();
    assert_eq!(policy.may_ignore, ["top-p", "end-user"]);
    assert_eq!(policy.answer_bytes, 1024);
}

#[test]
fn a_server_certificate_and_its_key_are_taken() {
    let text = with(
        "[server.tls]\ncert_file = \"tls/one.pem\"\nkey_file = \"tls/one.key\"\n\
         [[pools]]\nname = \"tls\"\nmodels = [\"m\"]\n\
         backends = [{ url = \"https://localhost\", ca_file = \"tls/one.pem\" }]\n",
    );
    let origin = Path::new("src/config/testdata/inline.toml");
    let loaded = load_with(&text, origin, &two_workers(), &variable).unwrap();
    let tls = loaded.config.server.tls.as_ref().unwrap();
    let [certificate] = tls.certificates.as_slice() else {
        panic!("one certificate in {tls:?}")
    };
    assert!(certificate.cert_file.is_absolute() && certificate.cert_file.is_file());
    assert_eq!(certificate.names, ["localhost"]);
    let key_file = certificate.cert_file.with_extension("key");
    assert_eq!(loaded.watched, [key_file, certificate.cert_file.clone()]);
}

/// What `/admin/config` shows: every default is filled in.
#[test]
fn the_default_config_is_shown_as_it_is_used() {
    let path = config_folder().join("sluicegate.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen(
        "compile_cache_bytes",
        "compile_cache = \"/var/cache/sluicegate\"\ncompile_cache_bytes",
        1,
    );
    let loaded = load_with(&text, &path, &two_workers(), &variable).unwrap();
    insta::assert_snapshot!(format!("{:#}", loaded.redacted));
}

#[test]
fn settings_of_plugins_are_located() {
    let text = with(
        "[[pipeline.classify]]\nname = \"words\"\n\n[pipeline.classify.config]\nlimit = 3\nlist = [1,\n  2]\n",
    );
    let start = text.find("[[pipeline").unwrap();
    let first = text.get(..start).unwrap().matches('\n').count() + 1;
    let locator = load_text(&text).unwrap().locator;
    let at = |slot: &str, pointer: &str| {
        let problem = locator.slot_problem(&SlotName::new(slot), pointer, "no");
        problem.to_string()
    };
    let words = |place: &str, line: usize, column: usize| {
        format!(
            "sluicegate.toml:{}:{column}: pipeline.classify[0].{place}: no",
            first + line
        )
    };
    assert_eq!(at("words", "/config/limit"), words("config.limit", 4, 9));
    assert_eq!(at("words", "/config/list/1"), words("config.list[1]", 6, 3));
    assert_eq!(
        at("words", "/config/list/1/x"),
        words("config.list[1].x", 6, 3)
    );
    assert_eq!(at("words", "/config/gone"), words("config.gone", 3, 1));
    assert_eq!(at("topk-compressor", ""), "sluicegate.toml: no");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let problems = load(Path::new("gone/sluicegate.toml"), &two_workers()).unwrap_err();
    let text = problems.to_string();
    let expected = "cannot read `gone/sluicegate.toml`: No such file";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn only_what_cannot_change_is_refused_on_reload() {
    let old = good(&with(""));
    let live = with(
        "[cache]\nttl = \"5s\"\n[[routes]]\npool = \"main\"\n[server]\ndrain_timeout = \"1s\"\n",
    );
    check_reload(&old, &load_text(&live).unwrap()).unwrap();
    let fixed = with(
        "[server]\nlisten = \"127.0.0.1:81\"\n[admin]\nenabled = false\n\
         [telemetry]\nlisten = \"127.0.0.1:82\"\nlog_format = \"json\"\nlog_level = \"warn\"\n\
         [pipeline]\nmax_instances = 500\nmax_memory_bytes = \"32MiB\"\ncompile_cache = \"/c\"\n\
         compile_cache_bytes = \"1MiB\"\n",
    );
    let old = with("[pipeline]\ncompile_cache = \"/b\"\n");
    let problems = check_reload(&good(&old), &load_text(&fixed).unwrap()).unwrap_err();
    insta::assert_snapshot!(problems);
}

/// The JSON Schema of config files, as it is kept in `config/sluicegate.schema.json`.
fn schema_json() -> String {
    format!("{:#}\n", schema::json())
}

#[test]
fn the_checked_in_schema_is_current() {
    let path = config_folder().join("sluicegate.schema.json");
    if std::env::var_os("SLUICEGATE_WRITE_SCHEMA").is_some() {
        fs::write(&path, schema_json()).unwrap();
    }
    let kept: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let current: Value = serde_json::from_str(&schema_json()).unwrap();
    assert_eq!(
        kept, current,
        "write it anew with SLUICEGATE_WRITE_SCHEMA=1 cargo test -p sluicegate schema_is_current"
    );
}

#[test]
fn every_file_in_the_config_folder_is_good() {
    let mut seen = 0;
    for folder in [config_folder(), config_folder().join("examples")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let loaded = load_with(&text, &path, &two_workers(), &variable);
            let warnings = loaded
                .unwrap_or_else(|problems| panic!("{problems}"))
                .warnings;
            assert_eq!(warnings, [""; 0], "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 4, "only {seen} files found");
}

/// The default config is where operators look fields up: it must name every one, in the section
/// that has it.
#[test]
fn the_default_config_names_every_field() {
    let text = fs::read_to_string(config_folder().join("sluicegate.toml")).unwrap();
    let schema: Value = serde_json::from_str(&schema_json()).unwrap();
    let mut fields = Vec::new();
    field_names(&schema, &mut fields);
    assert!(fields.len() > 80, "{fields:?}");
    let is_named = |field: &&String| {
        text.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ', '[']);
            let keys = line.split(['=', ']', '{', ',']).map(str::trim);
            keys.into_iter()
                .any(|key| key == field.as_str() || key.ends_with(&format!(".{field}")))
        })
    };
    let missing: Vec<&String> = fields.iter().filter(|field| !is_named(field)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn field_names(schema: &Value, fields: &mut Vec<String>) {
    let Some(object) = schema.as_object() else {
        return;
    };
    for (keyword, value) in object {
        if let ("properties", Some(properties)) = (keyword.as_str(), value.as_object()) {
            fields.extend(properties.keys().cloned());
        }
        field_names(value, fields);
        value
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|item| field_names(item, fields));
    }
}

/// Every field of the schema says what it is for.
#[test]
fn every_field_of_the_schema_is_described() {
    fn check(schema: &Value, missing: &mut Vec<String>) {
        for (name, field) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if field.get("description").is_none() {
                missing.push(name.clone());
            }
        }
    }
    let schema: Value = serde_json::from_str(&schema_json()).unwrap();
    let mut missing = Vec::new();
    check(&schema, &mut missing);
    for definition in schema.get("$defs").unwrap().as_object().unwrap().values() {
        check(definition, &mut missing);
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// Texts that are likely to reach deep: pieces of good configs in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[server]\n",
        "[auth]\n",
        "[[auth.keys]]\n",
        "[[pools]]\n",
        "[[pools.backends]]\n",
        "[[routes]]\n",
        "[routes.match]\n",
        "[pipeline]\n",
        "[[pipeline.classify]]\n",
        "[pipeline.cache_policy]\n",
        "[cache]\n",
        "[admin]\n",
        "mode = \"open\"\n",
        "name = \"a\"\n",
        "name = 1\n",
        "url = \"http://h\"\n",
        "url = \"${SECRET}\"\n",
        "backends = [{ url = \"http://[::1]:1/ü\" }]\n",
        "pool = \"a\"\n",
        "fallback = [\"a\"]\n",
        "listen = \"${\"\n",
        "listen = \"0.0.0.0:1\"\n",
        "ttl = \"0s\"\n",
        "ttl = 1e400\n",
        "label = [\"ü\"]\n",
        "\"ü\".é = 1\n",
        "x = '''\nü\n'''\n",
        "config = { a = [1, {}] }\n",
        "max_bytes = 99999999999999999999\n",
        "tools = 1979-05-27\n",
        "key = \"ü\u{7f}\"\n",
        "source = \"/\"\n",
        "text = { head = 1 }\n",
        "\t# ü\n",
        "= \n",
        "\"",
        "[",
        "\u{feff}",
        "\r\n",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_loader_panic(text in prop_oneof![pieces(), any::<String>()]) {
        match load_text(&text) {
            Ok(loaded) => prop_assert!(!loaded.redacted.is_null()),
            Err(problems) => {
                prop_assert!(!problems.list().is_empty());
                let shown = problems.to_string();
                prop_assert!(!shown.contains("s3cr3t"), "{shown}");
                prop_assert!(!shown.contains("does not deserialise"), "{shown}");
            }
        }
    }

    #[test]
    fn no_change_of_a_good_config_makes_the_loader_panic(
        at in any::<prop::sample::Index>(),
        cut in 0_usize..30,
        put in "[\\PC\n]{0,8}",
    ) {
        let text = fs::read_to_string(config_folder().join("sluicegate.toml")).unwrap();
        let mut characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len());
        let end = characters.len().min(at + cut);
        characters.splice(at..end, put.chars());
        let text: String = characters.into_iter().collect();
        if let Err(problems) = load_text(&text) {
            let shown = problems.to_string();
            prop_assert!(!shown.contains("does not deserialise"), "{shown}");
        }
    }
}
