//! The config as it may be shown: what is secret, or came from outside of the file, is left out.

use serde_json::Value;

use super::document::{Document, SECRET_FIELDS};
use super::schema::File;

/// What stands in place of a value.
const REDACTED: &str = "[redacted]";

/// The completed file as JSON. Redacted are the fields that hold secrets by their name, the tables
/// of plugins included, and everything in whose text a substitution stood.
pub(crate) fn view(file: &File, document: &Document) -> Value {
    let mut view = serde_json::to_value(file).unwrap_or_default();
    for pointer in &document.substituted {
        if let Some(value) = view.pointer_mut(pointer) {
            *value = Value::String(REDACTED.to_owned());
        }
    }
    hide(&mut view, document.secret_values());
    view
}

/// Hides secret fields, and substituted values that became part of another one, as a host does of
/// an address.
fn hide(view: &mut Value, values: &[String]) {
    match view {
        Value::String(text) => {
            for value in values {
                if text.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), REDACTED);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, values)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.is_string() && SECRET_FIELDS.contains(&name.as_str()) {
                    true => *field = Value::String(REDACTED.to_owned()),
                    false => hide(field, values),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
