//! `/v1/chat/completions`.

use serde_json::{Map, Value, json};

use super::persona::{Persona, Question, tokens};
use super::reply::{Event, Reply, Script, usage};

/// Most choices that one request may ask for.
const MAX_CHOICES: u64 = 8;

/// What every message and chunk of one answer carries.
struct Frame<'a> {
    id: &'a str,
    created: u64,
    model: &'a str,
}

/// What the model says in each choice.
enum Said {
    Text {
        tokens: Vec<String>,
        finish: &'static str,
    },
    ToolCall {
        id: String,
        name: String,
        arguments: String,
    },
}

/// Answers a chat request. `created` is in seconds since 1970.
pub(super) fn reply(persona: Persona, request: &Value, id: &str, created: u64) -> Reply {
    let Some(model) = request["model"].as_str() else {
        return Reply::error(400, Some("model"), "`model` must be a string.");
    };
    let messages = match request["messages"].as_array() {
        Some(messages) if !messages.is_empty() => messages,
        _ => {
            return Reply::error(
                400,
                Some("messages"),
                "`messages` must be a list of messages.",
            );
        }
    };
    let choices = request["n"].as_u64().unwrap_or(1);
    if !(1..=MAX_CHOICES).contains(&choices) {
        return Reply::error(400, Some("n"), "`n` must be 1 to 8.");
    }
    let question = Question::of_messages(messages);
    let said = say(persona, request, messages, &question, id);
    let frame = Frame { id, created, model };
    if request["stream"] == true {
        Reply::Stream(stream(&frame, &said, choices, &question, request))
    } else {
        plain(&frame, &said, choices, &question)
    }
}

fn say(
    persona: Persona,
    request: &Value,
    messages: &[Value],
    question: &Question,
    id: &str,
) -> Said {
    let last = &messages[messages.len() - 1];
    if last["role"] != "tool"
        && let Some((name, arguments)) = tool_call(request)
    {
        return Said::ToolCall {
            id: format!("call_{id}"),
            name,
            arguments,
        };
    }
    let mut text = match last["content"].as_str() {
        Some(result) if last["role"] == "tool" => format!("The tool answered: {result}"),
        _ => persona.answer(question),
    };
    for stop in stops(request) {
        if let Some(before) = text.split(&stop).next().map(str::len) {
            text.truncate(before);
        }
    }
    let mut tokens: Vec<String> = tokens(&text).into_iter().map(str::to_owned).collect();
    let limit = request["max_completion_tokens"]
        .as_u64()
        .or(request["max_tokens"].as_u64());
    let limit = limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    let finish = if tokens.len() > limit {
        "length"
    } else {
        "stop"
    };
    tokens.truncate(limit);
    Said::Text { tokens, finish }
}

fn stops(request: &Value) -> Vec<String> {
    let stops = match &request["stop"] {
        Value::String(stop) => vec![stop.clone()],
        Value::Array(stops) => stops
            .iter()
            .filter_map(|stop| stop.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    stops.into_iter().filter(|stop| !stop.is_empty()).collect()
}

/// The named tool, else the first one, with an argument for each required property; none when
/// tools are absent or forbidden.
fn tool_call(request: &Value) -> Option<(String, String)> {
    let tools = request["tools"].as_array()?;
    let wanted = match &request["tool_choice"] {
        Value::String(choice) if choice == "none" => return None,
        choice => choice["function"]["name"].as_str(),
    };
    let function = tools
        .iter()
        .map(|tool| &tool["function"])
        .find(|function| wanted.is_none_or(|wanted| function["name"] == wanted))?;
    let parameters = &function["parameters"];
    let required = parameters["required"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let arguments: Map<String, Value> = required
        .iter()
        .filter_map(Value::as_str)
        .map(|name| (name.to_owned(), example(&parameters["properties"][name])))
        .collect();
    Some((
        function["name"].as_str()?.to_owned(),
        Value::Object(arguments).to_string(),
    ))
}

/// A value of the type that a property's schema asks for.
fn example(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!("demo"),
    }
}

impl Said {
    fn message(&self) -> Value {
        match self {
            Self::Text { tokens, .. } => {
                json!({"role": "assistant", "content": tokens.concat(), "refusal": null})
            }
            Self::ToolCall {
                id,
                name,
                arguments,
            } => json!({
                "role": "assistant",
                "content": null,
                "refusal": null,
                "tool_calls": [{
                    "id": id,
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }],
            }),
        }
    }

    fn finish(&self) -> &'static str {
        match self {
            Self::Text { finish, .. } => finish,
            Self::ToolCall { .. } => "tool_calls",
        }
    }

    fn completion_tokens(&self) -> usize {
        match self {
            Self::Text { tokens, .. } => tokens.len(),
            Self::ToolCall { arguments, .. } => arguments.len().div_ceil(4),
        }
    }

    /// The deltas that follow the role, a token each.
    fn deltas(&self) -> Vec<Value> {
        match self {
            Self::Text { tokens, .. } => tokens
                .iter()
                .map(|token| json!({"content": token}))
                .collect(),
            Self::ToolCall {
                id,
                name,
                arguments,
            } => {
                let mut deltas = vec![json!({"tool_calls": [{
                    "index": 0,
                    "id": id,
                    "type": "function",
                    "function": {"name": name, "arguments": ""},
                }]})];
                // Arguments arrive in pieces, cut anywhere but inside a character.
                let characters: Vec<char> = arguments.chars().collect();
                deltas.extend(characters.chunks(6).map(|piece| {
                    let piece: String = piece.iter().collect();
                    json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
                }));
                deltas
            }
        }
    }
}

fn plain(frame: &Frame<'_>, said: &Said, choices: u64, question: &Question) -> Reply {
    let tokens = said.completion_tokens();
    let total = tokens.saturating_mul(usize::try_from(choices).unwrap_or(usize::MAX));
    let list: Vec<Value> = (0..choices)
        .map(|index| {
            json!({
                "index": index,
                "message": said.message(),
                "logprobs": null,
                "finish_reason": said.finish(),
            })
        })
        .collect();
    let body = json!({
        "id": frame.id,
        "object": "chat.completion",
        "created": frame.created,
        "model": frame.model,
        "choices": list,
        "usage": usage(question.prompt_tokens, total),
        "system_fingerprint": "fp_demo",
    });
    Reply::ok(body, tokens)
}

fn stream(
    frame: &Frame<'_>,
    said: &Said,
    choices: u64,
    question: &Question,
    request: &Value,
) -> Script {
    let with_usage = request["stream_options"]["include_usage"] == true;
    let chunk = |choices: Value| {
        let mut chunk = json!({
            "id": frame.id,
            "object": "chat.completion.chunk",
            "created": frame.created,
            "model": frame.model,
            "system_fingerprint": "fp_demo",
            "choices": choices,
        });
        if with_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    };
    let delta = |index: u64, delta: &Value, finish: Option<&str>| {
        chunk(json!([{
            "index": index, "delta": delta, "logprobs": null, "finish_reason": finish,
        }]))
    };
    let mut events = Vec::new();
    for index in 0..choices {
        let role = json!({"role": "assistant", "content": "", "refusal": null});
        events.push(Event::frame(&delta(index, &role, None)));
    }
    for said in said.deltas() {
        events.extend((0..choices).map(|index| Event::token(&delta(index, &said, None))));
    }
    for index in 0..choices {
        events.push(Event::frame(&delta(index, &json!({}), Some(said.finish()))));
    }
    if with_usage {
        let total = said
            .completion_tokens()
            .saturating_mul(usize::try_from(choices).unwrap_or(usize::MAX));
        let mut last = chunk(json!([]));
        last["usage"] = usage(question.prompt_tokens, total);
        events.push(Event::frame(&last));
    }
    events.push(Event::done());
    Script {
        events,
        cut_after: None,
    }
}
