//! The default answers: an OpenAI-like model for chat, completions, embeddings and the model list.
//!
//! A request steers its own answer by a `mock` member of its body; see [`Behaviour`].

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::exchange::{Exchange, Reply};
use super::{Behaviour, Break, State};

/// Answers one request.
///
/// # Errors
/// When the reader went away before the end.
pub(super) async fn answer(exchange: Exchange, state: &State) -> io::Result<()> {
    let path = exchange.request.head.target().to_owned();
    let path = path.split('?').next().unwrap_or_default();
    let body: Value = serde_json::from_slice(&exchange.request.body).unwrap_or_default();
    let behaviour = behaviour(state, &body);
    if let Some(status) = behaviour.status {
        return exchange.respond(error(status)).await;
    }
    match path {
        _ if path.ends_with("/v1/models") => {
            let list = json!({"object": "list", "data": [
                {"id": "from-the-backend", "object": "model", "created": 1, "owned_by": "mock"}
            ]});
            exchange.respond(Reply::json(200, list.to_string())).await
        }
        _ if path.ends_with("/v1/chat/completions") => {
            talk(exchange, &state.name, &body, &behaviour, true).await
        }
        _ if path.ends_with("/v1/completions") => {
            talk(exchange, &state.name, &body, &behaviour, false).await
        }
        _ if path.ends_with("/v1/embeddings") => exchange.respond(embeddings(&body)).await,
        _ => exchange.respond(error(404)).await,
    }
}

/// The backend's behaviour with the request's own wishes on top.
fn behaviour(state: &State, body: &Value) -> Behaviour {
    let mut behaviour = state.behaviour.lock().unwrap().clone();
    let wishes = &body["mock"];
    let number = |name: &str| wishes[name].as_u64().and_then(|n| usize::try_from(n).ok());
    if let Some(status) = number("status") {
        behaviour.status = u16::try_from(status).ok();
    }
    if let Some(tokens) = number("tokens") {
        behaviour.tokens = tokens;
    }
    if let Some(after) = number("after") {
        behaviour.after = after;
    }
    if let Some(delay) = wishes["delay_ms"].as_u64() {
        behaviour.delay = Duration::from_millis(delay);
    }
    behaviour.breaks = match wishes["break"].as_str() {
        Some("reset") => Some(Break::Reset),
        Some("clean-end") => Some(Break::CleanEnd),
        Some("hang") => Some(Break::Hang),
        _ => behaviour.breaks,
    };
    behaviour
}

fn error(status: u16) -> Reply {
    let body = json!({"error": {
        "message": format!("the mock answers {status}"),
        "type": "mock_error", "param": null, "code": format!("mock_{status}"),
    }});
    let reply = Reply::json(status, body.to_string());
    match status {
        429 => reply
            .header("retry-after", "7")
            .header("x-ratelimit-remaining-requests", "0"),
        _ => reply,
    }
}

fn embeddings(body: &Value) -> Reply {
    let inputs = body["input"].as_array().map_or(1, Vec::len);
    let data: Vec<Value> = (0..inputs)
        .map(|index| match body["encoding_format"].as_str() {
            // Little-endian floats 0.5 and -0.25, as the OpenAI SDK asks for by default.
            Some("base64") => {
                json!({"object": "embedding", "index": index, "embedding": "AAAAPwAAgL4="})
            }
            _ => json!({"object": "embedding", "index": index, "embedding": [0.5, -0.25]}),
        })
        .collect();
    let answer = json!({"object": "list", "model": body["model"], "data": data,
        "usage": {"prompt_tokens": 3, "total_tokens": 3}});
    Reply::json(200, answer.to_string())
}

/// Chat or completion, streamed or not.
async fn talk(
    exchange: Exchange,
    name: &str,
    body: &Value,
    behaviour: &Behaviour,
    chat: bool,
) -> io::Result<()> {
    let tool = (chat && body["tool_choice"] != "none")
        .then(|| body["tools"][0]["function"]["name"].as_str())
        .flatten();
    let tokens: Vec<String> = (0..behaviour.tokens)
        .map(|index| {
            if index == 0 {
                name.to_owned()
            } else {
                format!(" t{index}")
            }
        })
        .collect();
    match body["stream"].as_bool() {
        Some(true) => stream(exchange, body, behaviour, chat, tool, &tokens).await,
        _ => plain(exchange, body, behaviour, chat, tool, &tokens).await,
    }
}

fn usage(tokens: &[String]) -> Value {
    json!({"prompt_tokens": 7, "completion_tokens": tokens.len(), "total_tokens": 7 + tokens.len()})
}

async fn plain(
    mut exchange: Exchange,
    body: &Value,
    behaviour: &Behaviour,
    chat: bool,
    tool: Option<&str>,
    tokens: &[String],
) -> io::Result<()> {
    let work = behaviour.delay * u32::try_from(tokens.len()).expect("few tokens");
    wait(&mut exchange, work).await?;
    match behaviour.breaks {
        Some(Break::Reset) => {
            exchange.reset();
            return Ok(());
        }
        Some(Break::Hang) => return hang(exchange).await,
        Some(Break::CleanEnd) | None => {}
    }
    let choice = match (chat, tool) {
        (true, Some(tool)) => json!({"index": 0, "finish_reason": "tool_calls", "logprobs": null,
            "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function",
                 "function": {"name": tool, "arguments": "{\"city\":\"Oslo\"}"}}]}}),
        (true, None) => json!({"index": 0, "finish_reason": "stop", "logprobs": null,
            "message": {"role": "assistant", "content": tokens.concat()}}),
        (false, _) => json!({"index": 0, "finish_reason": "stop", "logprobs": null,
            "text": tokens.concat()}),
    };
    let answer = json!({"id": "chatcmpl-mock", "created": 1, "model": body["model"],
        "object": if chat { "chat.completion" } else { "text_completion" },
        "choices": [choice], "usage": usage(tokens)});
    exchange.respond(Reply::json(200, answer.to_string())).await
}

async fn stream(
    mut exchange: Exchange,
    body: &Value,
    behaviour: &Behaviour,
    chat: bool,
    tool: Option<&str>,
    tokens: &[String],
) -> io::Result<()> {
    exchange.begin_events().await?;
    let include_usage = body["stream_options"]["include_usage"] == true;
    let event = |choices: Value, usage: Value| {
        let mut event = json!({"id": "chatcmpl-mock", "created": 1, "model": body["model"],
            "object": if chat { "chat.completion.chunk" } else { "text_completion" },
            "choices": choices});
        if include_usage {
            event["usage"] = usage;
        }
        event.to_string()
    };
    let delta = |delta: Value, finish: Value| {
        let choice = match chat {
            true => json!({"index": 0, "delta": delta, "finish_reason": finish}),
            false => json!({"index": 0, "text": delta["content"].as_str().unwrap_or_default(),
                "finish_reason": finish}),
        };
        event(json!([choice]), Value::Null)
    };
    if chat {
        exchange
            .event(&delta(
                json!({"role": "assistant", "content": ""}),
                Value::Null,
            ))
            .await?;
    }
    let pieces: Vec<Value> = match tool {
        Some(tool) => tool_pieces(tool),
        None => tokens
            .iter()
            .map(|token| json!({"content": token}))
            .collect(),
    };
    for (index, piece) in pieces.into_iter().enumerate() {
        if behaviour.breaks.is_some() && index == behaviour.after {
            return broken(exchange, behaviour.breaks).await;
        }
        wait(&mut exchange, behaviour.delay).await?;
        exchange.event(&delta(piece, Value::Null)).await?;
    }
    let finish = if tool.is_some() { "tool_calls" } else { "stop" };
    exchange.event(&delta(json!({}), json!(finish))).await?;
    if include_usage {
        exchange.event(&event(json!([]), usage(tokens))).await?;
    }
    exchange.event("[DONE]").await?;
    exchange.finish().await
}

fn tool_pieces(tool: &str) -> Vec<Value> {
    let arguments =
        |text: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]});
    vec![
        json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
            "function": {"name": tool, "arguments": ""}}]}),
        arguments("{\"city\""),
        arguments(":\"Oslo\"}"),
    ]
}

async fn broken(exchange: Exchange, how: Option<Break>) -> io::Result<()> {
    match how {
        Some(Break::Reset) => {
            exchange.reset();
            Ok(())
        }
        Some(Break::CleanEnd) | None => exchange.finish().await,
        Some(Break::Hang) => hang(exchange).await,
    }
}

async fn hang(mut exchange: Exchange) -> io::Result<()> {
    exchange.gone().await;
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// Waits as a model works, and notices when the reader goes.
#[expect(clippy::disallowed_methods, reason = "the time itself is played")]
async fn wait(exchange: &mut Exchange, delay: Duration) -> io::Result<()> {
    if delay.is_zero() {
        return Ok(());
    }
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        () = exchange.gone() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}
