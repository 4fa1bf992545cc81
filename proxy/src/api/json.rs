//! Finds JSON values in a text and leaves them where they are.
//!
//! Nothing here builds a tree: an object or array is split one level deep into slices of the text,
//! so that a value's place is known and its bytes stay as they were written. Splitting does not
//! recurse, whatever the depth of the text. Text that went through [`members`] or [`elements`] once
//! is valid JSON all the way down; the other functions rely on it, and are total anyway.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::hex;

/// A member of an object.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    /// Decoded.
    pub(crate) key: Cow<'a, str>,
    /// The key's literal, quotes included.
    pub(crate) key_text: &'a str,
    /// The value, without white space around it.
    pub(crate) value: &'a str,
}

/// What kind of value a text is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    Text,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// The kind of a value that [`members`] or [`elements`] gave.
    pub(crate) fn of(value: &str) -> Self {
        match value.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::Text,
            Some(b't' | b'f') => Self::Bool,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }

    /// As it is called in an error message.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
        }
    }
}

/// Splits an object into its members, in order, duplicates included.
///
/// # Errors
/// When the text is not exactly one JSON object.
pub(crate) fn members(text: &str) -> Result<Vec<Member<'_>>, serde_json::Error> {
    serde_json::from_str::<Members<'_>>(text).map(|members| members.0)
}

/// Splits an array into its elements.
///
/// # Errors
/// When the text is not exactly one JSON array.
pub(crate) fn elements(text: &str) -> Result<Vec<&str>, serde_json::Error> {
    serde_json::from_str::<Elements<'_>>(text).map(|elements| elements.0)
}

struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Split;
        impl<'de> Visitor<'de> for Split {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push(Member {
                        key: decode(key.get()),
                        key_text: key.get(),
                        value: value.get(),
                    });
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Split)
    }
}

struct Elements<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Split;
        impl<'de> Visitor<'de> for Split {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element::<&RawValue>()? {
                    elements.push(element.get());
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Split)
    }
}

/// The last member with this key: of duplicates the last one holds.
pub(crate) fn last<'a>(members: &[Member<'a>], key: &str) -> Option<&'a str> {
    members
        .iter()
        .rev()
        .find(|member| member.key == key)
        .map(|member| member.value)
}

/// Where `part`, a slice of `whole`, stands in it.
pub(crate) fn place(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    debug_assert!(start + part.len() <= whole.len(), "not a slice of it");
    start..start + part.len()
}

/// What a piece of a string literal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit<'a> {
    /// Characters that stand for themselves.
    Run(&'a str),
    /// An escape, a surrogate pair being one.
    Char(char),
    /// Half a surrogate pair: it stands for no character. Read as U+FFFD.
    Lone(u16),
}

impl Unit<'_> {
    /// Bytes of the decoded text.
    pub(crate) fn decoded_len(self) -> usize {
        match self {
            Self::Run(run) => run.len(),
            Self::Char(c) => c.len_utf8(),
            Self::Lone(_) => char::REPLACEMENT_CHARACTER.len_utf8(),
        }
    }
}

/// The pieces of a string literal's inside, each with the bytes that it takes there.
#[derive(Debug, Clone)]
pub(crate) struct Units<'a> {
    rest: &'a str,
}

/// The pieces of a string literal (quotes included).
pub(crate) fn units(literal: &str) -> Units<'_> {
    Units {
        rest: inside(literal),
    }
}

/// A string literal without its quotes.
pub(crate) fn inside(literal: &str) -> &str {
    literal
        .get(1..literal.len().saturating_sub(1))
        .unwrap_or_default()
}

impl<'a> Iterator for Units<'a> {
    type Item = (Unit<'a>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = self.rest.as_bytes();
        let (unit, len) = match memchr::memchr(b'\\', bytes) {
            Some(0) => escape(bytes),
            Some(at) => (Unit::Run(self.rest.get(..at).unwrap_or_default()), at),
            None => (Unit::Run(self.rest), self.rest.len()),
        };
        self.rest = self.rest.get(len..).unwrap_or_default();
        Some((unit, len))
    }
}

/// Reads the escape at the start of `bytes`: what it stands for and how long it is.
fn escape<'a>(bytes: &[u8]) -> (Unit<'a>, usize) {
    let short = |c| (Unit::Char(c), 2);
    match bytes.get(1) {
        Some(b'n') => short('\n'),
        Some(b't') => short('\t'),
        Some(b'r') => short('\r'),
        Some(b'b') => short('\u{8}'),
        Some(b'f') => short('\u{c}'),
        Some(b'u') => unicode_escape(bytes),
        Some(other) if other.is_ascii() => short(char::from(*other)),
        _ => (Unit::Char('\\'), 1),
    }
}

/// Reads `\uXXXX`, with the second half of a surrogate pair where there is one.
fn unicode_escape<'a>(bytes: &[u8]) -> (Unit<'a>, usize) {
    let Some(first) = code_unit(bytes) else {
        return (Unit::Char('\\'), 1);
    };
    if let Some(c) = char::from_u32(u32::from(first)) {
        return (Unit::Char(c), 6);
    }
    let second = bytes.get(6..).and_then(code_unit);
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    match pair {
        Some(c) => (Unit::Char(c), 12),
        None => (Unit::Lone(first), 6),
    }
}

/// The four digits of a `\uXXXX` at the start of `bytes`.
fn code_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0_u16, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// The text that a string literal stands for; half a surrogate pair reads as U+FFFD.
pub(crate) fn decode(literal: &str) -> Cow<'_, str> {
    let inside = inside(literal);
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Cow::Borrowed(inside);
    }
    let mut text = String::with_capacity(inside.len());
    for (unit, _) in units(literal) {
        match unit {
            Unit::Run(run) => text.push_str(run),
            Unit::Char(c) => text.push(c),
            Unit::Lone(_) => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    Cow::Owned(text)
}

/// Bytes of the text that a string literal stands for.
pub(crate) fn decoded_len(literal: &str) -> usize {
    units(literal).map(|(unit, _)| unit.decoded_len()).sum()
}

/// The text of a value that is a string, else none.
pub(crate) fn text(value: &str) -> Option<Cow<'_, str>> {
    (Kind::of(value) == Kind::Text).then(|| decode(value))
}

/// The number that a value says, also as a string, as lenient servers read it; none for the rest.
pub(crate) fn number(value: &str) -> Option<f64> {
    match Kind::of(value) {
        Kind::Number => value.parse().ok(),
        Kind::Text => decode(value).trim().parse().ok(),
        Kind::Object | Kind::Array | Kind::Bool | Kind::Null => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// A number as a count: rounded down, and to the borders of `u32`; none for a negative one.
pub(crate) fn count(value: &str) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates at the borders, and negative numbers were left out"
    )]
    number(value)
        .filter(|number| *number >= 0.0)
        .map(|number| number as u32)
}

/// Appends a text as a string literal, quotes included.
pub(crate) fn quote_into(out: &mut String, text: &str) {
    out.push('"');
    escape_into(out, text);
    out.push('"');
}

/// A text as a string literal, quotes included.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote_into(&mut out, text);
    out
}

/// Appends a text as the inside of a string literal.
pub(crate) fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..'\x20' => {
                out.push_str("\\u00");
                out.extend(hex::digits(c as u8));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_keep_order_duplicates_and_places() {
        let text = r#" { "a" : 1.0 , "b\u0062":[1, 2] ,"a":{"x":null}} "#;
        let members = members(text).unwrap();
        let seen: Vec<_> = members.iter().map(|m| (m.key.as_ref(), m.value)).collect();
        assert_eq!(
            seen,
            [("a", "1.0"), ("bb", "[1, 2]"), ("a", r#"{"x":null}"#)]
        );
        assert_eq!(last(&members, "a"), Some(r#"{"x":null}"#));
        for member in &members {
            assert_eq!(text.get(place(text, member.value)), Some(member.value));
            assert_eq!(
                text.get(place(text, member.key_text)),
                Some(member.key_text)
            );
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in [
            "",
            "[]",
            "{",
            "{} {}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":\"\n\"}",
            "nul",
        ] {
            assert!(members(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(members(&deep).unwrap().len(), 1);
    }

    #[test]
    fn halves_of_surrogate_pairs_read_as_replacement_characters() {
        assert_eq!(decode(r#""a\ud83d\ude00b""#), "a😀b");
        assert_eq!(decode(r#""\ud83dx""#), "\u{fffd}x");
        assert_eq!(decode(r#""\ude00\ud83d""#), "\u{fffd}\u{fffd}");
        assert_eq!(decode(r#""\ud83d\ud83d\ude00""#), "\u{fffd}😀");
        assert_eq!(decode(r#""\ud83d\n""#), "\u{fffd}\n");
    }

    #[test]
    fn numbers_are_read_in_every_spelling() {
        assert_eq!(count("4096"), Some(4096));
        assert_eq!(count("4.096e3"), Some(4096));
        assert_eq!(count("\"12\""), Some(12));
        assert_eq!(count("123456789012345678901234567890"), Some(u32::MAX));
        assert_eq!(count("-1"), None);
        assert_eq!(count("null"), None);
    }

    proptest! {
        #[test]
        fn quoting_and_decoding_are_inverse(text in any::<String>()) {
            let literal = quote(&text);
            prop_assert_eq!(decode(&literal), text.as_str());
            prop_assert_eq!(decoded_len(&literal), text.len());
            prop_assert_eq!(serde_json::from_str::<String>(&literal).unwrap(), text);
        }

        #[test]
        fn decoding_agrees_with_serde(text in r#"([a-zü"\\/\n]|\\u[0-9a-fA-F]{4}){0,20}"#) {
            let literal = format!("\"{}\"", text.replace('\n', "\\n").replace('"', "\\\""));
            if let Ok(expected) = serde_json::from_str::<String>(&literal) {
                prop_assert_eq!(decode(&literal), expected);
            }
        }

        #[test]
        fn any_bytes_between_quotes_are_survived(text in any::<String>()) {
            let literal = format!("\"{text}\"");
            decode(&literal);
            let raw: usize = units(&literal).map(|(_, len)| len).sum();
            prop_assert_eq!(raw, text.len());
        }
    }
}
