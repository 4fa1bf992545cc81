//! The cache key: equal for two spellings of one request, different for any two that differ.
//!
//! The input is a body, or two with a line `---` between them. One that is no request of its own is
//! taken for a field of one.

mod respell;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::both;
use super::json::{self, Content, Entry, Value};
use crate::api::{Endpoint, request};
use crate::cache::{self, Key, KeyParts};
use respell::{Draws, respell};

/// Fields that are taken out of one of the two keys of each request.
const IGNORED: [&str; 2] = ["temperature", "max_tokens"];
/// Fields that are part of no key.
const NEVER: [&str; 2] = ["stream", "stream_options"];

/// The target.
pub fn canonical_request(data: &[u8]) {
    cache::encode(&mut Vec::new(), &String::from_utf8_lossy(data));
    let (one, other) = both(data);
    let seed = data.iter().fold(data.len() as u64 + 1, |seed, byte| {
        seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
    });
    let (one, other) = (body(&one), body(&other));
    let keys = [&one, &other].map(|body| body.as_deref().and_then(keys));
    if let (Some(one), Some(keys)) = (&one, &keys[0]) {
        assert_respellings_are_equal(one, keys, seed);
        assert_a_change_is_a_difference(one, keys, seed);
    }
    if let (Some(one), Some(other), [Some(keys), Some(other_keys)]) = (&one, &other, &keys) {
        assert_tells_apart((one, keys), (other, other_keys));
    }
}

/// The text as a body, alone or within one.
fn body(text: &str) -> Option<String> {
    let wrapped = || format!(r#"{{"model":"m","wrapped":{text}}}"#);
    let is_request = |text: &String| keys(text).is_some();
    [text.to_owned(), wrapped()].into_iter().find(is_request)
}

/// The key, and the key without what is ignored; none of what is no request.
fn keys(body: &str) -> Option<[Key; 2]> {
    // Completions ask least of a body: a model.
    let body = Bytes::copy_from_slice(body.as_bytes());
    let request = request::parse(Endpoint::Completions, body).ok()?;
    let parts = KeyParts {
        endpoint: Endpoint::Completions,
        scope: "tenant:a",
        model: "m",
        variant: "default",
        compression: "on",
        epoch: "1",
        ignore: &[],
        extra: &[],
    };
    let parts = [
        parts,
        KeyParts {
            ignore: &IGNORED,
            ..parts
        },
    ];
    Some(parts.map(|parts| cache::key(&request, &parts)))
}

fn tree(body: &str) -> Option<Value<'_>> {
    json::read(body.strip_prefix('\u{feff}').unwrap_or(body))
}

/// Order, white space, escapes and number forms make no difference, however often they change.
fn assert_respellings_are_equal(body: &str, keys_of_body: &[Key; 2], seed: u64) {
    let Some(tree) = tree(body) else { return };
    let mut draws = Draws(seed);
    let respelt = respell(&tree, &mut draws);
    assert_eq!(
        keys(&respelt).as_ref(),
        Some(keys_of_body),
        "respelt as {respelt}"
    );
    let again = json::read(&respelt).expect("a respelling is JSON");
    let again = respell(&again, &mut draws);
    assert_eq!(
        keys(&again).as_ref(),
        Some(keys_of_body),
        "respelt again as {again}"
    );
}

/// One value that changes changes the key, where it is part of the key.
fn assert_a_change_is_a_difference(body: &str, keys_of_body: &[Key; 2], seed: u64) {
    let Some(tree) = tree(body) else { return };
    let mut leaves = Vec::new();
    collect_leaves(&tree, &mut leaves);
    let mut draws = Draws(seed);
    let leaf = leaves[draws.below(leaves.len())];
    let other = match &leaf.content {
        Content::Word => "0".to_owned(),
        Content::Number
            if is_equal(leaf, &json::read("7.25").expect("a number")) == Some(false) =>
        {
            "7.25".to_owned()
        }
        Content::Number => "7.26".to_owned(),
        Content::Text(_) => format!("{}x\"", leaf.text.strip_suffix('"').unwrap_or(leaf.text)),
        Content::List(_) => "[null]".to_owned(),
        Content::Object(_) => r#"{"x":null}"#.to_owned(),
    };
    let mut changes = json::Changes::default();
    changes.new.insert(leaf.place(), other);
    let changed = tree.print(&changes);
    if let Some(keys_of_changed) = keys(&changed) {
        assert_tells_apart((body, keys_of_body), (&changed, &keys_of_changed));
    }
}

/// Two keys are equal when, and only when, the requests are equal.
fn assert_tells_apart((one, keys): (&str, &[Key; 2]), (other, other_keys): (&str, &[Key; 2])) {
    let (Some(one_tree), Some(other_tree)) = (tree(one), tree(other)) else {
        return;
    };
    for (at, ignored) in [&[][..], &IGNORED].into_iter().enumerate() {
        let equal = members_are_equal(one_tree.members(), other_tree.members(), &|key| {
            let key = String::from_utf16_lossy(key);
            !NEVER.contains(&key.as_str()) && !ignored.contains(&key.as_str())
        });
        let same = keys[at] == other_keys[at];
        assert!(
            equal.is_none_or(|equal| equal == same),
            "{one}\nand {other}: one key? {same}"
        );
    }
}

/// Whether two values say the same. None where numbers are too far apart to be written out.
fn is_equal(one: &Value<'_>, other: &Value<'_>) -> Option<bool> {
    match (&one.content, &other.content) {
        (Content::Word, Content::Word) => Some(one.text == other.text),
        (Content::Text(one), Content::Text(other)) => Some(one == other),
        (Content::Number, Content::Number) => Some(plain(one.text)? == plain(other.text)?),
        (Content::List(one), Content::List(other)) => {
            let pairs = one.list.iter().zip(&other.list);
            let equal = pairs.map(|(one, other)| is_equal(&one.value, &other.value));
            all(equal).map(|equal| equal && one.list.len() == other.list.len())
        }
        (Content::Object(one), Content::Object(other)) => {
            members_are_equal(&one.list, &other.list, &|_| true)
        }
        _ => Some(false),
    }
}

/// Whether each name has the same values in the same order.
fn members_are_equal(
    one: &[Entry<'_>],
    other: &[Entry<'_>],
    counts: &dyn Fn(&[u16]) -> bool,
) -> Option<bool> {
    let by_name = |entries: &'_ [Entry<'_>]| {
        let mut names: HashMap<Vec<u16>, Vec<usize>> = HashMap::new();
        for (at, entry) in entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| counts(&entry.key))
        {
            names.entry(entry.key.clone()).or_default().push(at);
        }
        names
    };
    let (one_names, other_names) = (by_name(one), by_name(other));
    let names: HashSet<_> = one_names.keys().chain(other_names.keys()).collect();
    all(names.into_iter().map(|name| {
        let (Some(mine), Some(theirs)) = (one_names.get(name), other_names.get(name)) else {
            return Some(false);
        };
        let pairs = mine.iter().zip(theirs);
        let equal =
            all(pairs
                .map(|(one_at, other_at)| is_equal(&one[*one_at].value, &other[*other_at].value)));
        equal.map(|equal| equal && mine.len() == theirs.len())
    }))
}

/// False when one is false, else none when one is unknown.
fn all(claims: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let claims: Vec<_> = claims.collect();
    match claims.contains(&Some(false)) {
        true => Some(false),
        false => claims.into_iter().collect::<Option<Vec<_>>>().map(|_| true),
    }
}

/// A number written out: sign, digits before and behind the point, without zeros that say nothing.
/// None where that takes too many digits.
fn plain(number: &str) -> Option<String> {
    const MOST_ZEROS: usize = 500;
    let unsigned = number.trim_start_matches('-');
    let (mantissa, power) = match unsigned.find(['e', 'E']) {
        Some(at) => {
            let (mantissa, power) = unsigned.split_at(at);
            (mantissa, power.trim_start_matches(['e', 'E', '+']))
        }
        None => (unsigned, "0"),
    };
    let mut before: Vec<char> = mantissa.chars().take_while(|c| *c != '.').collect();
    let mut behind: Vec<char> = mantissa.chars().skip_while(|c| *c != '.').skip(1).collect();
    if before.iter().chain(&behind).all(|digit| *digit == '0') {
        return Some("0".to_owned());
    }
    let power: i64 = power.parse().ok()?;
    let steps = usize::try_from(power.unsigned_abs())
        .ok()
        .filter(|steps| *steps <= MOST_ZEROS)?;
    for _ in 0..steps {
        if power > 0 {
            let moved = if behind.is_empty() {
                '0'
            } else {
                behind.remove(0)
            };
            before.push(moved);
        } else {
            behind.insert(0, before.pop().unwrap_or('0'));
        }
    }
    let before: String = before.into_iter().collect();
    let behind: String = behind.into_iter().collect();
    let sign = if number.starts_with('-') { "-" } else { "" };
    Some(format!(
        "{sign}{}.{}",
        before.trim_start_matches('0'),
        behind.trim_end_matches('0')
    ))
}

fn collect_leaves<'v, 'a>(value: &'v Value<'a>, leaves: &mut Vec<&'v Value<'a>>) {
    match &value.content {
        Content::List(entries) | Content::Object(entries) if !entries.list.is_empty() => {
            for entry in &entries.list {
                collect_leaves(&entry.value, leaves);
            }
        }
        _ => leaves.push(value),
    }
}
