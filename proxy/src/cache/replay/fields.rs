//! An object that is put together from pieces of JSON text, each as it was written.

use crate::api::json::{self, Kind, Member};

/// Strings of a delta that are said once, or repeated. Any other may come in pieces.
const SAID_ONCE: &[&str] = &["role", "id", "type", "name", "format", "model", "status"];

/// Fields in the order of their first appearance.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, Value)>);

#[derive(Debug)]
enum Value {
    /// JSON text.
    Raw(String),
    /// The inside of a string literal.
    Text(String),
    /// Elements as JSON text.
    List(Vec<String>),
    /// Elements that grow, by their `index`.
    Indexed(Vec<(u32, Fields)>),
    Object(Fields),
}

impl Fields {
    /// Sets a field to a JSON text, in place of what it was.
    pub(super) fn set_raw(&mut self, key: &str, value: &str) {
        self.set(key, Value::Raw(value.to_owned()));
    }

    /// Sets a field to an object.
    pub(super) fn set_object(&mut self, key: &str, value: Self) {
        self.set(key, Value::Object(value));
    }

    /// Sets a field to a list of objects.
    pub(super) fn set_list(&mut self, key: &str, values: impl IntoIterator<Item = Self>) {
        let texts = values.into_iter().map(|fields| {
            let mut text = String::new();
            fields.write(&mut text);
            text
        });
        self.set(key, Value::List(texts.collect()));
    }

    /// Sets a field unless it is there, and not as null.
    pub(super) fn set_first(&mut self, key: &str, value: &str) {
        match self.get(key) {
            None => self.set_raw(key, value),
            Some(Value::Raw(earlier)) if earlier == "null" => self.set_raw(key, value),
            Some(_) => {}
        }
    }

    /// Whether the field is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// Gives the `message` the fields that each one has: its role, in front, and its content.
    pub(super) fn complete_message(&mut self) {
        let Some(Value::Object(message)) = self.get("message") else {
            return;
        };
        message.set_first("role", "\"assistant\"");
        let at = message.0.iter().position(|(name, _)| name == "role");
        if let Some(to_role) = at.and_then(|at| message.0.get_mut(..=at)) {
            to_role.rotate_right(1);
        }
        if !message.has("content") {
            message.set_raw("content", "null");
        }
    }

    /// Merges the members of a delta: pieces of text are joined, lists grow, elements with an
    /// `index` grow by it, objects merge in turn, and of anything else the last one holds.
    pub(super) fn merge(&mut self, members: &[Member<'_>]) {
        for member in members {
            self.merge_one(&member.key, member.value);
        }
    }

    /// Merges one field.
    pub(super) fn merge_one(&mut self, key: &str, value: &str) {
        match Kind::of(value) {
            Kind::Null => {
                if !self.has(key) {
                    self.set_raw(key, value);
                }
            }
            Kind::Text if SAID_ONCE.contains(&key) => self.set_first(key, value),
            Kind::Text => {
                let piece = json::inside(value);
                match self.get(key) {
                    Some(Value::Text(text)) => text.push_str(piece),
                    _ => self.set(key, Value::Text(piece.to_owned())),
                }
            }
            Kind::Object => {
                let members = json::members(value).unwrap_or_default();
                match self.get(key) {
                    Some(Value::Object(object)) => object.merge(&members),
                    _ => {
                        let mut object = Self::default();
                        object.merge(&members);
                        self.set(key, Value::Object(object));
                    }
                }
            }
            Kind::Array if key == "tool_calls" => self.merge_calls(key, value),
            Kind::Array => {
                let more = json::elements(value).unwrap_or_default();
                let more = more.into_iter().map(str::to_owned);
                match self.get(key) {
                    Some(Value::List(list)) => list.extend(more),
                    _ => self.set(key, Value::List(more.collect())),
                }
            }
            Kind::Number | Kind::Bool => self.set_raw(key, value),
        }
    }

    /// Merges pieces of tool calls. A server that gives no `index` begins a call with its id.
    fn merge_calls(&mut self, key: &str, value: &str) {
        if !matches!(self.get(key), Some(Value::Indexed(_))) {
            self.set(key, Value::Indexed(Vec::new()));
        }
        let Some(Value::Indexed(calls)) = self.get(key) else {
            return;
        };
        for element in json::elements(value).unwrap_or_default() {
            let mut members = json::members(element).unwrap_or_default();
            let begins = json::last(&members, "id").and_then(json::text);
            let begins = begins.is_some_and(|id| !id.is_empty());
            let last = calls.last().map(|(index, _)| *index);
            let index = match (json::last(&members, "index").and_then(json::count), last) {
                (Some(index), _) => index,
                (None, None) => 0,
                (None, Some(last)) => last.saturating_add(u32::from(begins)),
            };
            members.retain(|member| member.key != "index");
            let (_, call) = match calls.iter_mut().find(|(known, _)| *known == index) {
                Some(call) => call,
                None => calls.push_mut((index, Self::default())),
            };
            call.merge(&members);
        }
    }

    /// Appends the object as JSON text.
    pub(super) fn write(&self, out: &mut String) {
        out.push('{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            json::quote_into(out, key);
            out.push(':');
            match value {
                Value::Raw(text) => out.push_str(text),
                Value::Text(text) => {
                    out.push('"');
                    out.push_str(text);
                    out.push('"');
                }
                Value::List(list) => {
                    out.push('[');
                    out.push_str(&list.join(","));
                    out.push(']');
                }
                Value::Indexed(list) => {
                    let mut ordered: Vec<_> = list.iter().collect();
                    ordered.sort_by_key(|(index, _)| *index);
                    out.push('[');
                    for (at, (_, fields)) in ordered.into_iter().enumerate() {
                        out.push_str(if at == 0 { "" } else { "," });
                        fields.write(out);
                    }
                    out.push(']');
                }
                Value::Object(fields) => fields.write(out),
            }
        }
        out.push('}');
    }

    fn get(&mut self, key: &str) -> Option<&mut Value> {
        self.0
            .iter_mut()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    fn set(&mut self, key: &str, value: Value) {
        match self.get(key) {
            Some(place) => *place = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }
}
