//! A schema validator's errors in the words of a config's reader.
//!
//! Used for the config itself and for the tables of plugins, by their own schemas. Values are never
//! repeated: one may be a secret.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use super::document::{child, parent};
use super::schema::{self, Size, Time};

/// One thing that is wrong, by its place in the document.
pub(crate) struct Fault {
    /// JSON Pointer of the value, or of the table around one that is missing.
    pub(crate) pointer: String,
    /// The field's name is wrong, and not its value.
    pub(crate) is_name: bool,
    pub(crate) message: String,
    /// Stands beside the place.
    pub(crate) label: Option<String>,
    /// What to do.
    pub(crate) help: Option<String>,
}

impl Fault {
    fn of_value(pointer: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.to_owned(),
            is_name: false,
            message: message.into(),
            label: None,
            help: None,
        }
    }

    /// All of it in one line.
    pub(crate) fn in_one_line(&self) -> String {
        let label = self.label.as_ref().map(|label| format!(" ({label})"));
        let help = self.help.as_ref().map(|help| format!("; {help}"));
        let (label, help) = (label.unwrap_or_default(), help.unwrap_or_default());
        format!("{}{label}{help}", self.message)
    }
}

/// What an error says. `root` is the whole schema.
pub(crate) fn faults(error: &ValidationError<'_>, root: &Value) -> Vec<Fault> {
    let pointer = error.instance_path().as_str();
    let schema = part(error, root);
    let message = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let unknown = unexpected.iter();
            return unknown
                .map(|name| unknown_field(pointer, name, schema))
                .collect();
        }
        ValidationErrorKind::Required { property } => {
            return vec![missing_field(pointer, property, schema)];
        }
        ValidationErrorKind::Type { kind } => {
            let expected = title(schema).unwrap_or_else(|| types(kind));
            format!("expected {expected}, found {}", kind_of(error.instance()))
        }
        ValidationErrorKind::Pattern { .. } | ValidationErrorKind::Format { .. } => {
            format!("expected {}", expected_text(error.instance(), schema))
        }
        ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::Enum { .. } => {
            return vec![not_one_of(pointer, error.instance(), schema)];
        }
        ValidationErrorKind::Minimum { .. } if is_size(schema) => {
            "expected a size, found a negative number".into()
        }
        ValidationErrorKind::Minimum { limit } => format!("expected at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("expected at most {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("expected more than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("expected less than {limit}"),
        ValidationErrorKind::MinLength { limit: 1 } => {
            "expected text, found an empty string".into()
        }
        ValidationErrorKind::MaxLength { limit } => {
            format!("expected a string of at most {limit} characters")
        }
        ValidationErrorKind::MinItems { limit } => format!("expected at least {limit} of these"),
        ValidationErrorKind::MaxItems { limit } => format!("expected at most {limit} of these"),
        // Our own schema has no other keyword, a plugin's may: the validator's words.
        _ => error.masked_with("the value").to_string(),
    };
    vec![Fault::of_value(pointer, message)]
}

/// The part of the schema that the broken keyword belongs to.
pub(crate) fn part<'s>(error: &ValidationError<'_>, root: &'s Value) -> &'s Value {
    let keyword = error.schema_path().as_str();
    root.pointer(parent(keyword)).unwrap_or(&Value::Null)
}

fn unknown_field(table: &str, name: &str, schema: &Value) -> Fault {
    let known: Vec<&str> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let near = nearest(name, &known);
    Fault {
        is_name: true,
        label: near.map(|near| format!("did you mean `{near}`?")),
        help: match near {
            Some(_) => None,
            None if known.is_empty() => Some("this table takes no field".to_owned()),
            None => Some(format!("known fields are {}", list(&known))),
        },
        ..Fault::of_value(&child(table, name), format!("unknown field `{name}`"))
    }
}

fn missing_field(table: &str, name: &Value, schema: &Value) -> Fault {
    let name = name.as_str().unwrap_or_default();
    let about = schema
        .get("properties")
        .and_then(|properties| properties.get(name)?.get("description")?.as_str());
    // Descriptions keep the line breaks of their source.
    let about = about.map(|about| about.split_whitespace().collect::<Vec<_>>().join(" "));
    Fault {
        help: about.map(|about| format!("{name}: {about}")),
        ..Fault::of_value(table, format!("missing field `{name}`"))
    }
}

fn not_one_of(pointer: &str, instance: &Value, schema: &Value) -> Fault {
    let words = words(schema);
    let expected = match words.is_empty() {
        true => "expected another value".to_owned(),
        false => format!("expected one of {}", list(&words)),
    };
    let Some(typed) = instance.as_str() else {
        let message = format!("{expected}, found {}", kind_of(instance));
        return Fault::of_value(pointer, message);
    };
    Fault {
        label: nearest(typed, &words).map(|near| format!("did you mean `{near}`?")),
        ..Fault::of_value(pointer, expected)
    }
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

fn is_size(schema: &Value) -> bool {
    schema.get("format").and_then(Value::as_str) == Some(schema::SIZE_FORMAT)
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
    let form = |keyword: &str| {
        let form = schema.get(keyword)?.as_str()?;
        Some(format!("text of the form `{form}`"))
    };
    own.map(str::to_owned)
        .or_else(|| title(schema))
        .or_else(|| form("pattern"))
        .or_else(|| form("format"))
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
