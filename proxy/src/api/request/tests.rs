use super::*;
use crate::api::json;
use crate::api::prompt::{AnswerFormat, Endpoint, Message, Origin, Part, Role, ToolChoice};
use proptest::prelude::*;
use serde_json::{Value, json};
use sluicegate_edits::{Cut, MessagePlan, PartPlan, Plan};

mod edits;
mod render;

fn chat(body: &str) -> Request {
    parse(Endpoint::Chat, Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn refusal(endpoint: Endpoint, body: &str) -> RequestError {
    parse(endpoint, Bytes::copy_from_slice(body.as_bytes())).unwrap_err()
}

/// A chat request with these messages.
fn messages(messages: &str) -> Request {
    chat(&format!(r#"{{"model":"m","messages":{messages}}}"#))
}

/// The texts of a message, tool results among them.
fn texts(message: &Message) -> Vec<&str> {
    let texts = message.parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.text.as_str()),
        Part::ToolResult(result) => Some(result.content.text.as_str()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn errors_name_the_field() {
    let cases = [
        ("[]", None, "invalid_json"),
        ("{", None, "invalid_json"),
        ("{} x", None, "invalid_json"),
        ("{}{}", None, "invalid_json"),
        ("", None, "invalid_json"),
        (
            "{\"messages\":[]}",
            Some("model"),
            "missing_required_parameter",
        ),
        (
            "{\"model\":\"m\"}",
            Some("messages"),
            "missing_required_parameter",
        ),
        (
            "{\"model\":5,\"messages\":[]}",
            Some("model"),
            "invalid_type",
        ),
        (
            "{\"model\":null,\"messages\":[]}",
            Some("model"),
            "invalid_type",
        ),
        (
            "{\"model\":\"\",\"messages\":[]}",
            Some("model"),
            "invalid_value",
        ),
        (
            "{\"model\":\"m\",\"messages\":{}}",
            Some("messages"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[1]}",
            Some("messages[0]"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[{},{},{\"content\":5}]}",
            Some("messages[2].content"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[{\"content\":[{},7]}]}",
            Some("messages[0].content[1]"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[{\"role\":1}]}",
            Some("messages[0].role"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[],\"stream\":1}",
            Some("stream"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[],\"stream\":\"true\"}",
            Some("stream"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[],\"sluicegate\":[]}",
            Some("sluicegate"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[],\"sluicegate\":{\"terms\":{}}}",
            Some("sluicegate.terms"),
            "invalid_type",
        ),
        (
            "{\"model\":\"m\",\"messages\":[],\"sluicegate\":{\"context\":[\"a\",{}]}}",
            Some("sluicegate.context[1]"),
            "invalid_type",
        ),
    ];
    for (body, param, code) in cases {
        let error = refusal(Endpoint::Chat, body);
        assert_eq!(
            (error.param.as_deref(), error.code),
            (param, code),
            "{body}"
        );
        assert!(
            param.is_none_or(|param| error.message.contains(param)),
            "{}",
            error.message
        );
    }
    let long = "m".repeat(257);
    let error = refusal(
        Endpoint::Chat,
        &format!(r#"{{"model":"{long}","messages":[]}}"#),
    );
    assert_eq!(error.code, "invalid_value");
    let error = refusal(Endpoint::Embeddings, r#"{"model":"m"}"#);
    assert_eq!(error.param.as_deref(), Some("input"));
    let error = refusal(
        Endpoint::Completions,
        r#"{"model":"m","prompt":["a",null]}"#,
    );
    assert_eq!(error.param.as_deref(), Some("prompt[1]"));
    let error = refusal(Endpoint::Completions, r#"{"model":"m","prompt":{}}"#);
    assert_eq!(error.param.as_deref(), Some("prompt"));
    assert_eq!(
        parse(Endpoint::Chat, Bytes::from_static(b"{\"\xff\":1}"))
            .unwrap_err()
            .code,
        "invalid_json"
    );
}

#[test]
fn what_is_unknown_is_let_through() {
    let request = messages(
        r#"[{"role":"critic","content":"a"},{"content":null},{"role":"user"},
            {"role":"user","content":["plain",{"text":"untyped"},{"type":"hologram","x":1},{"type":"text"}]}]"#,
    );
    let prompt = &request.prompt;
    assert_eq!(prompt.messages[0].role, Role::Other);
    assert_eq!(texts(&prompt.messages[0]), ["a"]);
    assert!(prompt.messages[1].parts.is_empty() && prompt.messages[2].parts.is_empty());
    assert_eq!(texts(&prompt.messages[3]), ["plain", "untyped"]);
    assert!(matches!(&prompt.messages[3].parts[2], Part::Other(kind) if kind == "hologram"));
    assert!(matches!(&prompt.messages[3].parts[3], Part::Other(kind) if kind == "text"));
    assert_eq!(prompt.last_user, Some(3));
    assert_eq!(prompt.text_bytes, 13);
}

#[test]
fn a_byte_order_mark_and_halves_of_pairs_stay_where_they_are() {
    let body =
        "\u{feff}{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\\ud800b\"}]}";
    let request = chat(body);
    assert_eq!(texts(&request.prompt.messages[0]), ["a\u{fffd}b"]);
    assert_eq!(request.render(&Changes::default()), body);
    let changed = request.render(&Changes {
        model: Some("n".into()),
        ..Changes::default()
    });
    assert_eq!(changed, body.replace("\"m\"", "\"n\""));
}

#[test]
fn depth_overflows_nothing() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let request = chat(&format!(
            r#"{{"model":"m","x":{deep},"tools":{deep},"messages":[{{"role":"user","x":{deep},"content":[{{"type":"text","text":"t","x":{deep}}}]}}]}}"#
        ));
        assert_eq!(texts(&request.prompt.messages[0]), ["t"]);
        let deep = format!("{}{}", open.repeat(100_000), close.repeat(100_000));
        let body = format!(r#"{{"model":"m","messages":{deep}}}"#);
        assert!(parse(Endpoint::Chat, body.into()).is_err());
    }
    assert!(parse(Endpoint::Chat, Bytes::from("[".repeat(1_000_000))).is_err());
}

const RULES: Rules<'_> = Rules {
    extra_roles: &[],
    max_choices: 128,
};

#[test]
fn what_is_read_may_not_come_twice() {
    let message = r#"{"role":"user","content":"x"}"#;
    for (more, messages, param) in [
        (r#","m\u006fdel":"b""#, message, "model"),
        (r#","messages":[]"#, message, "messages"),
        (r#","n":1,"n":2"#, message, "n"),
        (
            "",
            r#"{},{"role":"user","role":"system"}"#,
            "messages[1].role",
        ),
        (
            "",
            r#"{"content":"y","content":"z"}"#,
            "messages[0].content",
        ),
    ] {
        let body = format!(r#"{{"model":"a","messages":[{messages}]{more}}}"#);
        let error = chat(&body).check(RULES).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
        assert_eq!(error.code, "repeated_parameter");
    }
    let body = format!(r#"{{"model":"a","x":1,"messages":[{message}],"x":2}}"#);
    chat(&body).check(RULES).unwrap();
}

#[test]
fn of_duplicates_the_last_holds() {
    let request = chat(
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"n":2,"model":"b","n":3,
            "messages":[{"role":"user","role":"system","content":"y","content":"z"}]}"#,
    );
    assert_eq!(request.prompt.model, "b");
    assert_eq!(request.prompt.messages.len(), 1);
    assert_eq!(request.prompt.messages[0].role, Role::System);
    assert_eq!(texts(&request.prompt.messages[0]), ["z"]);
    assert_eq!(request.expected_choices(), 3);
}

#[test]
fn what_makes_no_sense_is_named() {
    let critic = ["critic".to_owned()];
    let rules = Rules {
        extra_roles: &critic,
        ..RULES
    };
    let user = r#"{"role":"user","content":"x"}"#;
    for (more, messages, param) in [
        ("", "", "messages"),
        (r#","sluicegate":{"context":["a"]}"#, "", "messages"),
        ("", r#"{"role":"user"},{"content":"x"}"#, "messages[1].role"),
        ("", r#"{"role":"wizard","content":"x"}"#, "messages[0].role"),
        ("", r#"{"role":"","content":"x"}"#, "messages[0].role"),
        (r#","n":129"#, user, "n"),
        (r#","n":4e9"#, user, "n"),
        (r#","temperature":1e999"#, user, "temperature"),
        (r#","max_tokens":-1"#, user, "max_tokens"),
        (r#","Max_Tokens":9"#, user, "Max_Tokens"),
        (r#","\u017ftream":true"#, user, "\u{17f}tream"),
        (r#","whatever":-1E400"#, user, "whatever"),
    ] {
        let body = format!(r#"{{"model":"a","messages":[{messages}]{more}}}"#);
        let error = chat(&body).check(rules).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
        assert!(error.message.contains(param), "{}", error.message);
    }
    for (more, messages) in [
        ("", r#"{"role":"critic","content":"x"},{"role":"function"}"#),
        (r#","n":128,"seed":123456789012345678901234567890"#, user),
        (r#","n":"2","x":[1e999],"temperature":1e-999"#, user),
    ] {
        let body = format!(r#"{{"model":"a","messages":[{messages}]{more}}}"#);
        chat(&body).check(rules).unwrap();
    }
    for n in ["0", "-1", "1e999", "true", "[]", "\"many\"", "0.5"] {
        let body = format!(r#"{{"model":"a","messages":[{user}],"n":{n}}}"#);
        assert_eq!(refusal(Endpoint::Chat, &body).param.as_deref(), Some("n"));
    }
}

#[test]
fn media_say_what_they_are() {
    let request = messages(
        r#"[{"role":"user","content":[
            {"type":"image_url","image_url":{"url":"data:image\/PNG;base64,QUJDRA==","detail":"low"}},
            {"type":"image_url","image_url":"https://pics.example:8080/a,b.png"},
            {"type":"input_audio","input_audio":{"data":"QUJD","format":"wav"}},
            {"type":"video_url","video_url":{"url":"https://v.example/x"}},
            {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,QUJD"}},
            {"type":"file","file":{"file_id":"file-1"}},
            {"type":"input_text","text":"t"},{"type":"refusal","refusal":"no"},
            {"image_url":{"url":"data:,hello"}}
        ]}]"#,
    );
    let message = &request.prompt.messages[0];
    let seen: Vec<_> = message
        .parts
        .iter()
        .map(|part| match part {
            Part::Image(m) => ("image", m.media_type.as_deref(), m.name.as_deref(), m.size),
            Part::Audio(m) => ("audio", m.media_type.as_deref(), m.name.as_deref(), m.size),
            Part::Video(m) => ("video", m.media_type.as_deref(), m.name.as_deref(), m.size),
            Part::File(m) => ("file", m.media_type.as_deref(), m.name.as_deref(), m.size),
            Part::Text(text) => ("text", None, Some(text.text.as_str()), None),
            Part::ToolCall(_) | Part::ToolResult(_) | Part::Other(_) => ("other", None, None, None),
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("image", Some("image/png"), None, Some(4)),
            ("image", None, Some("pics.example"), None),
            ("audio", Some("audio/wav"), None, Some(3)),
            ("video", None, Some("v.example"), None),
            ("file", Some("application/pdf"), Some("a.pdf"), Some(3)),
            ("file", None, None, None),
            ("text", None, Some("t"), None),
            ("text", None, Some("no"), None),
            ("image", None, None, Some(5)),
        ]
    );
    assert!(message.tokens > 85 + 765);
}

#[test]
fn tool_calls_and_their_results_are_a_group() {
    let request = messages(
        r#"[{"role":"user","content":"q"},
            {"role":"assistant","content":"let me see","tool_calls":[
                {"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
                {"id":"b","type":"function","function":{"name":"g","arguments":""}}]},
            {"role":"tool","tool_call_id":"b","content":"B"},
            {"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"A1"},{"type":"text","text":"A2"}]},
            {"role":"tool","tool_call_id":"unknown","content":"?"},
            {"role":"assistant","tool_calls":[{"id":"a","function":{"name":"h","arguments":"12"}}]},
            {"role":"tool","tool_call_id":"a","content":null},
            {"role":"assistant","function_call":{"name":"old","arguments":"{}"}},
            {"role":"function","name":"old","content":"done"}]"#,
    );
    let groups: Vec<_> = request
        .prompt
        .messages
        .iter()
        .map(|message| message.group)
        .collect();
    assert_eq!(
        groups,
        [
            None,
            Some(0),
            Some(0),
            Some(0),
            None,
            Some(1),
            Some(1),
            Some(2),
            Some(2)
        ]
    );
    let Part::ToolCall(call) = &request.prompt.messages[1].parts[1] else {
        panic!("a call")
    };
    assert_eq!(
        (call.id.as_str(), call.name.as_str(), call.size),
        ("a", "f", 7)
    );
    let names: Vec<_> = request
        .prompt
        .messages
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match part {
            Part::ToolResult(result) => Some((result.name.as_str(), result.content.text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(
        names,
        [
            ("g", "B"),
            ("f", "A1"),
            ("f", "A2"),
            ("", "?"),
            ("h", ""),
            ("old", "done")
        ]
    );
}

#[test]
fn an_answer_without_a_text_is_of_the_group_too() {
    let picture = r#"{"type":"image_url","image_url":{"url":"https://x/y"}}"#;
    for content in [format!("[{picture}]"), "[{\"type\":\"odd\"}]".to_owned()] {
        let request = messages(&format!(
            r#"[{{"role":"assistant","tool_calls":[{{"id":"a","function":{{"name":"f"}}}}]}},
                {{"role":"tool","tool_call_id":"a","content":{content}}},
                {{"role":"tool","content":{content}}},
                {{"role":"tool","tool_call_id":"b","content":{content}}}]"#
        ));
        let groups = request.prompt.messages.iter().map(|message| message.group);
        let groups: Vec<_> = groups.collect();
        assert_eq!(groups, [Some(0), Some(0), Some(0), None], "{content}");
    }
}

#[test]
fn parameters_are_read_in_their_spellings() {
    let request = chat(
        r#"{"model":"m","messages":[],"temperature":0.70,"top_p":1e0,"max_tokens":5,"max_completion_tokens":4096.0,
            "n":2,"seed":18446744073709551615,"stream":true,"stream_options":{"include_usage":true},
            "response_format":{"type":"json_schema","json_schema":{}},"tool_choice":{"type":"function","function":{"name":"f"}},
            "reasoning_effort":"high","store":true,"modalities":["text","audio"],"user":"u-1",
            "tools":[{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{}},{"name":"flat"}],"functions":[{"name":"old"}]}"#,
    );
    let prompt = &request.prompt;
    let parameters = &prompt.parameters;
    assert_eq!(
        (parameters.temperature, parameters.top_p),
        (Some(0.7), Some(1.0))
    );
    assert_eq!((parameters.max_tokens, parameters.choices), (Some(4096), 2));
    assert!(parameters.seeded && parameters.streaming && parameters.include_usage);
    assert!(parameters.stored && parameters.audio_output);
    assert_eq!(parameters.format, AnswerFormat::JsonSchema);
    assert_eq!(parameters.tool_choice, ToolChoice::Named);
    assert_eq!(parameters.reasoning_effort.as_deref(), Some("high"));
    assert_eq!(prompt.tools, ["f", "custom", "flat", "old"]);
    assert_eq!(prompt.user.as_deref(), Some("u-1"));

    let silent = messages("[]").prompt.parameters.clone();
    assert_eq!(
        (silent.choices, silent.streaming, silent.seeded),
        (1, false, false)
    );
    let null =
        chat(r#"{"model":"m","messages":[],"stream":null,"seed":null,"n":null,"tools":null}"#);
    assert_eq!(
        (
            null.prompt.parameters.choices,
            null.prompt.parameters.seeded
        ),
        (1, false)
    );
}

#[test]
fn prompts_and_inputs_come_in_four_forms() {
    let read = |endpoint, value: &str| {
        let name = if endpoint == Endpoint::Completions {
            "prompt"
        } else {
            "input"
        };
        parse(
            endpoint,
            format!(r#"{{"model":"m","{name}":{value},"n":2}}"#).into(),
        )
        .unwrap()
    };
    for endpoint in [Endpoint::Completions, Endpoint::Embeddings] {
        let one = read(endpoint, r#""a\n""#);
        assert_eq!(texts(&one.prompt.messages[0]), ["a\n"]);
        assert_eq!((one.prompt.last_user, one.expected_choices()), (Some(0), 2));
        let many = read(endpoint, r#"["a","b","c"]"#);
        assert_eq!(texts(&many.prompt.messages[0]), ["a", "b", "c"]);
        assert_eq!(many.expected_choices(), 6);
        let tokens = read(endpoint, "[1,2,3,4]");
        assert_eq!(
            (tokens.prompt.messages[0].tokens, tokens.expected_choices()),
            (4, 2)
        );
        let batches = read(endpoint, "[[1,2],[3,4,5]]");
        assert_eq!(
            (
                batches.prompt.messages[0].tokens,
                batches.expected_choices()
            ),
            (5, 4)
        );
    }
    let silent = parse(
        Endpoint::Completions,
        Bytes::from_static(b"{\"model\":\"m\"}"),
    )
    .unwrap();
    assert!(silent.prompt.messages.is_empty());
    let multimodal = parse(
        Endpoint::Embeddings,
        Bytes::from_static(
            b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        ),
    );
    assert_eq!(texts(&multimodal.unwrap().prompt.messages[0]), ["x"]);
}

#[test]
fn terms_and_context_are_a_message_before_the_last_user_message() {
    let request = chat(
        r#"{"model":"m","sluicegate":{"terms":["SLO: x",{"term":"p99","definition":"y"},{"term":"bare"}],
            "context":["one",{"text":"tw\u006f","source":"s"}]},
            "messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
    );
    let prompt = &request.prompt;
    assert_eq!(
        (prompt.inserted, prompt.last_user, prompt.messages.len()),
        (Some(1), Some(2), 4)
    );
    let inserted = &prompt.messages[1];
    assert_eq!(
        (inserted.role, inserted.source.is_none()),
        (Role::System, true)
    );
    assert_eq!(texts(inserted), ["SLO: x", "p99: y", "bare", "one", "two"]);
    let origins: Vec<_> = inserted
        .parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.origin,
            _ => panic!("texts only"),
        })
        .collect();
    use Origin::{Chunk, Term};
    assert_eq!(origins, [Term, Term, Term, Chunk, Chunk]);
    let empty = chat(r#"{"model":"m","messages":[],"sluicegate":{"terms":[],"context":null}}"#);
    assert_eq!(empty.prompt.inserted, None);
    let elsewhere = r#"{"model":"m","input":"x","sluicegate":{"terms":["a"]}}"#;
    assert_eq!(
        refusal(Endpoint::Embeddings, elsewhere).param.as_deref(),
        Some("sluicegate")
    );
}

#[test]
fn places_are_those_of_the_literals() {
    let body = r#" {"model" : "m", "messages": [ {"role":"user","content":[ {"type":"text", "text" : "a\"b"} , "c" ]} ]}"#;
    let request = chat(body);
    let message = &request.prompt.messages[0];
    let at = |place: Range<usize>| body.get(place).unwrap();
    assert!(at(message.source.clone().unwrap()).starts_with("{\"role\""));
    let place = |index: usize| match &message.parts[index] {
        Part::Text(text) => (text.literal.clone().unwrap(), text.source.clone().unwrap()),
        _ => panic!("a text"),
    };
    assert_eq!(at(place(0).0), r#""a\"b""#);
    assert_eq!(at(place(0).1), r#"{"type":"text", "text" : "a\"b"}"#);
    assert_eq!((at(place(1).0), at(place(1).1)), (r#""c""#, r#""c""#));
}

proptest! {
    #[test]
    fn no_body_is_a_panic(
        body in r#"[\[\]{}":,0-9a-z\\ue\-. ]{0,40}"#,
        value in r#"(null|true|5|"x"|"\\\\ud800"|\[\]|\{\}|\[\{\}\]|\[\[1\]\]|\{"url":5\}|\[null\]|""){1}"#,
        field in "(model|messages|stream|n|tools|functions|sluicegate|tool_choice|modalities|stream_options|audio|prompt|input|user|max_tokens)",
        part in "(type|text|image_url|input_audio|file|role|content|tool_calls|function_call|tool_call_id|name)",
    ) {
        for endpoint in [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings] {
            let _ = parse(endpoint, body.clone().into());
            let wild = format!(r#"{{"model":"m","messages":[],"input":"x","{field}":{value}}}"#);
            let _ = parse(endpoint, wild.into());
            let wild = format!(
                r#"{{"model":"m","messages":[{{"role":"user","{part}":{value}}},{{"role":"user","content":[{{"type":"file","{part}":{value}}}]}}]}}"#
            );
            if let Ok(request) = parse(endpoint, wild.clone().into()) {
                prop_assert_eq!(request.render(&Changes::default()), wild);
            }
        }
    }
}
