//! The config as it may be shown: what is secret, or came from outside of the file, is left out.

use serde_json::Value;

use super::document::Document;
use super::schema::File;

/// What stands in place of a value.
const REDACTED: &str = "[redacted]";

/// The completed file as JSON. Redacted are all secret fields, and everything in whose text a
/// substitution stood.
pub(crate) fn view(file: &File, document: &Document) -> Value {
    let mut view = serde_json::to_value(file).unwrap_or_default();
    let keys = (0..file.auth.keys.len()).flat_map(|at| {
        [
            format!("/auth/keys/{at}/key"),
            format!("/auth/keys/{at}/key_sha256"),
        ]
    });
    let pools = (0..file.pools.len()).map(|at| format!("/pools/{at}/api_key"));
    let single = ["/auth/tenant_secret", "/admin/token"].map(str::to_owned);
    let substituted = document.substituted.iter().cloned();
    for pointer in keys.chain(pools).chain(single).chain(substituted) {
        hide(&mut view, &pointer);
    }
    hide_values(&mut view, document.secret_values());
    view
}

/// Replaces a value, if there is one.
fn hide(view: &mut Value, pointer: &str) {
    if let Some(value) = view.pointer_mut(pointer) {
        *value = Value::String(REDACTED.to_owned());
    }
}

/// A substituted value may have become part of another one, as a host does of an address.
fn hide_values(view: &mut Value, values: &[String]) {
    match view {
        Value::String(text) => {
            for value in values {
                if text.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), REDACTED);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_values(item, values)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| hide_values(field, values)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
