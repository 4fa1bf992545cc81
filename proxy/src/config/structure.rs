//! Checks the shape of a document by the JSON Schema, so that every fault of shape comes at once.
//!
//! serde would stop at the first. The schema is made from the types that serde fills, so what
//! passes here, or was mended here, deserialises.

use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::document::{Document, child};
use super::problem::Problem;
use super::repair::{Guesses, Repair};
use super::schema::{self, Size, Time};

static SCHEMA: LazyLock<Value> = LazyLock::new(schema::json);

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    jsonschema::options()
        .with_format(schema::TIME_FORMAT, |text: &str| Time::parse(text).is_ok())
        .with_format(schema::SIZE_FORMAT, |text: &str| Size::parse(text).is_ok())
        .should_validate_formats(true)
        .build(&SCHEMA)
        .expect("the schema of our own types compiles: a test builds it")
});

/// What the schema says of a document.
pub(crate) struct Shape {
    /// Every fault of shape: unknown field, missing field, wrong type, value out of range.
    pub(crate) problems: Vec<Problem>,
    /// The document in the right shape, with stand-ins for what is wrong.
    pub(crate) json: Value,
    /// Where these stand.
    pub(crate) guesses: Guesses,
}

/// Checks a document by the schema, and mends what it does not allow.
pub(crate) fn check(document: &Document) -> Shape {
    let mut problems = Vec::new();
    let mut formats = Vec::new();
    let mut repair = Repair::new(document, &SCHEMA);
    for error in VALIDATOR.iter_errors(&document.json) {
        repair.mend(&error, schema_of(&error));
        let pointer = error.instance_path().as_str();
        if document.unreadable.contains(pointer) {
            continue; // it has its own problem already
        }
        let is_format = matches!(
            error.kind(),
            ValidationErrorKind::Format { .. } | ValidationErrorKind::Pattern { .. }
        );
        if is_format {
            // A format repeats its pattern in words: one of the two is enough.
            if formats.iter().any(|seen| seen == pointer) {
                continue;
            }
            formats.push(pointer.to_owned());
        }
        describe(document, &error, &mut problems);
    }
    Shape {
        problems,
        json: repair.json,
        guesses: repair.guesses,
    }
}

fn describe(document: &Document, error: &ValidationError<'_>, problems: &mut Vec<Problem>) {
    let pointer = error.instance_path().as_str();
    let schema = schema_of(error);
    let message = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            for name in unexpected {
                problems.push(unknown_field(document, pointer, name, schema));
            }
            return;
        }
        ValidationErrorKind::Required { property } => {
            problems.push(missing_field(document, pointer, property, schema));
            return;
        }
        ValidationErrorKind::Type { kind } => {
            let expected = title(schema).unwrap_or_else(|| types(kind));
            format!("expected {expected}, found {}", kind_of(error.instance()))
        }
        ValidationErrorKind::Pattern { .. } | ValidationErrorKind::Format { .. } => {
            format!("expected {}", expected_text(error.instance(), schema))
        }
        ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::Enum { .. } => {
            problems.push(not_one_of(document, error, schema));
            return;
        }
        ValidationErrorKind::Minimum { limit } => format!("expected at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("expected at most {limit}"),
        ValidationErrorKind::MinLength { limit: 1 } => {
            "expected text, found an empty string".into()
        }
        ValidationErrorKind::MaxLength { limit } => {
            format!("expected a string of at most {limit} characters")
        }
        ValidationErrorKind::MinItems { limit } => format!("expected at least {limit} of these"),
        ValidationErrorKind::MaxItems { limit } => format!("expected at most {limit} of these"),
        // No other keyword stands in the schema today; the validator's words, without the value.
        _ => error.masked_with("the value").to_string(),
    };
    problems.push(document.problem(pointer, message));
}

fn unknown_field(document: &Document, table: &str, name: &str, schema: &Value) -> Problem {
    let known: Vec<&str> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let pointer = child(table, name);
    let mut problem = document.problem_at_key(&pointer, format!("unknown field `{name}`"));
    match nearest(name, &known) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.help(format!("known fields are {}", list(&known))),
    };
    problem
}

fn missing_field(document: &Document, table: &str, name: &Value, schema: &Value) -> Problem {
    let name = name.as_str().unwrap_or_default();
    let mut problem = document.problem(table, format!("missing field `{name}`"));
    let about = schema
        .get("properties")
        .and_then(|properties| properties.get(name)?.get("description")?.as_str());
    if let Some(about) = about {
        // Descriptions keep the line breaks of their source.
        problem.help(format!(
            "{name}: {}",
            about.split_whitespace().collect::<Vec<_>>().join(" ")
        ));
    }
    problem
}

fn not_one_of(document: &Document, error: &ValidationError<'_>, schema: &Value) -> Problem {
    let pointer = error.instance_path().as_str();
    let words = words(schema);
    let Some(typed) = error.instance().as_str() else {
        let found = kind_of(error.instance());
        let message = format!("expected one of {}, found {found}", list(&words));
        return document.problem(pointer, message);
    };
    let mut problem = document.problem(pointer, format!("expected one of {}", list(&words)));
    if let Some(near) = nearest(typed, &words) {
        problem.label(format!("did you mean `{near}`?"));
    }
    problem
}

/// The words of an enum, whose variants are constants with or without a description each.
fn words(schema: &Value) -> Vec<&str> {
    let described = schema.get("oneOf").and_then(Value::as_array);
    let plain = schema.get("enum").and_then(Value::as_array);
    let described = described.into_iter().flatten().flat_map(|variant| {
        let constant = variant.get("const").into_iter();
        let several = variant.get("enum").and_then(Value::as_array);
        constant.chain(several.into_iter().flatten())
    });
    described
        .chain(plain.into_iter().flatten())
        .filter_map(Value::as_str)
        .collect()
}

/// The nearest of the known names, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let most = 1 + typed.chars().count() / 4;
    let by_distance = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(typed, name), *name))
        .filter(|(distance, _)| *distance <= most)
        .min();
    let by_part = || {
        let is_part =
            |name: &&&str| typed.len() > 2 && (name.contains(typed) || typed.contains(**name));
        known.iter().find(is_part).copied()
    };
    by_distance.map(|(_, name)| name).or_else(by_part)
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The part of the schema that a keyword belongs to.
fn schema_of(error: &ValidationError<'_>) -> &'static Value {
    let keyword = error.schema_path().as_str();
    SCHEMA
        .pointer(super::document::parent(keyword))
        .unwrap_or(&Value::Null)
}

fn title(schema: &Value) -> Option<String> {
    Some(schema.get("title")?.as_str()?.to_owned())
}

/// What a text should have been: its own parser knows more than the pattern.
fn expected_text(instance: &Value, schema: &Value) -> String {
    let text = instance.as_str().unwrap_or_default();
    let format = schema.get("format").and_then(Value::as_str);
    let own = match format {
        Some(schema::TIME_FORMAT) => Time::parse(text).err(),
        Some(schema::SIZE_FORMAT) => Size::parse(text).err(),
        _ => None,
    };
    own.map(str::to_owned)
        .or_else(|| title(schema))
        .unwrap_or_else(|| "another form".to_owned())
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(name) => in_words(&name.to_string()).to_owned(),
        TypeKind::Multiple(names) => {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            let names: Vec<&str> = names.iter().map(|name| in_words(name)).collect();
            names.join(" or ")
        }
    }
}

fn in_words(name: &str) -> &str {
    match name {
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
