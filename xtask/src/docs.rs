//! Tests that keep the documentation true where a program can tell.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::root;

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every piece of the text between an opening and the next closing mark.
fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open)
        .skip(1)
        .filter_map(move |rest| rest.split(close).next())
}

#[test]
fn the_guide_lists_exactly_the_metrics_that_are_registered() {
    let source = read("proxy/src/telemetry/metrics.rs");
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let registered: BTreeSet<&str> = between(source, "\"sluicegate_", '"').collect();
    let guide = read("docs/operations.md");
    let rows = guide
        .lines()
        .filter(|line| line.starts_with("| `sluicegate_"));
    let listed: BTreeSet<&str> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| between(cell, "`sluicegate_", '`'))
        .collect();
    assert!(!registered.is_empty());
    assert_eq!(listed, registered);
}

#[test]
fn links_between_files_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages(&root()) {
        let text = fs::read_to_string(&page).unwrap_or_default();
        let folder = page.parent().unwrap_or(Path::new("."));
        for target in between(&text, "](", ')') {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains(':') || file.contains(char::is_whitespace) {
                continue;
            }
            if !folder.join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_row_of_the_reliability_tables_names_tests_that_exist() {
    let sources: Vec<String> = files(&root(), ".rs")
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    let page = read("docs/reliability.md");
    let mut rows = 0;
    let mut unknown = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let Some(tests) = row.trim_end_matches([' ', '|']).rsplit('|').next() else {
            continue;
        };
        if tests.trim() == "Test" || tests.contains("---") {
            continue;
        }
        rows += 1;
        let mut names = between(tests, "`", '`').step_by(2).peekable();
        if names.peek().is_none() {
            unknown.push(format!("no test: {row}"));
        }
        for name in names {
            // A test of its own, or a case in a list of them.
            let is_known = |source: &String| {
                source.contains(&format!("fn {name}(")) || source.contains(&format!(" {name}\n"))
            };
            if !sources.iter().any(is_known) {
                unknown.push(name.to_owned());
            }
        }
    }
    assert!(rows > 30, "{rows} rows");
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// The Markdown files below a folder, without what is built or hidden.
fn pages(folder: &Path) -> Vec<PathBuf> {
    files(folder, ".md")
}

/// The files below a folder whose names end so, without what is built or hidden.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            if name != "target" && name != "node_modules" && !name.starts_with('.') {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found
}
