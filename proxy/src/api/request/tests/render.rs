//! What goes to an upstream.

use super::*;

fn to_model(model: &str) -> Changes {
    Changes {
        model: Some(model.to_owned()),
        ..Changes::default()
    }
}

/// Number spellings, key order, duplicates, escapes and unknown fields that must arrive.
const ODD: &str = r#"{ "z":1,"model":"a\u002db", "seed":18446744073709551615,"big":123456789012345678901234567890,
    "temperature":1.0,"temperature" : 1e0 ,"x":{"\u0061":"\/\ud83d\ude00\u00e9é","a":null,"a":[ ]},
    "messages":[{"role":"user","name":"n","content":"caf\u00e9 \"\\ \ud800 ü","zz":-0.0}],"model" : "a-b" }"#;

#[test]
fn nothing_to_change_gives_the_same_bytes_without_a_copy() {
    let request = chat(ODD);
    for changes in [Changes::default(), to_model("a-b")] {
        let rendered = request.render(&changes);
        assert_eq!(rendered.as_ptr(), request.body.as_ptr());
        assert_eq!(rendered, ODD);
    }
}

#[test]
fn only_the_model_is_spliced_in_every_place() {
    let rendered = chat(ODD).render(&to_model("q\"8"));
    let expected = ODD
        .replace(r#""model":"a\u002db""#, r#""model":"q\"8""#)
        .replace(r#""model" : "a-b""#, r#""model" : "q\"8""#);
    assert_eq!(rendered, expected);
    // An earlier duplicate may be anything.
    let odd = r#"{"model":121,"model":["x"],"model":"m","messages":[]}"#;
    assert_eq!(
        chat(odd).render(&to_model("2")),
        r#"{"model":"2","model":"2","model":"2","messages":[]}"#
    );
}

#[test]
fn defaults_are_for_absent_keys_only() {
    let defaults = Changes {
        insert: vec![
            ("max_tokens", "512".to_owned()),
            ("temperature", "0.2".to_owned()),
            ("stop", r#"["\n"]"#.to_owned()),
        ],
        ..Changes::default()
    };
    let request = messages("[ ] ");
    assert_eq!(
        request.render(&defaults),
        r#"{"model":"m","messages":[ ],"max_tokens":512,"temperature":0.2,"stop":["\n"] }"#
    );
    assert_eq!(
        request.changed(&defaults),
        [
            "max_tokens=512 (default)",
            "temperature=0.2 (default)",
            r#"stop=["\n"] (default)"#
        ]
    );
    for present in [
        r#""max_tokens":1,"temperature":1,"stop":"x""#,
        r#""max_completion_tokens":1,"temperature":null,"stop":null"#,
        r#""max_tokens":null,"t\u0065mperature":0,"stop":[]"#,
    ] {
        let body = format!(r#"{{"model":"m",{present},"messages":[]}}"#);
        let request = chat(&body);
        assert_eq!(request.render(&defaults), body);
        assert_eq!(request.changed(&defaults), [] as [&str; 0]);
    }
}

#[test]
fn caps_lower_what_is_above_them() {
    let capped = Changes {
        max_tokens_cap: Some(1024),
        ..Changes::default()
    };
    let request = chat(
        r#"{"model":"m","max_tokens":4096,"messages":[],"max_completion_tokens":1e30,"max_tokens":2048.5}"#,
    );
    assert_eq!(
        request.render(&capped),
        r#"{"model":"m","max_tokens":1024,"messages":[],"max_completion_tokens":1024,"max_tokens":1024}"#
    );
    assert_eq!(
        request.changed(&capped),
        [
            "max_tokens=4096->1024",
            "max_completion_tokens=1e30->1024",
            "max_tokens=2048.5->1024"
        ]
    );
    for kept in ["1024", "1024.0", "10", "null", "-5", "\"many\""] {
        let body = format!(r#"{{"model":"m","max_tokens":{kept},"messages":[]}}"#);
        assert_eq!(chat(&body).render(&capped), body);
    }
    let both = Changes {
        insert: vec![("max_tokens", "4096".to_owned())],
        ..capped
    };
    assert_eq!(
        messages("[]").render(&both),
        r#"{"model":"m","messages":[],"max_tokens":1024}"#
    );
    assert_eq!(messages("[]").changed(&both), ["max_tokens=1024 (default)"]);
}

#[test]
fn a_limit_of_many_digits_does_not_fill_the_log() {
    let capped = Changes {
        max_tokens_cap: Some(1),
        ..Changes::default()
    };
    let wide_spaces = format!("\"{}9\"", "\u{3000}".repeat(100));
    for limit in ["9".repeat(300), wide_spaces] {
        let body = format!(r#"{{"model":"m","max_tokens":{limit},"messages":[]}}"#);
        assert!(chat(&body).changed(&capped)[0].len() < 60, "{limit}");
    }
}

#[test]
fn the_extension_becomes_a_system_message() {
    let extension = r#"{"terms":["a\u0062",{"term":"t","definition":"\"d\""}],"context":["c"]}"#;
    let system = r#"{"role":"system","content":[{"type":"text","text":"a\u0062"},{"type":"text","text":"t: \"d\""},{"type":"text","text":"c"}]}"#;
    let system = system.replace(r#"t: "d""#, r#"t: \"d\""#);
    let user = r#"{"role":"user","content":"q"}"#;
    let other = r#"{"role":"assistant","content":"a"}"#;
    for (list, expected) in [
        (
            format!("[{other}, {user} ,{other}]"),
            format!("[{other}, {system},{user} ,{other}]"),
        ),
        (format!("[{user}]"), format!("[{system},{user}]")),
        (format!("[ {other} ]"), format!("[ {other},{system} ]")),
        ("[ ]".to_owned(), format!("[{system} ]")),
    ] {
        for (before, after) in [
            (
                format!(r#"{{"model":"m","messages":{list},"sluicegate":{extension}}}"#),
                format!(r#"{{"model":"m","messages":{expected}}}"#),
            ),
            (
                format!(
                    r#"{{"sluicegate":{extension}, "model":"m","sluicegate":{extension},"messages":{list} }}"#
                ),
                format!(r#"{{"model":"m","messages":{expected} }}"#),
            ),
            (
                format!(
                    r#"{{"model":"m","messages":{list}, "sluicegate": {{}} , "sluicegate":{extension} }}"#
                ),
                format!(r#"{{"model":"m","messages":{expected} }}"#),
            ),
        ] {
            assert_eq!(chat(&before).render(&Changes::default()), after);
        }
    }
}

#[test]
fn everything_at_once() {
    let changes = Changes {
        model: Some("n".into()),
        insert: vec![("top_p", "1".into())],
        max_tokens_cap: Some(5),
    };
    let request = chat(
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}],"sluicegate":{"terms":["t"]}}"#,
    );
    assert_eq!(
        request.render(&changes),
        r#"{"model":"n","max_tokens":5,"messages":[{"role":"system","content":[{"type":"text","text":"t"}]},{"role":"user","content":"q"}],"top_p":1}"#
    );
}

#[test]
fn an_empty_extension_only_leaves() {
    let request = chat(r#"{"model":"m","sluicegate":{},"messages":[]}"#);
    assert_eq!(
        request.render(&Changes::default()),
        r#"{"model":"m","messages":[]}"#
    );
    let body = r#"{"model":"m","sluicegate":null,"input":"x"}"#;
    let request = parse(Endpoint::Embeddings, Bytes::from(body)).unwrap();
    assert_eq!(
        request.render(&Changes::default()),
        r#"{"model":"m","input":"x"}"#
    );
}
