//! Requests as clients write them, and odder: drawn as texts, so that spacing, order, escapes and
//! number forms are drawn too.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use super::super::edits::{Fate, fate};

/// A string literal that mixes characters and escapes, halves of surrogate pairs among them.
fn literal() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        4 => "[a-z]{1,6} ",
        1 => "[é漢😀\u{fffd}\u{7f}\u{a0}]",
        2 => select(vec![r"\n", r#"\""#, r"\\", r"\/", r"\u00e9", r"\u0000", r"\u0020"])
            .prop_map(str::to_owned),
        2 => select(vec![r"\ud83d\uDE00", r"\ud83d", r"\ude00"]).prop_map(str::to_owned),
    ];
    vec(unit, 0..6).prop_map(|units| format!("\"{}\"", units.concat()))
}

/// A value that nobody reads.
fn unknown() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        literal(),
        select(vec![
            "null",
            "true",
            "-0.0",
            "1.50",
            "1e400",
            "18446744073709551616"
        ])
        .prop_map(str::to_owned),
        "-?[1-9][0-9]{0,30}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            list(vec(inner.clone(), 0..3)),
            object(vec((select(vec!["a", "b", r"\u0061"]), inner), 0..4)),
        ]
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "", " ", "\n", " \r\n\t"])
}

fn list(items: impl Strategy<Value = Vec<String>>) -> impl Strategy<Value = String> {
    (items, space(), space()).prop_map(|(items, one, other)| {
        format!("[{one}{}{other}]", items.join(&format!("{one},{other}")))
    })
}

/// An object of members in any order, in which a name may stand twice.
fn object(
    members: impl Strategy<Value = Vec<(&'static str, String)>>,
) -> impl Strategy<Value = String> {
    let members = members.prop_shuffle();
    (members, space(), space()).prop_map(|(members, one, other)| {
        let members = members
            .iter()
            .map(|(key, value)| format!("\"{key}\"{one}:{other}{value}"));
        let members: Vec<String> = members.collect();
        format!(
            "{{{other}{}{one}}}",
            members.join(&format!("{one},{other}"))
        )
    })
}

/// These members, now and then with others.
fn with_unknown(
    members: impl Strategy<Value = Vec<(&'static str, String)>>,
) -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let names = vec!["name", "z", "cache_control", r"e\u0078tra", "\\ud800"];
    (members, vec((select(names), unknown()), 0..3)).prop_map(|(mut members, more)| {
        members.extend(more);
        members
    })
}

fn part() -> impl Strategy<Value = String> {
    let of_type = |name: &'static str, field: &'static str| {
        let literals = vec(literal(), 1..3);
        object(with_unknown(literals.prop_map(move |literals| {
            let texts = literals.into_iter().map(|literal| (field, literal));
            texts.chain([("type", format!("\"{name}\""))]).collect()
        })))
    };
    prop_oneof![
        2 => literal(),
        4 => of_type("text", "text"),
        1 => of_type("refusal", "refusal"),
        1 => of_type("hologram", "text"),
        1 => literal().prop_map(|url| format!(r#"{{"type":"image_url","image_url":{{"url":{url}}}}}"#)),
        1 => Just(r#"{"type":"input_audio","input_audio":{"data":"QUJD","format":"wav"}}"#.to_owned()),
    ]
}

fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => literal(),
        3 => list(vec(part(), 0..4)),
        1 => Just("null".to_owned()),
    ]
}

fn message() -> impl Strategy<Value = String> {
    let id = || select(vec![r#""a""#, r#""b""#, r#""\u0061""#]).prop_map(str::to_owned);
    let call = id().prop_map(|id| {
        format!(r#"{{"id":{id},"type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#)
    });
    let spoken = (
        select(vec!["system", "developer", "user", "assistant", "critic"]),
        content(),
    );
    let spoken = spoken
        .prop_map(|(role, content)| vec![("role", format!("\"{role}\"")), ("content", content)]);
    let caller = (option::of(content()), list(vec(call, 1..3)));
    let caller = caller.prop_map(|(content, calls)| {
        let role = ("role", r#""assistant""#.to_owned());
        let content = content.map(|content| ("content", content));
        content
            .into_iter()
            .chain([role, ("tool_calls", calls)])
            .collect()
    });
    let older = Just(vec![
        ("role", r#""assistant""#.to_owned()),
        (
            "function_call",
            r#"{"name":"f","arguments":"1"}"#.to_owned(),
        ),
    ]);
    let answer = (
        content(),
        option::of(id()),
        select(vec!["tool", "tool", "function"]),
    );
    let answer = answer.prop_map(|(content, id, role)| {
        let id = id.map(|id| ("tool_call_id", id));
        let rest = [("role", format!("\"{role}\"")), ("content", content)];
        id.into_iter().chain(rest).collect()
    });
    object(with_unknown(prop_oneof![
        6 => spoken.boxed(),
        2 => caller.boxed(),
        1 => older.boxed(),
        4 => answer.boxed(),
    ]))
}

/// The `sluicegate` field.
fn extension() -> impl Strategy<Value = String> {
    let pair = |one: &'static str, other: &'static str| {
        let texts = (literal(), literal());
        object(texts.prop_map(move |(a, b)| vec![(one, a), (other, b)]))
    };
    let terms = list(vec(
        prop_oneof![literal(), pair("term", "definition")],
        0..3,
    ));
    let chunks = list(vec(prop_oneof![literal(), pair("text", "source")], 0..3));
    object((terms, chunks).prop_map(|(terms, chunks)| vec![("terms", terms), ("context", chunks)]))
}

fn body() -> impl Strategy<Value = String> {
    let model = select(vec![r#""m""#, r#""\u006d""#, r#""other""#]).prop_map(str::to_owned);
    let limits = vec!["5", "4096", "2048.5", "1e3", "null", r#""5000""#, "1e30"];
    let limit = (
        select(vec![
            "max_tokens",
            "max_completion_tokens",
            "max_token\\u0073",
        ]),
        select(limits).prop_map(str::to_owned),
    );
    let chat = (
        vec(model, 1..3),
        list(vec(message(), 0..7)),
        option::weighted(0.4, extension()),
        vec(limit, 0..2),
    );
    let chat = chat.prop_map(|(models, messages, extension, limits)| {
        let models = models.into_iter().map(|model| ("model", model));
        let extension = extension.map(|extension| ("sluicegate", extension));
        let messages = [
            ("messages", messages),
            ("seed", "18446744073709551615".to_owned()),
        ];
        models
            .chain(extension)
            .chain(messages)
            .chain(limits)
            .collect()
    });
    (object(with_unknown(chat)), space(), any::<bool>()).prop_map(|(body, space, has_mark)| {
        let mark = if has_mark { "\u{feff}" } else { "" };
        format!("{mark}{space}{body}{space}")
    })
}

/// Prompts of a completion, or inputs of embeddings.
fn prompts(name: &'static str) -> impl Strategy<Value = String> {
    let prompts = prop_oneof![
        literal(),
        list(vec(
            prop_oneof![3 => literal(), 1 => Just("[1, 2,3]".to_owned())],
            0..4
        )),
        Just("[1,2]".to_owned()),
    ];
    object(with_unknown(prompts.prop_map(move |prompts| {
        vec![("model", r#""m""#.to_owned()), (name, prompts)]
    })))
}

/// A script of edits and settings; see [`super::super::edits`].
fn script() -> impl Strategy<Value = String> {
    let place = (0_u32..7, 0_u32..4, 0_u32..9, 1_u32..9);
    let edit = prop_oneof![
        1 => (0_u32..7).prop_map(|message| format!("g {message}")),
        1 => (0_u32..7).prop_map(|message| format!("m {message}")),
        1 => (0_u32..7, 0_u32..4).prop_map(|(message, part)| format!("p {message} {part}")),
        9 => (place, select(vec!["c", "x"]), "[ -~é\t]{0,2}").prop_map(
            |((message, part, start, length), command, text)| {
                format!("{command} {message} {part} {start} {} {text}", start + length)
            }
        ),
    ];
    let settings = vec![
        "results",
        "results",
        "results",
        "last-user",
        "last-user",
        "model m",
        "model q\"8",
        "cap 1024",
        "default 512",
        "default 2000",
        "default [\"\\n\"]",
    ];
    let lines = (vec(edit, 0..4), vec(select(settings), 1..5));
    lines.prop_map(|(edits, settings)| {
        let lines: Vec<String> = edits
            .into_iter()
            .chain(settings.into_iter().map(str::to_owned))
            .collect();
        lines.join("\n")
    })
}

#[test]
fn what_goes_upstream_is_what_the_edits_say_and_else_the_same_bytes() {
    const CASES: u32 = 3_000;
    let drawn = prop_oneof![
        6 => (body(), script()).prop_map(|(body, script)| format!("{body}\n---\n{script}")),
        1 => (prompts("prompt"), script()).prop_map(|(body, script)| {
            format!("{body}\n---\nendpoint completions\nlast-user\n{script}")
        }),
        1 => (prompts("input"), script()).prop_map(|(body, script)| {
            format!("{body}\n---\nendpoint embeddings\nlast-user\n{script}")
        }),
    ];
    let made = std::cell::Cell::new([0_u32; 4]);
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&drawn, |input| {
        let mut counts = made.get();
        counts[fate(input.as_bytes()) as usize] += 1;
        made.set(counts);
        Ok(())
    });
    assert!(
        outcome.is_ok(),
        "keep this in tests/fuzz/seeds/edits: {}",
        outcome.unwrap_err()
    );
    // Requests that are refused as such, or lists that all fail, would prove little.
    let counts = made.get();
    assert_eq!(counts[Fate::NoRequest as usize], 0, "{counts:?}");
    assert!(counts[Fate::Made as usize] > CASES / 8, "{counts:?}");
    assert!(counts[Fate::Refused as usize] > CASES / 10, "{counts:?}");
}
