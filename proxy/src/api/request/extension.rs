//! The request's own `sluicegate` field: terms and context that the client hands over apart from
//! its messages, so that a compressor may choose among them.
//!
//! ```json
//! {"sluicegate": {"terms": ["SLO: …", {"term": "p99", "definition": "…"}],
//!                 "context": ["a passage", {"text": "another", "source": "ignored"}]}}
//! ```
//! They are the parts of one system message in front of the last user message, terms first.

use super::RequestError;
use super::message::Cursor;
use crate::api::json::{self, Kind};
use crate::api::prompt::{Message, Origin, Part, Role, Text};
use crate::api::tokens;

/// The lists of the extension, in the order of their parts.
pub(super) const LISTS: [&str; 2] = ["terms", "context"];

/// Reads the extension; none when it holds no entry.
pub(super) fn read(
    cursor: Cursor<'_>,
    value: Option<&str>,
) -> Result<Option<Message>, RequestError> {
    let Some(value) = value.filter(|value| Kind::of(value) != Kind::Null) else {
        return Ok(None);
    };
    let members = json::members(value)
        .map_err(|_| RequestError::wrong_type("sluicegate".to_owned(), "an object", value))?;
    let mut parts = Vec::new();
    for list in LISTS {
        let path = format!("sluicegate.{list}");
        let Some(value) = json::last(&members, list).filter(|v| Kind::of(v) != Kind::Null) else {
            continue;
        };
        let elements = json::elements(value)
            .map_err(|_| RequestError::wrong_type(path.clone(), "an array", value))?;
        for (index, element) in elements.into_iter().enumerate() {
            let entry = if list == "terms" {
                term(cursor, element)
            } else {
                chunk(cursor, element)
            };
            let entry = entry.map_err(|expected| {
                RequestError::wrong_type(format!("{path}[{index}]"), expected, element)
            })?;
            parts.push(Part::Text(entry));
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let tokens = parts.iter().map(|part| match part {
        Part::Text(text) => tokens::estimate(&text.text),
        _ => 0,
    });
    Ok(Some(Message {
        role: Role::System,
        tokens: tokens.fold(0, u32::saturating_add),
        parts,
        group: None,
        source: None,
    }))
}

/// `"term: definition"`, or `{term, definition}` with or without a definition.
fn term(cursor: Cursor<'_>, element: &str) -> Result<Text, &'static str> {
    const EXPECTED: &str = "a string or {term, definition}";
    if Kind::of(element) == Kind::Text {
        return Ok(literal(cursor, Origin::Term, element, element));
    }
    let members = json::members(element).map_err(|_| EXPECTED)?;
    let term = json::last(&members, "term")
        .and_then(json::text)
        .ok_or(EXPECTED)?;
    let text = match json::last(&members, "definition").and_then(json::text) {
        Some(definition) => format!("{term}: {definition}"),
        None => term.into_owned(),
    };
    let source = Some(cursor.place(element));
    Ok(Text {
        text,
        origin: Origin::Term,
        literal: None,
        source,
    })
}

/// `"text"`, or `{text, …}`.
fn chunk(cursor: Cursor<'_>, element: &str) -> Result<Text, &'static str> {
    const EXPECTED: &str = "a string or {text}";
    let text = match Kind::of(element) {
        Kind::Text => Some(element),
        Kind::Object => {
            let members = json::members(element).map_err(|_| EXPECTED)?;
            json::last(&members, "text").filter(|text| Kind::of(text) == Kind::Text)
        }
        Kind::Array | Kind::Number | Kind::Bool | Kind::Null => None,
    };
    text.map(|text| literal(cursor, Origin::Chunk, text, element))
        .ok_or(EXPECTED)
}

/// An entry whose text is a literal of the body.
fn literal(cursor: Cursor<'_>, origin: Origin, literal: &str, source: &str) -> Text {
    Text {
        text: json::decode(literal).into_owned(),
        origin,
        literal: Some(cursor.place(literal)),
        source: Some(cursor.place(source)),
    }
}
