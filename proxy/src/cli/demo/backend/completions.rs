//! `/v1/completions`.

use serde_json::{Value, json};

use super::persona::{Persona, Question, tokens};
use super::reply::{Event, Reply, Script, usage};

/// Tokens of an answer for which none are asked, as in OpenAI's API.
const DEFAULT_MAX_TOKENS: u64 = 16;

/// Answers a text completion. `created` is in seconds since 1970.
pub(super) fn reply(persona: Persona, request: &Value, id: &str, created: u64) -> Reply {
    let Some(model) = request["model"].as_str() else {
        return Reply::error(400, Some("model"), "`model` must be a string.");
    };
    let prompt = match &request["prompt"] {
        Value::String(prompt) => prompt.clone(),
        Value::Array(prompts) if prompts.iter().all(Value::is_string) => prompts
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join("\n"),
        _ => return Reply::error(400, Some("prompt"), "`prompt` must be text."),
    };
    let question = Question::of_prompt(&prompt);
    let text = persona.answer(&question);
    let limit = request["max_tokens"].as_u64().unwrap_or(DEFAULT_MAX_TOKENS);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let all = tokens(&text);
    let finish = if all.len() > limit { "length" } else { "stop" };
    let said: Vec<&str> = all.into_iter().take(limit).collect();
    let with_choice = |text: &str, finish: Option<&str>| {
        json!({
            "id": id,
            "object": "text_completion",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}],
        })
    };
    let counts = usage(question.prompt_tokens, said.len());
    if request["stream"] != true {
        let mut body = with_choice(&said.concat(), Some(finish));
        body["usage"] = counts;
        return Reply::ok(body, said.len());
    }
    let mut events: Vec<Event> = said
        .iter()
        .map(|token| Event::token(&with_choice(token, None)))
        .collect();
    events.push(Event::frame(&with_choice("", Some(finish))));
    if request["stream_options"]["include_usage"] == true {
        let mut last = with_choice("", None);
        last["choices"] = json!([]);
        last["usage"] = counts;
        events.push(Event::frame(&last));
    }
    events.push(Event::done());
    Reply::Stream(Script {
        events,
        cut_after: None,
    })
}
