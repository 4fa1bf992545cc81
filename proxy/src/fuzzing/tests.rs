//! The targets on stable, for a bounded time: every seed as it is, then mutations of seeds.

mod requests;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use super::edits::Fate;
use super::{TARGETS, config, edits, http, plugin_output};
use crate::api::Endpoint;

/// The workspace of the libFuzzer targets.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
}

/// The seeds of a target, by their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = workspace().join("seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut seeds: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().display().to_string(),
                fs::read(&path).unwrap(),
            )
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{folder:?} is empty");
    seeds
}

/// An input, shown so that it can be kept as a seed.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// One change of an input.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// A piece of some seed.
    Splice(Index, Index, Index, usize),
    Repeat(Index, usize, usize),
}

fn mutation(words: Vec<Vec<u8>>) -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), "[ -~]").prop_map(|(at, text)| Mutation::Insert(at, text.into_bytes())),
        (at(), select(words)).prop_map(|(at, word)| Mutation::Insert(at, word)),
        (at(), 1_usize..12).prop_map(|(at, bytes)| Mutation::Remove(at, bytes)),
        (at(), at(), at(), 1_usize..40)
            .prop_map(|(at, seed, from, bytes)| { Mutation::Splice(at, seed, from, bytes) }),
        (at(), 1_usize..30, 2_usize..9)
            .prop_map(|(at, bytes, times)| { Mutation::Repeat(at, bytes, times) }),
    ]
}

fn mutate(input: &mut Vec<u8>, mutation: &Mutation, seeds: &[(String, Vec<u8>)]) {
    let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
    match mutation {
        Mutation::Set(at, byte) => {
            let at = place(at, input);
            input.truncate(input.len().max(at));
            if let Some(old) = input.get_mut(at) {
                *old = *byte;
            }
        }
        Mutation::Insert(at, bytes) => {
            let at = place(at, input);
            input.splice(at..at, bytes.iter().copied());
        }
        Mutation::Remove(at, bytes) => {
            let at = place(at, input);
            let end = (at + bytes).min(input.len());
            input.drain(at..end);
        }
        Mutation::Splice(at, seed, from, bytes) => {
            let piece = &seed.get(seeds).1;
            let from = place(from, piece);
            let piece = &piece[from..(from + bytes).min(piece.len())];
            let at = place(at, input);
            input.splice(at..at, piece.iter().copied());
        }
        Mutation::Repeat(at, bytes, times) => {
            let at = place(at, input);
            let piece = input[at..(at + bytes).min(input.len())].repeat(*times);
            input.splice(at..at, piece);
        }
    }
}

/// Words that inputs are made of, so that changes of them have a meaning.
const WORDS: [&str; 34] = [
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d",
    "\\ude00",
    "\\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "-0.0",
    "1e999",
    "123456789012345678901234567890",
    "\n",
    "\n---\n",
    "\u{feff}",
    "\u{1f600}",
    "${SECRET}",
    "'''",
    "NaN",
    "\u{7f}",
    "\r",
    "\r\n",
    "\n\n",
    "data: ",
    "data: [DONE]\n\n",
    "\r\n\r\n",
    "0\r\n\r\n",
    "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "c: no-store, max-age=5\n",
];

/// Gives a target its seeds, then `cases` mutations of them.
fn run(target: &str, cases: u32) {
    let run = TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .expect("a target")
        .1;
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        let caught = std::panic::catch_unwind(|| run(seed));
        assert!(caught.is_ok(), "seed {target}/{name}");
    }
    let words = WORDS.map(|word| word.as_bytes().to_vec()).to_vec();
    let drawn = (any::<Index>(), vec(mutation(words), 1..6)).prop_map(|(seed, mutations)| {
        let mut input = seed.get(&seeds).1.clone();
        for mutation in &mutations {
            mutate(&mut input, mutation, &seeds);
        }
        Input(input)
    });
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&drawn, |input| {
        run(&input.0);
        Ok(())
    });
    assert!(
        outcome.is_ok(),
        "keep this in tests/fuzz/seeds/{target}: {}",
        outcome.unwrap_err()
    );
}

#[test]
fn canonical_request_holds_for_seeds_and_mutations() {
    run("canonical_request", 3_000);
}

#[test]
fn config_holds_for_seeds_and_mutations() {
    run("config", 500);
}

#[test]
fn edits_hold_for_seeds_and_mutations() {
    run("edits", 3_000);
}

#[test]
fn event_stream_holds_for_seeds_and_mutations() {
    run("event_stream", 5_000);
}

#[test]
fn http_bodies_hold_for_seeds_and_mutations() {
    run("http_body", 5_000);
}

#[test]
fn http_heads_hold_for_seeds_and_mutations() {
    run("http_head", 10_000);
}

#[test]
fn plugin_output_holds_for_seeds_and_mutations() {
    run("plugin_output", 5_000);
}

#[test]
fn seeds_reach_both_ends_of_what_they_test() {
    let fates: Vec<Fate> = seeds("edits")
        .iter()
        .map(|seed| edits::fate(&seed.1))
        .collect();
    for fate in [Fate::NoRequest, Fate::Refused, Fate::Made, Fate::Idle] {
        assert!(fates.contains(&fate), "no seed is {fate:?}: {fates:?}");
    }
    let taken: Vec<bool> = seeds("config")
        .iter()
        .map(|seed| config::is_taken(&seed.1))
        .collect();
    assert!(taken.contains(&true) && taken.contains(&false), "{taken:?}");
    let taken: Vec<bool> = seeds("http_head")
        .iter()
        .map(|seed| http::is_taken(&seed.1))
        .collect();
    assert!(taken.contains(&true) && taken.contains(&false), "{taken:?}");
    let fates: Vec<_> = seeds("http_body")
        .iter()
        .map(|seed| http::fate(Endpoint::Chat, &seed.1))
        .collect();
    for fate in [
        http::Fate::Screened,
        http::Fate::NoRequest,
        http::Fate::Checked,
        http::Fate::Taken,
    ] {
        assert!(fates.contains(&fate), "no seed is {fate:?}: {fates:?}");
    }
    let taken = seeds("plugin_output")
        .into_iter()
        .map(|seed| plugin_output::fates(&seed.1));
    let taken: Vec<[bool; 3]> = taken.collect();
    for at in 0..3 {
        let of = |is| taken.iter().any(|taken| taken[at] == is);
        assert!(of(true) && of(false), "{at} of {taken:?}");
    }
}

/// The workspace is built by hand only: this keeps it from rotting until then.
#[test]
fn each_target_has_a_twin_here_and_a_file_there() {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let field = |bin: &toml::Value, name: &str| bin[name].as_str().unwrap().to_owned();
    let built: BTreeSet<String> = bins.iter().map(|bin| field(bin, "name")).collect();
    let here: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(built, here);
    let twins = include_str!("tests.rs");
    for bin in bins {
        let name = field(bin, "name");
        let source = fs::read_to_string(workspace().join(field(bin, "path"))).unwrap();
        assert!(
            source.contains(&format!("sluicegate::fuzzing::{name}(data)")),
            "{source}"
        );
        assert!(
            twins.contains(&format!("run(\"{name}\", ")),
            "{name} has no twin"
        );
    }
}
