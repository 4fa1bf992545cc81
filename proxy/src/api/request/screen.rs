//! Refuses a body for its shape, before anything is built from it.
//!
//! Neither the depth nor the number of values costs the parser here much, but others read the body
//! too: plugins, the cache, and the upstream, where a deep one may end in a full stack. One pass
//! over the bytes, which skips strings; a body that cannot have too much of either is not looked at.

use super::RequestError;
use crate::api::json;
use crate::api::text::cut;

/// Deepest nesting of objects and arrays, the body's own object included.
const MAX_DEPTH: usize = 128;
/// Most strings, objects, arrays and words (`true`, `null`) in one field of the body, names
/// included. Numbers are not counted: a prompt may be a million tokens.
const MAX_VALUES: usize = 256 * 1024;
/// Most fields of the body.
const MAX_FIELDS: usize = 1024;
/// Longest name of a field that an error repeats.
const MAX_NAME_BYTES: usize = 64;

/// Looks at the shape alone: what is no JSON passes, and is found by the parser.
///
/// # Errors
/// What there is too much of, with the field's name.
pub(crate) fn screen(body: &[u8]) -> Result<(), RequestError> {
    let can_be_deep = memchr::memchr2_iter(b'{', b'[', body)
        .nth(MAX_DEPTH)
        .is_some();
    // Each field takes at least five bytes (`"":1,`), each value three.
    if !can_be_deep && body.len() < MAX_FIELDS * 5 {
        return Ok(());
    }
    let mut pass = Pass::default();
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let end = end_of_string(body, at);
                pass.string(body.get(at..end).unwrap_or_default())?;
                at = end + 1;
            }
            b'{' | b'[' => pass.open()?,
            b'}' | b']' => pass.depth = pass.depth.saturating_sub(1),
            b',' if pass.depth == 1 => pass.next_field()?,
            b't' | b'f' | b'n' => pass.value()?,
            _ => {}
        }
    }
    Ok(())
}

/// Where the closing quote stands, or the end.
fn end_of_string(body: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        let rest = body.get(at..).unwrap_or_default();
        match memchr::memchr2(b'"', b'\\', rest) {
            None => return body.len(),
            Some(found) if rest.get(found) == Some(&b'"') => return at + found,
            // The byte behind a backslash is no end.
            Some(found) => at += found + 2,
        }
    }
}

#[derive(Default)]
struct Pass<'a> {
    depth: usize,
    fields: usize,
    /// Values of the field that is read.
    values: usize,
    /// The last string in the body's own object: the name of the field that is read.
    name: &'a [u8],
}

impl<'a> Pass<'a> {
    fn string(&mut self, inside: &'a [u8]) -> Result<(), RequestError> {
        if self.depth == 1 {
            self.name = inside;
        }
        self.value()
    }

    fn open(&mut self) -> Result<(), RequestError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.refused(&format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        self.value()
    }

    fn value(&mut self) -> Result<(), RequestError> {
        self.values += 1;
        match self.values > MAX_VALUES {
            true => Err(self.refused(&format!("has more than {MAX_VALUES} values in it"))),
            false => Ok(()),
        }
    }

    fn next_field(&mut self) -> Result<(), RequestError> {
        self.values = 0;
        self.fields += 1;
        match self.fields >= MAX_FIELDS {
            true => Err(RequestError::not_json(format!(
                "The request body has more than {MAX_FIELDS} fields."
            ))),
            false => Ok(()),
        }
    }

    fn refused(&self, problem: &str) -> RequestError {
        let literal = format!("\"{}\"", String::from_utf8_lossy(self.name));
        let name = json::decode(&literal);
        match cut(&name, MAX_NAME_BYTES) {
            "" => RequestError::not_json(format!("The request body {problem}.")),
            name => RequestError::wrong_value(name, problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> Option<String> {
        let error = screen(body.as_bytes()).err()?;
        assert!(error.message.len() < 200, "{}", error.message);
        Some(error.param.unwrap_or_default())
    }

    #[test]
    fn depth_is_bounded_and_named() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let body = |depth: usize| {
                let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                format!(r#"{{"model":"m","t\u006fols":{deep}}}"#)
            };
            assert_eq!(refusal(&body(MAX_DEPTH - 1)), None);
            assert_eq!(refusal(&body(MAX_DEPTH)).as_deref(), Some("tools"));
            assert_eq!(refusal(&body(100_000)).as_deref(), Some("tools"));
        }
        assert_eq!(refusal(&"[".repeat(1_000_000)).as_deref(), Some(""));
    }

    #[test]
    fn brackets_in_strings_are_text() {
        let text = r#"[{\"\\"#.repeat(100_000);
        assert_eq!(refusal(&format!(r#"{{"model":"{text}","a":[1]}}"#)), None);
        let beside = format!("[{}1]", "[1],".repeat(1000));
        assert_eq!(refusal(&format!(r#"{{"a":{beside}}}"#)), None);
    }

    #[test]
    fn values_and_fields_are_bounded_but_tokens_are_not() {
        for value in ["{}", "\"\"", "null", "[]"] {
            let body = |count: usize| {
                let list = vec![value; count].join(",");
                format!(r#"{{"n":1,"messages":[{list}],"stream":true}}"#)
            };
            assert_eq!(refusal(&body(MAX_VALUES - 10)), None, "{value}");
            assert_eq!(refusal(&body(MAX_VALUES)).as_deref(), Some("messages"));
        }
        let tokens = "1,".repeat(1_000_000);
        assert_eq!(refusal(&format!(r#"{{"input":[{tokens}1]}}"#)), None);
        let fields = r#""a":1,"#.repeat(MAX_FIELDS);
        assert_eq!(
            refusal(&format!(r#"{{{fields}"b":1}}"#)).as_deref(),
            Some("")
        );
    }
}
