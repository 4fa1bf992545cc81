//! The config as it may be shown: what is secret, or came from outside of the file, is left out.

use serde_json::Value;

use super::document::Document;
use super::schema::File;
use super::secrets::{self, REDACTED, Secrets};

/// The completed file as JSON. Redacted is what [`secrets`] names, and everything in whose text a
/// substitution stood.
pub(crate) fn view(file: &File, document: &Document) -> Value {
    let mut view = serde_json::to_value(file).unwrap_or_default();
    for pointer in &document.substituted {
        if let Some(value) = view.pointer_mut(pointer) {
            *value = Value::String(REDACTED.to_owned());
        }
    }
    let routes = view.get_mut("routes").and_then(Value::as_array_mut);
    for route in routes.into_iter().flatten() {
        let headers = route.pointer_mut("/match/header");
        for (_, value) in headers.and_then(Value::as_object_mut).into_iter().flatten() {
            *value = Value::String(REDACTED.to_owned());
        }
    }
    hide(&mut view, document.secrets());
    view
}

/// Hides secret fields, and values that became part of another one, as a host does of an address.
fn hide(view: &mut Value, secrets: &Secrets) {
    match view {
        Value::String(text) => {
            let redacted = secrets.redact(text).into_owned();
            *text = secrets::without_userinfo(&redacted).into_owned();
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, secrets)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match !field.is_null() && secrets::is_secret(name) {
                    true => *field = Value::String(REDACTED.to_owned()),
                    false => hide(field, secrets),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
