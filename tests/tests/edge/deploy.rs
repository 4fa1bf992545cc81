//! The systemd unit and the container's recipe: what their engines would start is started.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use sluicegate_tests::{Backend, Config, Proxy, ask, repository, run, within};
use tokio::net::UnixDatagram;
use tokio::process::Command;

fn deploy(file: &str) -> String {
    fs::read_to_string(repository().join("deploy").join(file)).unwrap()
}

/// The unit's settings, by `Section.Name`.
fn unit() -> HashMap<String, String> {
    let text = deploy("sluicegate.service");
    let mut section = "";
    let mut settings = HashMap::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        match line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            Some(name) => section = name,
            None => {
                let (name, value) = line.split_once('=').expect("a setting");
                settings.insert(format!("{section}.{name}"), value.to_owned());
            }
        }
    }
    settings
}

/// What follows a word at the beginning of a line of the recipe, in its last stage.
fn instruction<'t>(recipe: &'t str, word: &str) -> &'t str {
    let mut lines = recipe.lines().rev();
    let found = lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    found.expect(word)
}

fn list(json: &str) -> Vec<String> {
    serde_json::from_str(json).expect(json)
}

#[tokio::test]
async fn systemd_unit_starts_tells_when_it_is_ready_and_reloads() {
    let unit = unit();
    let start: Vec<_> = unit["Service.ExecStart"].split(' ').collect();
    let [program, line @ ..] = start.as_slice() else {
        panic!("{start:?}")
    };
    let ["serve", "--config", config, "--pid-file", pid_file] = line else {
        panic!("{line:?}")
    };
    assert!(program.ends_with("/sluicegate") && config.starts_with("/etc/sluicegate/"));
    assert!(pid_file.starts_with(&format!("/run/{}/", unit["Service.RuntimeDirectory"])));
    // Compiled plugins cannot run otherwise.
    assert_ne!(unit["Service.MemoryDenyWriteExecute"], "yes");
    assert_eq!(unit["Service.Type"], "notify");

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let backend = Backend::model("b").await;
    let told = [("NOTIFY_SOCKET", socket.to_str().unwrap())];
    let own = tempfile::tempdir().unwrap();
    let line: Vec<String> = line.iter().map(|word| moved(own.path(), word)).collect();
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    fs::write(
        own.path().join("sluicegate.toml"),
        Config::one(&backend).to_toml(),
    )
    .unwrap();
    let mut proxy = Proxy::start_line(own, &line, &told).await;
    assert_eq!(told_state(&manager).await, "READY=1");

    let reload = unit["Service.ExecReload"].replace("$MAINPID", &proxy.id().to_string());
    let mut words = reload.split(' ');
    let status = Command::new(words.next().unwrap())
        .args(words)
        .status()
        .await
        .unwrap();
    assert!(status.success(), "{reload}");
    eventually_reloaded(&proxy).await;

    proxy.signal(rustix::process::Signal::QUIT);
    let successor = proxy.successor().await;
    let mut said = [told_state(&manager).await, told_state(&manager).await];
    said.sort();
    assert_eq!(said, [format!("MAINPID={successor}"), "READY=1".to_owned()]);
    assert!(proxy.exit().await.success());
    proxy.send(&ask("hi")).await.expect_status(200);
}

/// An absolute path's file in another folder; other words as they are.
fn moved(folder: &Path, word: &str) -> String {
    let path = Path::new(word);
    match path.file_name() {
        Some(name) if path.is_absolute() => folder.join(name).display().to_string(),
        _ => word.to_owned(),
    }
}

async fn told_state(manager: &UnixDatagram) -> String {
    let mut state = [0; 128];
    let told = within("the manager is told", manager.recv(&mut state)).await;
    let length = told.unwrap();
    String::from_utf8_lossy(&state[..length]).into_owned()
}

async fn eventually_reloaded(proxy: &Proxy) {
    sluicegate_tests::eventually("the config is reloaded", async || {
        let metrics = proxy.metrics().await;
        let reloads = metrics.sum("sluicegate_reloads_total", &[("result", "ok")]);
        if reloads >= 1.0 { Ok(()) } else { Err(reloads) }
    })
    .await;
}

#[tokio::test]
async fn container_starts_as_its_recipe_says_and_its_health_check_tells() {
    let recipe = deploy("Containerfile");
    let user = instruction(&recipe, "USER");
    assert!(
        user.split(':')
            .all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)),
        "{user}"
    );
    let entry = list(instruction(&recipe, "ENTRYPOINT"));
    let command = list(instruction(&recipe, "CMD"));
    assert_eq!(entry.len(), 1, "{entry:?}");
    let health = instruction(&recipe, "HEALTHCHECK");
    let health = list(health.split_once("CMD ").unwrap().1);
    assert_eq!(health, [entry[0].clone(), "health".to_owned()]);

    // The image names the config in the environment; the health check finds the port there.
    let address = free_address();
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("admin.listen", address);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluicegate.toml");
    fs::write(&path, config.to_toml()).unwrap();
    let variable = recipe.contains("SLUICEGATE_CONFIG=/etc/sluicegate/sluicegate.toml");
    assert!(variable, "{recipe}");
    let check = {
        let path = path.to_str().unwrap().to_owned();
        move || {
            let path = path.clone();
            let run = move || run(&[&"health"], &[("SLUICEGATE_CONFIG", &path)]);
            tokio::task::spawn_blocking(run)
        }
    };
    let before = check().await.unwrap();
    assert!(!before.status.success(), "{}", before.output());
    let line: Vec<&str> = command.iter().map(String::as_str).collect();
    let named = [("SLUICEGATE_CONFIG", path.to_str().unwrap())];
    let proxy = Proxy::start_line(folder, &line, &named).await;
    let now = check().await.unwrap();
    assert!(now.status.success(), "{}", now.output());
    assert_eq!(now.stdout, "ready\n");
    drop(proxy);
    assert!(!check().await.unwrap().status.success());
}

#[test]
fn container_copies_the_whole_workspace() {
    let recipe = deploy("Containerfile");
    let copied: Vec<&str> = recipe
        .lines()
        .filter(|line| line.starts_with("COPY ") && !line.contains("--from="))
        .flat_map(|line| line.split(' ').skip(1))
        .collect();
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(repository())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(!packages.is_empty());
    for package in packages {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let below = manifest.strip_prefix(repository()).unwrap();
        let folder = below.iter().next().unwrap().to_str().unwrap();
        assert!(copied.contains(&folder), "{folder} in {copied:?}");
    }
    // Built from source by the build script, from this contract.
    assert!(
        copied.contains(&"plugins") && copied.contains(&"wit"),
        "{copied:?}"
    );
}

/// Stays free until it is used: nothing else takes ports of this one.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.9.8.7:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
