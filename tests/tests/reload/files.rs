//! The ways in which programs write a file. After each the new content serves, no request has
//! failed, and nobody was told of an error that was none.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::bench::{Bench, FILE, REFUSED_CONFIG};

#[tokio::test]
async fn file_written_in_place_is_taken() {
    let bench = Bench::start().await;
    fs::write(bench.plugin(), bench.component(1)).unwrap();
    bench.serves("marked-001").await;
    fs::write(bench.proxy.config_path(), bench.config("-a")).unwrap();
    bench.serves("marked-001-a").await;
    fs::write(bench.plugin(), bench.component(2)).unwrap();
    bench.serves("marked-002-a").await;
    let labels = ["marked-000", "marked-001", "marked-001-a", "marked-002-a"];
    bench.finish(&labels, &[]).await;
}

#[tokio::test]
async fn file_renamed_into_place_is_taken() {
    let bench = Bench::start().await;
    bench.proxy.put_file(FILE, &bench.component(1));
    bench.serves("marked-001").await;
    let config = bench.config("-a");
    bench.proxy.put_file("sluicegate.toml", config.as_bytes());
    bench.serves("marked-001-a").await;
    bench.proxy.put_file(FILE, &bench.component(2));
    bench.serves("marked-002-a").await;
    let labels = ["marked-000", "marked-001", "marked-001-a", "marked-002-a"];
    bench.finish(&labels, &[]).await;
}

#[tokio::test]
async fn file_removed_and_written_again_is_no_error() {
    let bench = Bench::start().await;
    for (path, content, label) in [
        (bench.plugin(), bench.component(1), "marked-001"),
        (
            bench.proxy.config_path(),
            bench.config("-a").into_bytes(),
            "marked-001-a",
        ),
    ] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
        bench.serves(label).await;
    }
    let labels = ["marked-000", "marked-001", "marked-001-a"];
    bench.finish(&labels, &[]).await;
}

#[tokio::test]
async fn config_that_is_missing_is_an_error_until_it_is_back() {
    let bench = Bench::start().await;
    fs::remove_file(bench.proxy.config_path()).unwrap();
    bench.refuses(1).await;
    fs::write(bench.proxy.config_path(), bench.config("-a")).unwrap();
    bench.serves("marked-000-a").await;
    let labels = ["marked-000", "marked-000-a"];
    bench.finish(&labels, &[REFUSED_CONFIG]).await;
}

#[tokio::test]
async fn slow_copy_of_a_large_plugin_is_no_error() {
    let bench = Bench::start().await;
    let large = bench.guest.with_label(1).0.padded(5 << 20);
    let mut file = fs::File::create(bench.plugin()).unwrap();
    for piece in large.0.chunks(large.0.len().div_ceil(100)) {
        file.write_all(piece).unwrap();
        // Slower than a write, faster than the debounce: as a copy over a network is.
        #[expect(clippy::disallowed_methods, reason = "a slow writer is played")]
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    drop(file);
    bench.serves("marked-001").await;
    let plugin = bench.proxy.plugin("marked").await;
    assert_eq!(plugin.text("sha256"), large.sha256());
    bench.finish(&["marked-000", "marked-001"], &[]).await;
}

/// vim with its default settings: a swap file beside, a probe for what the folder allows, the old
/// file kept under another name until the new one is whole.
#[tokio::test]
async fn what_vim_does_to_a_file_is_one_change() {
    let bench = Bench::start().await;
    let rounds = bench.rounds().await;
    for (path, content, label) in changes(&bench) {
        let beside = |name: String| path.with_file_name(name);
        let name = path.file_name().unwrap().to_str().unwrap();
        let (swap, backup) = (beside(format!(".{name}.swp")), beside(format!("{name}~")));
        fs::write(&swap, "b0VIM").unwrap();
        fs::write(&swap, [b"b0VIM", &content[..]].concat()).unwrap();
        fs::write(beside("4913".into()), "").unwrap();
        fs::remove_file(beside("4913".into())).unwrap();
        fs::rename(&path, &backup).unwrap();
        write_and_sync(&path, &content);
        fs::remove_file(&backup).unwrap();
        bench.serves(label).await;
        fs::remove_file(&swap).unwrap();
    }
    assert_eq!(bench.rounds().await - rounds, 2.0, "rounds of reloading");
    bench
        .finish(&["marked-000", "marked-001", "marked-001-a"], &[])
        .await;
}

/// Emacs with its default settings: a lock that is a link to nowhere, an auto-save file beside, the
/// old file renamed for a backup.
#[tokio::test]
async fn what_emacs_does_to_a_file_is_one_change() {
    let bench = Bench::start().await;
    let rounds = bench.rounds().await;
    for (path, content, label) in changes(&bench) {
        let beside = |name: String| path.with_file_name(name);
        let name = path.file_name().unwrap().to_str().unwrap();
        let lock = beside(format!(".#{name}"));
        let draft = beside(format!("#{name}#"));
        symlink("someone@somewhere.4711:1700000000", &lock).unwrap();
        fs::write(&draft, &content).unwrap();
        fs::rename(&path, beside(format!("{name}~"))).unwrap();
        write_and_sync(&path, &content);
        fs::remove_file(&draft).unwrap();
        fs::remove_file(&lock).unwrap();
        bench.serves(label).await;
    }
    assert_eq!(bench.rounds().await - rounds, 2.0, "rounds of reloading");
    bench
        .finish(&["marked-000", "marked-001", "marked-001-a"], &[])
        .await;
}

/// The component and then the config, each with new content and what it gives.
fn changes(bench: &Bench) -> [(std::path::PathBuf, Vec<u8>, &'static str); 2] {
    [
        (bench.plugin(), bench.component(1), "marked-001"),
        (
            bench.proxy.config_path(),
            bench.config("-a").into_bytes(),
            "marked-001-a",
        ),
    ]
}

fn write_and_sync(path: &Path, content: &[u8]) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(content).unwrap();
    file.sync_all().unwrap();
}

/// inotify tells of names in a folder: a write through a name in another folder stays unheard.
#[tokio::test]
async fn change_that_no_event_tells_of_is_found_by_the_poll() {
    let bench = Bench::start().await;
    let elsewhere = tempfile::tempdir_in(bench.proxy.folder().parent().unwrap()).unwrap();
    for (path, content, _) in changes(&bench) {
        let other_name = elsewhere.path().join(path.file_name().unwrap());
        fs::hard_link(&path, &other_name).unwrap();
        fs::write(&other_name, content).unwrap();
    }
    bench.serves("marked-001-a").await;
    let plugin = bench.proxy.plugin("marked").await;
    assert_eq!(plugin.generation(), 2, "both in one round");
    bench.finish(&["marked-000", "marked-001-a"], &[]).await;
}
