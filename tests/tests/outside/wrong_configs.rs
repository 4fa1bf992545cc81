//! Every file in `wrong-configs/` is `good.toml` with one fault, and is refused: by `check` and by a
//! start with exactly the words that are kept beside it, and by a running proxy, which goes on as it
//! was.
//!
//! All secrets, those in the files too, hold [`MARK`], so that a leak is found wherever it is.
//! `SLUICEGATE_WRITE_MESSAGES=1` writes the words anew; read every difference.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use sluicegate_tests::{
    Answer, Backend, Finished, Guest, Proxy, Request, ask, eventually, repository, run,
};
use tempfile::TempDir;

/// Stands in every secret, and in nothing else.
const MARK: &str = "hush";

const CALLER_KEY: &str = "hush-caller-key-0123456789";

/// What the environment gives to the configs.
fn environment(backend: &str) -> Vec<(&str, &str)> {
    vec![
        ("BACKEND", backend),
        ("CALLER_KEY", CALLER_KEY),
        ("POOL_KEY", "hush-pool-key-0123456789"),
        (
            "PLUGIN_SECRET",
            "hush-plugin-\"quoted\"-\u{1f511}-0123456789",
        ),
        ("TWO_LINES", "hush-line-one\nhush-line-two"),
        ("EMPTY", ""),
        // Where plugins are compiled into.
        ("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")),
    ]
}

/// A copy of the folder, so that the files can be moved about.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    let source = repository().join("tests/wrong-configs");
    for (from, to) in [
        (source.join("files"), files.as_path()),
        (source, folder.path()),
    ] {
        for path in paths(&from) {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::write(files.join("marked.wasm"), Guest::marked().0).unwrap();
    folder
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths
}

/// The wrong configs, by their names without ending.
fn names() -> Vec<String> {
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let files = paths(&repository().join("tests/wrong-configs"));
    let toml = files
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    let mut names: Vec<String> = toml.map(|path| stem(path)).collect();
    names.retain(|name| name != "good");
    names
}

/// What `check` is to print of a wrong config.
fn kept(name: &str) -> String {
    let path = repository().join(format!("tests/wrong-configs/{name}.txt"));
    fs::read_to_string(&path).unwrap_or_default()
}

/// What the proxy says of it where it counts no errors: without the last line.
fn reason(name: &str) -> String {
    let kept = kept(name);
    let (reason, _count) = kept
        .rsplit_once("\n\n")
        .expect("a count behind the reasons");
    reason.to_owned()
}

/// The same wherever the folder lies.
fn shown(text: &str, folder: &Path) -> String {
    text.replace(&format!("{}/", folder.display()), "")
}

fn assert_hushed(what: &str, text: &str) {
    assert!(!text.contains(MARK), "{what} has a secret:\n{text}");
}

#[test]
fn check_prints_what_is_kept_beside_each_wrong_config() {
    let folder = folder();
    let environment = environment("http://127.0.0.1:1");
    let write = std::env::var_os("SLUICEGATE_WRITE_MESSAGES").is_some();
    let names = names();
    assert!(names.len() >= 45, "{} wrong configs", names.len());
    let mut different = Vec::new();
    for name in &names {
        let path = folder.path().join(format!("{name}.toml"));
        let finished = run(&[&"check", &path], &environment);
        assert_eq!(finished.status.code(), Some(1), "{name}: {finished:?}");
        assert_eq!(finished.stderr, "", "{name}");
        assert_hushed(name, &finished.stdout);
        let shown = shown(&finished.stdout, folder.path());
        assert!(shown.contains(&format!("{name}.toml")), "{name}: {shown}");
        if write {
            let kept = format!("tests/wrong-configs/{name}.txt");
            fs::write(repository().join(kept), &shown).unwrap();
        } else if shown != kept(name) {
            different.push(format!(
                "{name}: kept is\n{}\nprinted was\n{shown}",
                kept(name)
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    let good = run(&[&"check", &folder.path().join("good.toml")], &environment);
    assert!(good.status.success(), "{good:?}");
}

/// A file without its words would prove nothing, nor would words without their file.
#[test]
fn each_wrong_config_has_its_words() {
    let files = paths(&repository().join("tests/wrong-configs"));
    let texts = files
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"));
    let texts: BTreeSet<String> = texts
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts, names().into_iter().collect());
}

fn serve(config: &Path, environment: &[(&str, &str)]) -> Finished {
    run(&[&"serve", &"--config", &config], environment)
}

#[test]
fn a_wrong_config_ends_the_start_with_its_words() {
    let folder = folder();
    let environment = environment("http://127.0.0.1:1");
    for name in names() {
        let path = folder.path().join(format!("{name}.toml"));
        let finished = serve(&path, &environment);
        assert_eq!(finished.status.code(), Some(2), "{name}: {finished:?}");
        assert_eq!(finished.stdout, "", "{name}");
        assert_hushed(&name, &finished.stderr);
        let expected = format!(
            "sluicegate: the config cannot be used\n\n{}\n",
            reason(&name)
        );
        assert_eq!(shown(&finished.stderr, folder.path()), expected, "{name}");
    }
}

/// Requests one after the other, until told to stop.
async fn traffic(proxy: Arc<Proxy>, stop: Arc<AtomicBool>) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut client = proxy.client().await;
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
    while !stop.load(Ordering::SeqCst) {
        pace.tick().await;
        answers.push(client.send(&ask("hi").bearer(CALLER_KEY)).await);
    }
    answers
}

/// Puts a wrong config in place and awaits that it is refused.
async fn refuse(proxy: &Proxy, name: &str) {
    let before = refused(proxy).await;
    let path = proxy.folder().join(format!("{name}.toml"));
    proxy.put_file("sluicegate.toml", &fs::read(path).unwrap());
    let expected = reason(name).replace(&format!("{name}.toml"), "sluicegate.toml");
    let view = eventually(&format!("{name} is refused with its words"), async || {
        let config = proxy.admin_get("/admin/config").await.expect_status(200);
        let view = config.json();
        let reason = view["last_reload_error"].as_str().unwrap_or_default();
        match shown(reason, proxy.folder()) == expected {
            true => Ok(view),
            false => Err((expected.clone(), view["last_reload_error"].clone())),
        }
    })
    .await;
    assert_hushed(name, &view.to_string());
    assert_eq!(view["generation"], 1, "{name}: {view}");
    assert!(refused(proxy).await > before, "{name} is not counted");
    let expected = format!("reload refused, nothing changed:\n{expected}");
    eventually(&format!("the log has {name}"), async || {
        let lines = proxy.output();
        let mut said = lines.iter().map(|line| message(line));
        match said.any(|said| shown(&said, proxy.folder()) == expected) {
            true => Ok(()),
            false => Err(lines.last().cloned()),
        }
    })
    .await;
}

async fn refused(proxy: &Proxy) -> f64 {
    let metrics = proxy.metrics().await;
    metrics.sum("sluicegate_reloads_total", &[("result", "refused")])
}

/// The message of a log line.
fn message(line: &str) -> String {
    let record: Value = serde_json::from_str(line).unwrap_or_default();
    record["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_proxy_refuses_each_wrong_config_and_goes_on() {
    let backend = Backend::model("b").await;
    let folder = folder();
    let good = fs::read_to_string(folder.path().join("good.toml")).unwrap();
    let url = backend.url();
    let proxy = Arc::new(Proxy::start_toml(folder, &good, &environment(&url)).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut client = tokio::task::JoinSet::new();
    client.spawn(traffic(Arc::clone(&proxy), Arc::clone(&stop)));
    let shown = proxy.admin_get("/admin/config").await.json()["config"].clone();

    let names = names();
    for name in &names {
        refuse(&proxy, name).await;
    }

    // The same over the admin API, which answers with the words.
    let reload = || Request::post("/admin/reload", "");
    let answer = proxy.admin_send(reload()).await.expect_status(422);
    assert_hushed("the answer", answer.text());
    assert_eq!(answer.error_code(), "reload_refused");

    let now = proxy.admin_get("/admin/config").await.json();
    assert_eq!(now["config"], shown, "the running config changed");
    let metrics = proxy.admin_get("/metrics").await.expect_status(200);
    assert_hushed("/metrics", metrics.text());
    assert_hushed(
        "/admin/plugins",
        proxy.admin_get("/admin/plugins").await.text(),
    );
    let counted = proxy.metrics().await;
    assert_eq!(
        counted.sum("sluicegate_reloads_total", &[("result", "ok")]),
        0.0
    );
    assert_eq!(counted.sum("sluicegate_config_generation", &[]), 1.0);
    assert_eq!(counted.sum("sluicegate_panics_total", &[]), 0.0);

    // A good one is taken at once.
    let next = format!("{good}\n[[routes]]\nname = \"next\"\npool = \"main\"\n");
    proxy.put_file("sluicegate.toml", next.as_bytes());
    assert_eq!(proxy.await_generation_after(1).await, 2);
    let view = proxy.admin_get("/admin/config").await.json();
    assert_eq!(view["last_reload_error"], Value::Null);

    stop.store(true, Ordering::SeqCst);
    let answers = client.join_next().await.unwrap().unwrap();
    assert!(answers.len() > names.len(), "{} requests", answers.len());
    for answer in answers {
        let answer = answer.expect_status(200);
        assert_eq!(
            answer.json()["choices"][0]["message"]["content"],
            "b t1 t2 t3"
        );
    }
    assert_hushed("the log", &proxy.output().join("\n"));
}

/// What can only be seen when the listeners are bound.
#[test]
fn a_port_in_use_ends_the_start_with_the_field_that_asks_for_it() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let good = fs::read_to_string(folder.path().join("good.toml")).unwrap();
    let listen = "listen = \"127.0.0.1:0\"";
    let taking = format!("listen = \"{address}\"");
    let (server, rest) = good.split_once("[admin]").unwrap();
    for (field, text) in [
        ("server.listen", good.replacen(listen, &taking, 1)),
        (
            "admin.listen",
            format!("{server}[admin]{}", rest.replacen(listen, &taking, 1)),
        ),
        (
            "telemetry.listen",
            good.replace("[telemetry]", &format!("[telemetry]\n{taking}")),
        ),
    ] {
        let path = folder.path().join("sluicegate.toml");
        fs::write(&path, &text).unwrap();
        let finished = serve(&path, &environment("http://127.0.0.1:1"));
        assert_eq!(finished.status.code(), Some(2), "{field}: {finished:?}");
        let said = shown(&finished.stderr, folder.path());
        let line = 1 + text.lines().position(|line| line == taking).unwrap();
        for expected in [
            format!("error: {field}: cannot listen on {address}: Address already in use"),
            format!("--> sluicegate.toml:{line}:10"),
            "help: another process listens there".to_owned(),
        ] {
            assert!(said.contains(&expected), "{expected:?} in:\n{said}");
        }
    }
}

/// What the machine does not have is found when it is asked for.
#[test]
fn more_instances_than_memory_can_be_reserved_for_end_the_start() {
    let folder = folder();
    let good = fs::read_to_string(folder.path().join("good.toml")).unwrap();
    let more = "\n[pipeline]\nmax_instances = 1_000_000\nmax_memory_bytes = \"4GiB\"\n";
    let path = folder.path().join("sluicegate.toml");
    fs::write(&path, good + more).unwrap();
    let environment = environment("http://127.0.0.1:1");
    let served = serve(&path, &environment);
    let checked = run(&[&"check", &path], &environment);
    assert_eq!(
        (served.status.code(), checked.status.code()),
        (Some(2), Some(1))
    );
    for finished in [served, checked] {
        let said = shown(&finished.output(), folder.path());
        for expected in [
            "error: pipeline.max_instances: cannot set up the plugin engine for 1000000 instances",
            "lower `[pipeline] max_instances`",
            "--> sluicegate.toml:21:17",
        ] {
            assert!(said.contains(expected), "{expected:?} in:\n{said}");
        }
        assert_hushed("the refusal", &said);
    }
}
