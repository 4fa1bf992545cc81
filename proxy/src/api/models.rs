//! The list of models, in OpenAI's form.

use bytes::Bytes;

use super::json;

/// The answer to `GET /v1/models`: ids and owners in the order given, each id once. `created` is
/// in seconds since 1970, the same for all, since nobody knows better.
pub(crate) fn list(names: impl Iterator<Item = (String, String)>, created: u64) -> Bytes {
    let mut out = String::from("{\"object\":\"list\",\"data\":[");
    let mut seen = std::collections::HashSet::new();
    for (id, owned_by) in names {
        if seen.contains(&id) {
            continue;
        }
        if !seen.is_empty() {
            out.push(',');
        }
        push(&mut out, &id, &owned_by, created);
        seen.insert(id);
    }
    out.push_str("]}");
    out.into()
}

/// The answer to `GET /v1/models/{id}`.
pub(crate) fn one(id: &str, owned_by: &str, created: u64) -> Bytes {
    let mut out = String::new();
    push(&mut out, id, owned_by, created);
    out.into()
}

fn push(out: &mut String, id: &str, owned_by: &str, created: u64) {
    out.push_str("{\"id\":");
    json::quote_into(out, id);
    out.push_str(",\"object\":\"model\",\"created\":");
    out.push_str(&created.to_string());
    out.push_str(",\"owned_by\":");
    json::quote_into(out, owned_by);
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_keeps_order_and_names_each_model_once() {
        let names = [("b", "x"), ("a\"", "y"), ("b", "z")];
        let list = list(
            names
                .iter()
                .map(|(id, by)| (id.to_string(), by.to_string())),
            7,
        );
        assert_eq!(
            list,
            "{\"object\":\"list\",\"data\":[\
             {\"id\":\"b\",\"object\":\"model\",\"created\":7,\"owned_by\":\"x\"},\
             {\"id\":\"a\\\"\",\"object\":\"model\",\"created\":7,\"owned_by\":\"y\"}]}"
        );
        assert_eq!(
            super::list(std::iter::empty(), 7),
            "{\"object\":\"list\",\"data\":[]}"
        );
    }
}
