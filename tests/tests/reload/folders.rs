//! Where files lie: mounts whose links flip, folders that go and come, files that come late, and
//! changes that overtake each other.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluicegate_tests::{Guest, eventually};

use super::bench::{Bench, FILE, REFUSED_CONFIG};

/// A folder as Kubernetes mounts a ConfigMap: each name links to `..data/NAME`, and `..data` to a
/// folder that has all files of one version.
struct ConfigMap {
    root: PathBuf,
    version: usize,
}

impl ConfigMap {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            version: 0,
        }
    }

    /// Puts up a new version in the kubelet's order: all files, the flip, the names. Gives the old
    /// folder, which goes then.
    fn publish(&mut self, files: &[(&str, &[u8])]) -> PathBuf {
        let data = self.root.join("..data");
        let old = fs::read_link(&data).unwrap_or_default();
        self.version += 1;
        let folder = format!("..2026_01_01_00_00_{:02}.{:09}", self.version, self.version);
        fs::create_dir(self.root.join(&folder)).unwrap();
        for (name, bytes) in files {
            fs::write(self.root.join(&folder).join(name), bytes).unwrap();
        }
        symlink(&folder, self.root.join("..data_tmp")).unwrap();
        fs::rename(self.root.join("..data_tmp"), &data).unwrap();
        for (name, _) in files {
            if fs::symlink_metadata(self.root.join(name)).is_err() {
                symlink(format!("..data/{name}"), self.root.join(name)).unwrap();
            }
        }
        self.root.join(old)
    }
}

#[tokio::test]
async fn flip_of_a_config_map_takes_config_and_plugin_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut mount = ConfigMap::new(folder.path());
    mount.publish(&[("sluicegate.toml", b""), (FILE, &Guest::marked().0)]);
    let bench = Bench::start_in(folder, FILE, |config| config).await;
    for round in 1..=3 {
        let generation = bench.proxy.generation().await;
        let config = bench.config(&format!("-{round}"));
        let old = mount.publish(&[
            ("sluicegate.toml", config.as_bytes()),
            (FILE, &bench.component(round)),
        ]);
        let label = format!("marked-00{round}-{round}");
        let serves = bench.serves(&label);
        // The flip alone must be seen, and the kubelet's removal of the old folder right after it.
        match round {
            2 => {
                serves.await;
                fs::remove_dir_all(old).unwrap();
            }
            _ => {
                fs::remove_dir_all(old).unwrap();
                serves.await;
            }
        }
        assert_eq!(bench.proxy.generation().await, generation + 1);
    }
    // One without the other never served.
    let labels = ["marked-000", "marked-001-1", "marked-002-2", "marked-003-3"];
    bench.finish(&labels, &[]).await;
}

#[tokio::test]
async fn folder_that_is_deleted_and_comes_back_is_watched_again() {
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("sluicegate.toml"), "").unwrap();
    symlink("etc/sluicegate.toml", folder.path().join("sluicegate.toml")).unwrap();
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::write(plugins.join(FILE), Guest::marked().0).unwrap();
    let source = format!("plugins/{FILE}");
    let bench = Bench::start_in(folder, &source, |config| config).await;
    let write_config = |suffix: &str| {
        let config = bench.config_from(&source, suffix);
        fs::write(etc.join("sluicegate.toml"), config).unwrap();
    };

    fs::remove_dir_all(&plugins).unwrap();
    bench.refuses(1).await;
    fs::create_dir(&plugins).unwrap();
    fs::write(plugins.join(FILE), bench.component(1)).unwrap();
    bench.serves("marked-001").await;
    fs::write(plugins.join(FILE), bench.component(2)).unwrap();
    bench.serves("marked-002").await;

    fs::remove_dir_all(&etc).unwrap();
    bench.refuses(2).await;
    fs::create_dir(&etc).unwrap();
    write_config("-a");
    bench.serves("marked-002-a").await;
    write_config("-b");
    bench.serves("marked-002-b").await;

    let labels = [
        "marked-000",
        "marked-001",
        "marked-002",
        "marked-002-a",
        "marked-002-b",
    ];
    bench.finish(&labels, &[REFUSED_CONFIG]).await;
}

#[tokio::test]
async fn config_that_names_a_plugin_which_arrives_later_is_taken_then() {
    let bench = Bench::start().await;
    let source = format!("later/on/{FILE}");
    let config = bench.config_from(&source, "-a");
    bench.proxy.put_file("sluicegate.toml", config.as_bytes());
    bench.refuses(1).await;
    // Its folder is not there yet, either.
    let folder = bench.proxy.folder().join("later/on");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(FILE), bench.component(1)).unwrap();
    bench.serves("marked-001-a").await;
    bench
        .finish(&["marked-000", "marked-001-a"], &[REFUSED_CONFIG])
        .await;
}

/// Processor time after which a compilation is under way for certain; requests use little.
const COMPILING: Duration = Duration::from_millis(300);

#[tokio::test]
async fn changes_while_another_still_compiles_end_with_the_last() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), Guest::marked().0).unwrap();
    // Nobody has compiled it before.
    let compiled = folder.path().join("compiled").display().to_string();
    let bench = Bench::start_in(folder, FILE, move |config| {
        config.set("pipeline.compile_cache", compiled.as_str())
    })
    .await;
    let before = bench.proxy.plugin("marked").await;
    let slow = bench.guest.with_label(1).0.slow_to_compile();
    let used = bench.proxy.cpu_time();
    bench.proxy.put_file(FILE, &slow.0);
    eventually("it is being compiled", async || {
        let now = bench.proxy.cpu_time();
        if now
            .zip(used)
            .is_none_or(|(now, used)| now > used + COMPILING)
        {
            Ok(())
        } else {
            Err(now)
        }
    })
    .await;
    bench.proxy.put_file(FILE, &bench.component(2));
    let config = bench.config("-late");
    bench.proxy.put_file("sluicegate.toml", config.as_bytes());
    bench.proxy.put_file(FILE, &bench.component(3));
    let meanwhile = bench.proxy.plugin("marked").await;
    assert_eq!(
        meanwhile.text("sha256"),
        before.text("sha256"),
        "the first change is still compiling"
    );
    bench.serves("marked-003-late").await;
    // Where its compilation took longer than a reload waits, the first never ran.
    let end = bench.end().await;
    let late = ["marked-000", "marked-003-late"];
    let both = ["marked-000", "marked-001", "marked-003-late"];
    assert!(end.labels == late || end.labels == both, "{:?}", end.labels);
    end.assert_logged_nothing_but(&["it is still being compiled"]);
}
