//! The top-level fields of a body, and how the client wants the answer made.

use super::RequestError;
use crate::api::json::{self, Kind, Member};
use crate::api::prompt::{AnswerFormat, Parameters, ToolChoice};

/// The fields that something is read from; of duplicates the last one.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) messages: Option<&'a str>,
    pub(super) prompt: Option<&'a str>,
    pub(super) input: Option<&'a str>,
    pub(super) extension: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    tools: Option<&'a str>,
    functions: Option<&'a str>,
    stream: Option<&'a str>,
    stream_options: Option<&'a str>,
    temperature: Option<&'a str>,
    top_p: Option<&'a str>,
    max_tokens: Option<&'a str>,
    max_completion_tokens: Option<&'a str>,
    n: Option<&'a str>,
    seed: Option<&'a str>,
    response_format: Option<&'a str>,
    tool_choice: Option<&'a str>,
    reasoning_effort: Option<&'a str>,
    store: Option<&'a str>,
    modalities: Option<&'a str>,
    audio: Option<&'a str>,
    /// The first of them that came again.
    pub(super) repeated: Option<String>,
}

impl<'a> Fields<'a> {
    /// Sorts the members of a body.
    pub(super) fn of(members: &[Member<'a>]) -> Self {
        let mut fields = Self::default();
        for member in members {
            let field = match member.key.as_ref() {
                "model" => &mut fields.model,
                "messages" => &mut fields.messages,
                "prompt" => &mut fields.prompt,
                "input" => &mut fields.input,
                "sluicegate" => &mut fields.extension,
                "user" => &mut fields.user,
                "tools" => &mut fields.tools,
                "functions" => &mut fields.functions,
                "stream" => &mut fields.stream,
                "stream_options" => &mut fields.stream_options,
                "temperature" => &mut fields.temperature,
                "top_p" => &mut fields.top_p,
                "max_tokens" => &mut fields.max_tokens,
                "max_completion_tokens" => &mut fields.max_completion_tokens,
                "n" => &mut fields.n,
                "seed" => &mut fields.seed,
                "response_format" => &mut fields.response_format,
                "tool_choice" => &mut fields.tool_choice,
                "reasoning_effort" => &mut fields.reasoning_effort,
                "store" => &mut fields.store,
                "modalities" => &mut fields.modalities,
                "audio" => &mut fields.audio,
                _ => continue,
            };
            if field.replace(member.value).is_some() && fields.repeated.is_none() {
                fields.repeated = Some(member.key.as_ref().to_owned());
            }
        }
        fields
    }

    /// How the client wants the answer made.
    ///
    /// # Errors
    /// When `stream` is neither a boolean nor null, or `n` no number from 1 on: how many answers to
    /// await, and in which form, cannot be guessed.
    pub(super) fn parameters(&self) -> Result<Parameters, RequestError> {
        let streaming = match self.stream {
            None => false,
            Some(value) => match Kind::of(value) {
                Kind::Bool => value == "true",
                Kind::Null => false,
                Kind::Object | Kind::Array | Kind::Text | Kind::Number => {
                    return Err(RequestError::wrong_type(
                        "stream".to_owned(),
                        "a boolean",
                        value,
                    ));
                }
            },
        };
        let limit = |value: Option<&str>| value.and_then(json::count);
        Ok(Parameters {
            temperature: self.temperature.and_then(json::number),
            top_p: self.top_p.and_then(json::number),
            max_tokens: limit(self.max_completion_tokens).or_else(|| limit(self.max_tokens)),
            choices: self.choices()?,
            seeded: is_given(self.seed),
            streaming,
            include_usage: member(self.stream_options, "include_usage") == Some("true"),
            format: self.format(),
            tool_choice: self.tool_choice(),
            reasoning_effort: self
                .reasoning_effort
                .and_then(json::text)
                .filter(|effort| effort.len() <= 32)
                .map(std::borrow::Cow::into_owned),
            stored: self.store == Some("true"),
            audio_output: is_given(self.audio) || self.wants_audio(),
        })
    }

    fn choices(&self) -> Result<u32, RequestError> {
        let Some(value) = self.n.filter(|value| Kind::of(value) != Kind::Null) else {
            return Ok(1);
        };
        match (json::count(value), Kind::of(value)) {
            (Some(choices @ 1..), _) => Ok(choices),
            (_, Kind::Number) => Err(RequestError::wrong_value("n", "is no number from 1 on")),
            _ => Err(RequestError::wrong_type("n".to_owned(), "a number", value)),
        }
    }

    /// Names of the offered tools; those without a name go by their type, and those without either
    /// by nothing.
    pub(super) fn tools(&self) -> Vec<String> {
        let offered = |list: Option<&'a str>| list.and_then(|list| json::elements(list).ok());
        let tools = offered(self.tools)
            .into_iter()
            .flatten()
            .filter_map(|tool| {
                let members = json::members(tool).ok()?;
                let function = json::last(&members, "function").and_then(|f| json::members(f).ok());
                function
                    .and_then(|function| json::last(&function, "name"))
                    .or_else(|| json::last(&members, "name"))
                    .or_else(|| json::last(&members, "type"))
                    .and_then(json::text)
            });
        let functions = offered(self.functions)
            .into_iter()
            .flatten()
            .filter_map(|function| member(Some(function), "name").and_then(json::text));
        let named = tools.chain(functions).filter(|name| !name.is_empty());
        named.map(std::borrow::Cow::into_owned).collect()
    }

    /// The tools' descriptions as the client wrote them.
    pub(super) fn tool_texts(&self) -> impl Iterator<Item = &'a str> {
        [self.tools, self.functions]
            .into_iter()
            .flatten()
            .filter(|list| is_given(Some(list)))
    }

    fn format(&self) -> AnswerFormat {
        match member(self.response_format, "type")
            .and_then(json::text)
            .as_deref()
        {
            Some("json_object") => AnswerFormat::JsonObject,
            Some("json_schema") => AnswerFormat::JsonSchema,
            _ => AnswerFormat::Text,
        }
    }

    fn tool_choice(&self) -> ToolChoice {
        let Some(value) = self.tool_choice else {
            return ToolChoice::Auto;
        };
        let by_word = |word: &str| match word {
            "none" => ToolChoice::None,
            "required" | "any" => ToolChoice::Required,
            _ => ToolChoice::Auto,
        };
        if let Some(word) = json::text(value) {
            return by_word(&word);
        }
        let kind = member(Some(value), "type").and_then(json::text);
        match kind.as_deref() {
            // A choice among some of the tools, with a mode of its own.
            Some("allowed_tools") => member(member(Some(value), "allowed_tools"), "mode")
                .or_else(|| member(Some(value), "mode"))
                .and_then(json::text)
                .map_or(ToolChoice::Auto, |mode| by_word(&mode)),
            Some(_) => ToolChoice::Named,
            None => ToolChoice::Auto,
        }
    }

    fn wants_audio(&self) -> bool {
        let kinds = self.modalities.and_then(|list| json::elements(list).ok());
        kinds.is_some_and(|kinds| {
            kinds
                .iter()
                .filter_map(|kind| json::text(kind))
                .any(|kind| kind == "audio")
        })
    }
}

/// A member of a value that may be an object.
fn member<'a>(object: Option<&'a str>, key: &str) -> Option<&'a str> {
    let members = json::members(object?).ok()?;
    json::last(&members, key)
}

/// Given, and not as null.
fn is_given(value: Option<&str>) -> bool {
    value.is_some_and(|value| Kind::of(value) != Kind::Null)
}
