//! `check`, overrides from the environment, signals, and `demo --once`.

use std::fs;
use std::time::{Duration, Instant};

use sluicegate_tests::{
    Backend, Config, Pool, Proxy, Request, Route, ask, ask_streaming, ends_with_done, run,
};

fn check(text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    fs::write(&path, text).unwrap();
    let finished = run(&[&"check", &path], &[]);
    (finished.status.success(), finished.output())
}

#[tokio::test]
async fn check_says_yes_to_a_good_config() {
    let backend = Backend::model("b").await;
    let (good, said) = check(&Config::one(&backend).to_toml());
    assert!(good, "{said}");
    assert_eq!(backend.connections(), 0, "check starts nothing");
}

#[test]
fn check_shows_every_error_with_line_column_and_caret() {
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nmax_body_bites = 5\n\n[auth]\nmode = \"opne\"\n\n\
                [[pools]]\nname = \"main\"\nbackends = [{ url = \"ftp://x\" }]\n\n\
                [[routes]]\npool = \"mian\"\n";
    let (good, said) = check(text);
    assert!(!good, "{said}");
    for expected in [
        "own.toml:3:1",
        "max_body_bites",
        "max_body_bytes",
        "own.toml:6:8",
        "opne",
        "own.toml:10:",
        "ftp",
        "own.toml:13:8",
        "mian",
        "main",
    ] {
        assert!(said.contains(expected), "{expected:?} in:\n{said}");
    }
    assert!(said.matches('^').count() >= 4, "a caret for each:\n{said}");
}

#[test]
fn check_names_a_secret_that_is_missing_and_prints_none() {
    let config = "[auth]\nkeys = [{ name = \"a\", key = \"${NO_SUCH_VARIABLE}\" }]\n\n\
                  [[pools]]\nname = \"main\"\napi_key = \"${GIVEN}\"\nbackends = [{ url = \"http://127.0.0.1:1\" }]\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    fs::write(&path, config).unwrap();
    let finished = run(&[&"check", &path], &[("GIVEN", "hush-hush")]);
    assert!(!finished.status.success());
    assert!(
        finished.output().contains("NO_SUCH_VARIABLE"),
        "{}",
        finished.output()
    );
    assert!(
        !finished.output().contains("hush-hush"),
        "{}",
        finished.output()
    );
}

#[test]
fn check_finds_what_a_plugin_says_of_its_table() {
    let config = "[auth]\nmode = \"open\"\n\n[[pools]]\nname = \"main\"\n\
                  backends = [{ url = \"http://127.0.0.1:1\" }]\n\n\
                  [[pipeline.compress]]\nsource = \"builtin:topk-compressor\"\n\
                  config = { no_such_setting = 1 }\n";
    let (good, said) = check(config);
    assert!(!good, "{said}");
    assert!(said.contains("no_such_setting"), "{said}");
}

#[tokio::test]
async fn environment_overrides_the_file() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .cached()
        .set("server.listen", "127.0.0.1:1")
        .set("cache.ttl", "1h");
    let overrides = [
        ("SLUICEGATE_HOST", "127.0.0.1"),
        ("SLUICEGATE_PORT", "0"),
        ("SLUICEGATE_WORKERS", "1"),
        ("SLUICEGATE_CACHE_SIZE", "1"),
        ("SLUICEGATE_CACHE_TTL", "90"),
    ];
    let proxy = Proxy::start_with(&config, &overrides).await;
    assert_ne!(proxy.data().port(), 1);
    let shown = proxy
        .admin_get("/admin/config")
        .await
        .expect_status(200)
        .json();
    let shown = &shown["config"];
    assert_eq!(shown["server"]["workers"], 1, "{shown}");
    assert_eq!(shown["cache"]["max_entries"], 1, "{shown}");
    let ttl = shown["cache"]["ttl"].to_string();
    assert!(
        ttl.contains("90") || ttl.contains("1m 30s") || ttl.contains("1m30s"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_wrong_override_ends_the_start() {
    let backend = Backend::model("b").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    fs::write(&path, Config::one(&backend).to_toml()).unwrap();
    let finished = run(
        &[&"serve", &"--config", &path],
        &[("SLUICEGATE_PORT", "many")],
    );
    assert!(!finished.status.success());
    assert!(
        finished.output().contains("SLUICEGATE_PORT"),
        "{}",
        finished.output()
    );
}

#[tokio::test]
async fn termination_finishes_requests_in_flight_and_closes_idle_connections() {
    let backend = Backend::scripted("b").await;
    let mut proxy = Proxy::start(&Config::one(&backend)).await;
    let mut idle = proxy.client().await;
    idle.send(&Request::get("/health")).await.expect_status(200);
    let mut busy = proxy.client().await;
    busy.begin(&ask_streaming("hi")).await;
    let mut exchange = backend.next_request().await;
    exchange.begin_events().await.unwrap();
    exchange.token("begun").await.unwrap();
    busy.head().await;

    let asked = Instant::now();
    proxy.signal(rustix::process::Signal::TERM);
    idle.closed().await;
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "idle: {:?}",
        asked.elapsed()
    );
    exchange.finish_chat().await.unwrap();
    assert!(ends_with_done(&busy.rest().await.unwrap()));
    assert!(proxy.exit().await.success());
    assert!(
        asked.elapsed() < Duration::from_secs(15),
        "the stop took {:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn ready_line_says_how_long_the_start_took() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend);
    drop(Proxy::start(&config).await); // Warms the compile cache.
    let begun = Instant::now();
    let proxy = Proxy::start(&config).await;
    eprintln!(
        "start to readyz with a warm compile cache: {:?}",
        begun.elapsed()
    );
    let line = proxy.await_line("ready").await;
    assert!(line.contains("ms") || line.contains("seconds"), "{line}");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn dead_pool_does_not_hold_readiness() {
    let backend = Backend::model("b").await;
    let (dead, _taken) = Backend::refusing();
    // Reserved for documentation (RFC 5737): nobody answers there.
    let config = Config::new()
        .pool(Pool::new("alive").backend(&backend))
        .pool(
            Pool::new("dead")
                .url(format!("http://{dead}"))
                .url("http://192.0.2.1:9"),
        )
        .route(Route::to("alive"));
    let begun = Instant::now();
    let proxy = Proxy::start(&config).await;
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    proxy.send(&ask("hi")).await.expect_status(200);
}

#[test]
fn demo_once_tours_and_ends_well() {
    let finished = run(&[&"demo", &"--once"], &[]);
    let said = finished.output();
    assert!(finished.status.success(), "{said}");
    for expected in ["code", "multimodal", "hit", "saved", "swap"] {
        assert!(
            said.to_lowercase().contains(expected),
            "{expected:?} in:\n{said}"
        );
    }
}

#[test]
fn documented_and_shipped_configs_pass_check() {
    let mut configs: Vec<(String, String)> = sluicegate_tests::snippets("README.md")
        .into_iter()
        .filter(|block| block.file.ends_with(".toml") && block.file != "Cargo.toml")
        .map(|block| (format!("README.md: {}", block.file), block.text))
        .collect();
    for folder in ["config", "config/examples"] {
        let folder = sluicegate_tests::repository().join(folder);
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                configs.push((
                    path.display().to_string(),
                    fs::read_to_string(&path).unwrap(),
                ));
            }
        }
    }
    assert!(
        configs.len() >= 2,
        "the README's and the default one: {configs:?}"
    );
    for (name, text) in configs {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluicegate.toml");
        fs::write(&path, &text).unwrap();
        let variables = variables(&text);
        let environment: Vec<(&str, &str)> = variables
            .iter()
            .map(|name| (name.as_str(), "0123456789abcdef"))
            .collect();
        let finished = run(&[&"check", &path], &environment);
        assert!(finished.status.success(), "{name}:\n{}", finished.output());
    }
}

/// Names in `${…}`, so that a config's secrets can be given.
fn variables(text: &str) -> Vec<String> {
    let names = text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    names
        .filter(|name| !name.contains(':'))
        .map(str::to_owned)
        .collect()
}
