//! The config loader. The input is a config file.
//!
//! Whatever it says, it is taken or refused with a place in the file; what a substitution gave is
//! shown nowhere; what is taken is whole, and the same again when it is loaded again.

use std::collections::HashSet;
use std::path::Path;

use crate::config::{self, Config, Loaded, Overrides, Problems, Severity};

/// What `${SECRET}` stands for.
const SECRET: &str = "Zq3-substituted-9xK";

/// The target.
pub fn config(data: &[u8]) {
    is_taken(data);
}

/// [`config`], for a test that wants to know whether it tests anything.
pub(super) fn is_taken(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false; // a file that is not UTF-8 is not read
    };
    match load(text) {
        Ok(loaded) => {
            assert_whole(&loaded.config);
            assert_hidden(
                &[loaded.redacted.to_string(), loaded.warnings.join("\n")],
                text,
            );
            assert_hidden(&[loaded.warned().render(Severity::Warning, false)], text);
            assert_the_same(&loaded, text);
            true
        }
        Err(problems) => {
            assert_placed(&problems, text);
            let shown = [false, true].map(|colour| problems.render(Severity::Error, colour));
            assert_hidden(&shown, text);
            assert_hidden(&[format!("{problems:?}")], text);
            false
        }
    }
}

fn load(text: &str) -> Result<Loaded, Problems> {
    // A folder with certificates in it, which a config may name.
    let origin = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/testdata/fuzz.toml");
    let variable = |name: &str| match name {
        "SECRET" => Some(SECRET.to_owned()),
        "SHORT" => Some("s".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let overrides = Overrides {
        workers: Some(2),
        ..Overrides::default()
    };
    config::load_with(text, &origin, &overrides, &variable)
}

/// Every problem with a line has it in the text, and one at least has.
fn assert_placed(problems: &Problems, text: &str) {
    let is_placed = problems
        .list()
        .iter()
        .filter(|problem| problem.line > 0)
        .count()
        > 0;
    assert!(is_placed, "refused without a place: {problems:?}");
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in problems.list() {
        assert!(!problem.message.is_empty());
        assert!(
            !problem.message.contains("does not deserialise"),
            "{problem}"
        );
        if problem.line > 0 {
            let line = lines.get(problem.line - 1).expect("a line of the file");
            let last = line.chars().count() + 1;
            assert!(
                (1..=last).contains(&problem.column),
                "{problem} in {line:?}"
            );
        }
    }
}

/// A substituted value is nowhere. A text that holds it itself gives nothing away.
fn assert_hidden(shown: &[String], text: &str) {
    let is_hidden = shown.iter().all(|shown| !shown.contains(SECRET));
    assert!(is_hidden || text.contains(SECRET), "{shown:?}");
}

/// Whatever a config names is there.
fn assert_whole(config: &Config) {
    let pools: HashSet<_> = config.pools.iter().map(|pool| &pool.name).collect();
    assert_eq!(pools.len(), config.pools.len(), "pools of one name");
    assert!(!pools.is_empty() && !config.routes.is_empty());
    for route in &config.routes {
        let mut named = std::iter::once(&route.pool).chain(&route.fallback);
        assert!(
            named.all(|pool| pools.contains(pool)),
            "{} leads nowhere",
            route.name
        );
    }
    let pipeline = &config.pipeline;
    assert!(
        pipeline.instances_needed(2) <= u64::from(pipeline.max_instances),
        "more than there is room for"
    );
    let slots: HashSet<_> = pipeline.slots().map(|slot| &slot.name).collect();
    assert_eq!(slots.len(), pipeline.slots().count(), "slots of one name");
}

/// Loaded again, it is the same, and a proxy can go from one to the other.
fn assert_the_same(loaded: &Loaded, text: &str) {
    let again = load(text).expect("taken a moment ago");
    assert_eq!(loaded.config, again.config);
    assert_eq!(loaded.redacted, again.redacted);
    assert!(config::check_reload(&loaded.config, &again).is_ok());
}
