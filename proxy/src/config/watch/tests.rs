//! The ways in which files change, each awaited by its report.

use std::fs;

use super::*;

/// Long enough that only a lost report reaches it.
const LIMIT: Duration = Duration::from_secs(20);
const DEBOUNCE: Duration = Duration::from_millis(40);
/// The poll stays out of tests that are about events.
const NO_POLL: Duration = Duration::from_secs(3600);

/// Waits for a report; panics with what was done when none comes.
async fn report(reports: &mut mpsc::Receiver<()>, after: &str) {
    tokio::time::timeout(LIMIT, reports.recv())
        .await
        .unwrap_or_else(|_| panic!("no report after: {after}"))
        .unwrap();
}

/// Proves that nothing was reported: a later change of another watched file is the next report,
/// and the only one.
async fn silent(reports: &mut mpsc::Receiver<()>, marker: &Path, about: &str) {
    #[expect(clippy::disallowed_methods, reason = "silence is no event")]
    tokio::time::sleep(DEBOUNCE * 5).await;
    assert!(reports.try_recv().is_err(), "reported: {about}");
    replace(marker, about);
    report(reports, "the marker").await;
}

/// Changes a file in one step, so that no state in between can be seen.
fn replace(path: &Path, content: &str) {
    let next = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::rename(&next, path).unwrap();
}

fn watch(paths: &[&Path]) -> (Watcher, mpsc::Receiver<()>) {
    let paths = paths.iter().map(|path| path.to_path_buf()).collect();
    Watcher::new(paths, DEBOUNCE, NO_POLL)
}

#[tokio::test]
async fn write_and_rename_is_seen_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, "0").unwrap();
    let (_watcher, mut reports) = watch(&[&path]);
    for round in 1..4 {
        let next = folder.path().join("a.toml.new");
        fs::write(&next, round.to_string()).unwrap();
        fs::rename(&next, &path).unwrap();
        report(&mut reports, "a rename").await;
    }
}

#[tokio::test]
async fn truncate_and_write_is_seen_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, "0").unwrap();
    let (_watcher, mut reports) = watch(&[&path]);
    for round in 1..4 {
        fs::write(&path, format!("{round}{round}")).unwrap();
        report(&mut reports, "a write").await;
    }
}

/// Kubernetes: `a.toml` → `..data/a.toml`, `..data` → a folder; the flip replaces `..data`.
#[cfg(unix)]
#[tokio::test]
async fn a_flip_of_a_symlinked_folder_is_seen_each_time() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let write = |round: u32| {
        let version = format!("..v{round}");
        fs::create_dir(root.join(&version)).unwrap();
        fs::write(root.join(&version).join("a.toml"), round.to_string()).unwrap();
        symlink(&version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    write(0);
    let path = root.join("a.toml");
    symlink("..data/a.toml", &path).unwrap();
    let (_watcher, mut reports) = watch(&[&path]);
    for round in 1..4 {
        write(round);
        fs::remove_dir_all(root.join(format!("..v{}", round - 1))).unwrap();
        report(&mut reports, "a flip").await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_behind_a_link_is_watched_where_it_lies() {
    use std::os::unix::fs::symlink;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = there.path().join("v1.wasm");
    fs::write(&target, "0").unwrap();
    let path = here.path().join("plugin.wasm");
    symlink(&target, &path).unwrap();
    let (_watcher, mut reports) = watch(&[&path]);
    fs::write(&target, "1").unwrap();
    report(&mut reports, "a write behind the link").await;
}

#[tokio::test]
async fn a_removed_folder_that_comes_back_is_watched_again() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("etc/sluicegate");
    let path = inner.join("a.toml");
    fs::create_dir_all(&inner).unwrap();
    fs::write(&path, "0").unwrap();
    let (_watcher, mut reports) = watch(&[&path]);
    fs::remove_dir_all(folder.path().join("etc")).unwrap();
    report(&mut reports, "the removal").await;
    fs::create_dir_all(&inner).unwrap();
    fs::write(&path, "1").unwrap();
    report(&mut reports, "the return").await;
    fs::write(&path, "2").unwrap();
    report(&mut reports, "a write after the return").await;
}

#[tokio::test]
async fn a_folder_that_was_never_there_is_picked_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/a.toml");
    let (_watcher, mut reports) = watch(&[&path]);
    fs::create_dir(folder.path().join("later")).unwrap();
    fs::write(&path, "1").unwrap();
    report(&mut reports, "its creation").await;
}

#[tokio::test]
async fn a_replaced_folder_is_watched_in_its_new_form() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("etc");
    let path = inner.join("a.toml");
    fs::create_dir(&inner).unwrap();
    fs::write(&path, "0").unwrap();
    let (_watcher, mut reports) = watch(&[&path]);
    let next = folder.path().join("etc.new");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("a.toml"), "1").unwrap();
    fs::rename(&inner, folder.path().join("etc.old")).unwrap();
    fs::rename(&next, &inner).unwrap();
    report(&mut reports, "the exchange").await;
    fs::write(&path, "2").unwrap();
    report(&mut reports, "a write in the new folder").await;
}

#[tokio::test]
async fn other_files_reads_and_equal_content_are_silent() {
    let folder = tempfile::tempdir().unwrap();
    let (path, marker) = (folder.path().join("a.toml"), folder.path().join("marker"));
    fs::write(&path, "0").unwrap();
    fs::write(&marker, "").unwrap();
    let (_watcher, mut reports) = watch(&[&path, &marker]);
    fs::write(folder.path().join("other"), "1").unwrap();
    silent(&mut reports, &marker, "another file").await;
    assert_eq!(fs::read_to_string(&path).unwrap(), "0");
    silent(&mut reports, &marker, "a read").await;
    replace(&path, "0");
    silent(&mut reports, &marker, "the same content").await;
}

#[test]
fn what_is_still_being_written_is_not_reported() {
    let mut states = ["", "half", "whole", "whole", "next"].into_iter();
    let mut pauses = 0;
    let seen = settled(|| states.next().unwrap(), || pauses += 1);
    assert_eq!((seen, pauses), ("whole", 3));
}

#[test]
fn what_never_holds_still_is_reported_in_the_end() {
    let mut writes = 0..;
    let seen = settled(|| writes.next().unwrap(), || ());
    assert_eq!(seen, MAX_SETTLING);
}

#[tokio::test]
async fn the_poll_finds_what_events_do_not_tell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, "0").unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let paths = vec![path.clone()];
    let (_watcher, mut reports) =
        Watcher::start(paths, DEBOUNCE, Duration::from_millis(50), |_, _, _| None);
    fs::write(&path, "1").unwrap();
    fs::File::open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    report(&mut reports, "a poll").await;
}

#[tokio::test]
async fn the_set_of_files_can_change() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    fs::write(&one, "0").unwrap();
    fs::write(&two, "0").unwrap();
    let (watcher, mut reports) = watch(&[&one]);
    watcher.set_paths(vec![two.clone()]);
    while lock(&watcher.shared.orders).paths.is_some() {
        tokio::task::yield_now().await; // the order is taken before the files are compared
    }
    fs::write(&one, "1").unwrap();
    silent(&mut reports, &two, "a file that left the set").await;
}

#[tokio::test]
async fn reports_coalesce_and_end_with_the_watcher() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, "0").unwrap();
    let (watcher, mut reports) = watch(&[&path]);
    for round in 0..20 {
        fs::write(&path, format!("round {round}")).unwrap();
    }
    report(&mut reports, "many writes").await;
    drop(watcher);
    let rest = async { while reports.recv().await.is_some() {} };
    tokio::time::timeout(LIMIT, rest)
        .await
        .expect("the thread ends");
}
