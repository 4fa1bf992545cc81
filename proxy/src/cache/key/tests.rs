use super::*;
use crate::api::request::parse;
use proptest::prelude::*;

const PARTS: KeyParts<'_> = KeyParts {
    endpoint: Endpoint::Chat,
    scope: "tenant:a",
    model: "m-large",
    variant: "route-1",
    compression: "off",
    epoch: "1",
    ignore: &[],
    extra: &[],
};

fn key_of(body: &str) -> Key {
    key_with(body, &PARTS)
}

fn key_with(body: &str, parts: &KeyParts<'_>) -> Key {
    key(
        &parse(Endpoint::Chat, body.to_owned().into()).unwrap(),
        parts,
    )
}

/// A body with these members besides what it must have.
fn with(members: &str) -> String {
    format!(r#"{{"model":"m","messages":[],{members}}}"#)
}

#[test]
fn spelling_is_no_difference() {
    for (one, other) in [
        (r#""a":1"#, r#" "a" : 1.0 "#),
        (r#""a":100"#, r#""a":1e2"#),
        (r#""a":0.5"#, r#""a":50E-2"#),
        (r#""a":0"#, r#""a":-0.0e7"#),
        (r#""a":-1.50"#, r#""a":-15e-1"#),
        (r#""a":"é\n""#, r#""\u0061":"\u00e9\u000a""#),
        (r#""a":"😀/""#, r#""a":"\uD83D\ude00\/""#),
        (
            r#""a":{"x":[1,{"p":1,"q":2}],"y":2}"#,
            r#""a":{"y":2,"x":[1, {"q":2,"p":1}]}"#,
        ),
        (r#""a":1,"b":3,"a":2"#, r#""b":3,"a":1,"\u0061":2"#),
        (r#""x":{"a":1,"b":3,"a":2}"#, r#""x":{"a":1.0,"a":2,"b":3}"#),
        (
            r#""a":1,"stream":true"#,
            r#""a":1,"stream_options":{"include_usage":true}"#,
        ),
    ] {
        assert_eq!(
            key_of(&with(one)),
            key_of(&with(other)),
            "{one} and {other}"
        );
    }
}

#[test]
fn every_difference_of_value_is_a_difference() {
    let different = [
        r#""a":1"#,
        r#""a":10"#,
        r#""a":-1"#,
        r#""a":1.1"#,
        r#""a":"1""#,
        r#""a":true"#,
        r#""a":false"#,
        r#""a":null"#,
        r#""a":[]"#,
        r#""a":{}"#,
        r#""a":[1]"#,
        r#""a":[1,1]"#,
        r#""a":[[1],1]"#,
        r#""a":[[1,1]]"#,
        r#""a":{"a":1}"#,
        r#""b":1"#,
        r#""a":123456789012345678901234567890"#,
        r#""a":123456789012345678901234567891"#,
        r#""a":18446744073709551615"#,
        r#""a":18446744073709551616"#,
        r#""a":1e400"#,
        r#""a":1e401"#,
        r#""a":1e99999999999999999999"#,
        r#""a":1e99999999999999999998"#,
        r#""a":"\ud800""#,
        r#""a":"\ud801""#,
        r#""a":"\ufffd""#,
        r#""a":" 1""#,
        r#""a":"e\u0301""#,
        r#""a":"\u00e9""#,
        r#""\ud800":1"#,
        r#""\ud801":1"#,
        r#""max_tokens":1"#,
        r#""max_completion_tokens":1"#,
        r#""sluicegate":{"terms":["x"]}"#,
        r#""sluicegate":{"context":["x"]}"#,
        // Of a key that stands twice, upstreams take the one or the other.
        r#""a":1,"a":1"#,
        r#""a":2,"a":1"#,
        r#""a":1,"a":2"#,
        r#""a":{"b":1}"#,
        r#""a":{"b":[3],"b":1}"#,
        r#""a":{"b":1,"b":[3]}"#,
        r#""a":[{"b":{"c":1,"c":2}}]"#,
        r#""a":[{"b":{"c":2,"c":2}}]"#,
        r#""model":"m""#,
        r#""messages":[{"role":"user","content":"x","content":"y"}],"messages":[]"#,
    ];
    let mut seen = std::collections::HashMap::new();
    for member in different {
        let earlier = seen.insert(key_of(&with(member)), member);
        assert_eq!(earlier, None, "{member}");
    }
}

#[test]
fn each_part_is_a_difference_and_pieces_do_not_run_together() {
    let body = with(r#""seed":1"#);
    let extra = |parts: &[&str]| -> &'static [String] {
        parts
            .iter()
            .map(|part| (*part).to_owned())
            .collect::<Vec<_>>()
            .leak()
    };
    let variants = [
        PARTS,
        KeyParts {
            endpoint: Endpoint::Completions,
            ..PARTS
        },
        KeyParts {
            scope: "tenant:b",
            ..PARTS
        },
        KeyParts {
            scope: "tenant:am",
            model: "-large",
            ..PARTS
        },
        KeyParts {
            model: "m-small",
            ..PARTS
        },
        KeyParts {
            variant: "route-2",
            ..PARTS
        },
        KeyParts {
            variant: "",
            compression: "route-1off",
            ..PARTS
        },
        KeyParts {
            compression: "on",
            ..PARTS
        },
        KeyParts {
            epoch: "2",
            ..PARTS
        },
        KeyParts {
            ignore: &["temperature"],
            ..PARTS
        },
        KeyParts {
            ignore: &["seed"],
            ..PARTS
        },
        KeyParts {
            extra: extra(&["ab"]),
            ..PARTS
        },
        KeyParts {
            extra: extra(&["a", "b"]),
            ..PARTS
        },
        KeyParts {
            extra: extra(&["", "ab"]),
            ..PARTS
        },
        KeyParts {
            ignore: &["ab"],
            ..PARTS
        },
    ];
    let keys: std::collections::HashSet<_> = variants
        .iter()
        .map(|parts| key_with(&body, parts))
        .collect();
    assert_eq!(keys.len(), variants.len());
}

#[test]
fn what_the_policy_takes_out_is_no_difference() {
    let parts = KeyParts {
        ignore: &["model", "temperature"],
        ..PARTS
    };
    let one = key_with(r#"{"model":"a","messages":[],"temperature":1}"#, &parts);
    let other_parts = KeyParts {
        ignore: &["temperature", "model"],
        model: "other",
        ..PARTS
    };
    assert_eq!(
        one,
        key_with(r#"{"model":"b","messages":[]}"#, &other_parts)
    );
    assert_ne!(
        one,
        key_with(r#"{"model":"b","messages":[],"top_p":1}"#, &parts)
    );
}

#[test]
fn depth_and_size_cost_neither_stack_nor_more_than_linear_time() {
    let deep = |inner: &str, levels: usize| {
        let open = r#"{"b":1,"a":["#.repeat(levels);
        with(&format!("\"x\":{open}{inner}{}", "]}".repeat(levels)))
    };
    assert_ne!(key_of(&deep("1", 10_000)), key_of(&deep("2", 10_000)));
    assert_eq!(key_of(&deep("1", 20)), key_of(&deep("1.0", 20)));
    // Unsorted at every level around much text: sorting must not move the text each time.
    let started = std::time::Instant::now();
    key_of(&deep(&format!("\"{}\"", "x".repeat(8 << 20)), 90));
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn a_value_over_the_inline_limit_is_canonical_too() {
    let long = "x".repeat(1_000);
    let one = with(&format!(r#""a":{{"p":"{long}","q":{{"r":1,"s":2}}}}"#));
    let other = with(&format!(r#""a":{{"q":{{"s":2e0,"r":1}},"p":"{long}"}}"#));
    assert_eq!(key_of(&one), key_of(&other));
    assert_ne!(key_of(&one), key_of(&one.replace("\"s\":2", "\"s\":3")));
}

fn values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(".{0,3}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The value with its members in another order, other white space, and every character escaped
/// that is not ASCII.
fn respelt(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Object(map) => {
            out.push_str("{ ");
            for (at, (key, value)) in map.iter().rev().enumerate() {
                out.push_str(if at == 0 { "" } else { " ,\n" });
                respelt(&key.as_str().into(), out);
                out.push_str(" :\t");
                respelt(value, out);
            }
            out.push('}');
        }
        serde_json::Value::Array(list) => {
            out.push('[');
            for (at, value) in list.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { " , " });
                respelt(value, out);
            }
            out.push(']');
        }
        serde_json::Value::String(text) => {
            out.push('"');
            for unit in text.encode_utf16() {
                out.push_str(&format!("\\u{unit:04X}"));
            }
            out.push('"');
        }
        serde_json::Value::Number(number) if number.is_i64() => {
            out.push_str(&format!("{number}00E-2"));
        }
        other => out.push_str(&other.to_string()),
    }
}

proptest! {
    #[test]
    fn order_and_spelling_never_matter(value in values()) {
        let mut other = String::new();
        respelt(&value, &mut other);
        let one = with(&format!("\"v\":{value}"));
        let other = format!("{{\"v\":{other} , \"messages\":[ ],\"model\":\"\\u006d\"}}");
        prop_assert_eq!(key_of(&one), key_of(&other));
    }

    #[test]
    fn any_changed_value_changes_the_key(one in values(), other in values()) {
        // Equal as JSON: numbers by value, zero without a sign.
        let zero = |value: &serde_json::Value| value.to_string().replace("-0.0", "0");
        let same = one == other || zero(&one) == zero(&other)
            || one.as_f64().is_some_and(|one| other.as_f64() == Some(one));
        prop_assume!(!same);
        let [one, other] = [one, other].map(|value| key_of(&with(&format!("\"v\":{value}"))));
        prop_assert_ne!(one, other);
    }

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let mut out = Vec::new();
        canonical::encode(&mut out, &text);
    }
}
