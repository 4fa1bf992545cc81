//! Stand-ins for values of the wrong shape, so that the rest of a file can be judged beside them.
//!
//! A stand-in fits the schema and means nothing. [`Guesses`] knows where one stands, and the
//! checker reports nothing that rests on it: what is left are errors that stay when the shape is
//! mended.

use std::collections::BTreeSet;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Number, Value};

use super::document::{Document, child, parent};

/// What of a document is not known.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    /// Pointers of values that a stand-in replaces, or that could not be read.
    values: BTreeSet<String>,
    /// Pointers of tables with an unknown field: it may be any field that they lack, misspelt.
    open: BTreeSet<String>,
}

impl Guesses {
    /// What could not even be read.
    pub(crate) fn of(document: &Document) -> Self {
        Self {
            values: document.unreadable.clone(),
            open: BTreeSet::new(),
        }
    }

    /// Whether a field's value is the one that the user means: as typed, or left out knowingly.
    pub(crate) fn knows(&self, document: &Document, pointer: &str) -> bool {
        let mut at = pointer;
        loop {
            let is_lost = self.values.contains(at)
                || (!document.has(at) && self.open.contains(parent(at)) && !at.is_empty());
            if is_lost {
                return false;
            }
            if at.is_empty() {
                return true;
            }
            at = parent(at);
        }
    }

    /// Whether a field is known with everything below it.
    pub(crate) fn knows_whole(&self, document: &Document, pointer: &str) -> bool {
        let has_below = |guesses: &BTreeSet<String>| {
            let mut rests = guesses
                .range(pointer.to_owned()..)
                .map_while(|guess| guess.strip_prefix(pointer));
            rests.any(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.knows(document, pointer) && !has_below(&self.values) && !has_below(&self.open)
    }
}

/// Replaces what is wrong, one error of the schema's validator after the other.
pub(crate) struct Repair<'s> {
    /// The whole schema, where references lead.
    root: &'s Value,
    pub(crate) json: Value,
    pub(crate) guesses: Guesses,
}

impl<'s> Repair<'s> {
    /// Begins with the document as it is.
    pub(crate) fn new(document: &Document, root: &'s Value) -> Self {
        Self {
            root,
            json: document.json.clone(),
            guesses: Guesses::of(document),
        }
    }

    /// Mends one error. `schema` is the part of the schema that it broke.
    pub(crate) fn mend(&mut self, error: &ValidationError<'_>, schema: &Value) {
        let pointer = error.instance_path().as_str();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                self.guesses.open.insert(pointer.to_owned());
                let table = self
                    .json
                    .pointer_mut(pointer)
                    .and_then(Value::as_object_mut);
                if let Some(table) = table {
                    for name in unexpected {
                        table.remove(name);
                    }
                }
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let pointer_of_name = child(pointer, name);
                let field = schema.get("properties").and_then(|fields| fields.get(name));
                let value = self.stand_in(&pointer_of_name, field.unwrap_or(&Value::Null));
                let table = self
                    .json
                    .pointer_mut(pointer)
                    .and_then(Value::as_object_mut);
                if let Some(table) = table {
                    table.insert(name.to_owned(), value);
                }
                self.guesses.values.insert(pointer_of_name);
            }
            _ => {
                let value = self.stand_in(pointer, schema);
                if let Some(wrong) = self.json.pointer_mut(pointer) {
                    *wrong = value;
                }
                self.guesses.values.insert(pointer.to_owned());
            }
        }
    }

    /// The least that fits a part of the schema; strings are unlike any other.
    fn stand_in(&self, pointer: &str, schema: &Value) -> Value {
        let reference = schema.get("$ref").and_then(Value::as_str);
        if let Some(target) = reference.and_then(|to| self.root.pointer(to.strip_prefix('#')?)) {
            return self.stand_in(pointer, target);
        }
        let first = |keyword: &str| schema.get(keyword)?.as_array()?.first();
        if let Some(value) = first("examples").or_else(|| first("enum")) {
            return value.clone();
        }
        if let Some(value) = first("oneOf").and_then(|variant| variant.get("const")) {
            return value.clone();
        }
        let named = schema.get("type").and_then(Value::as_str);
        match named.or_else(|| first("type")?.as_str()) {
            Some("object") => Value::Object(self.least_table(pointer, schema)),
            Some("array") => Value::Array(Vec::new()),
            Some("boolean") => Value::Bool(false),
            Some("integer" | "number") => {
                let least = schema.get("minimum").and_then(Value::as_u64);
                Value::Number(Number::from(least.unwrap_or(0)))
            }
            _ => Value::String(format!("unknown{}", pointer.replace('/', "-"))),
        }
    }

    fn least_table(&self, pointer: &str, schema: &Value) -> Map<String, Value> {
        let required = schema.get("required").and_then(Value::as_array);
        let names = required.into_iter().flatten().filter_map(Value::as_str);
        names
            .filter_map(|name| {
                let field = schema.get("properties")?.get(name)?;
                Some((name.to_owned(), self.stand_in(&child(pointer, name), field)))
            })
            .collect()
    }
}
