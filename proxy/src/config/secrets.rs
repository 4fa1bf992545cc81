//! What of a config must not be shown, and how it is kept out of excerpts, messages and views.
//!
//! Secret are: what a substitution gave; the value of a field whose name says so, in a plugin's own
//! table too; the header values that a route asks for; user and password in a URL. In excerpts they
//! are masked byte for byte, so that every place stays true, and comments are left out: old keys
//! stand in them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// What stands in place of a value.
pub(crate) const REDACTED: &str = "[redacted]";

/// Names of fields that hold secrets.
const NAMES: [&str; 12] = [
    "access_token",
    "auth_token",
    "authorization",
    "bearer_token",
    "cookie",
    "key",
    "key_sha256",
    "password",
    "refresh_token",
    "secret",
    "secrets",
    "token",
];

/// Endings of such names; not `_token`, which some settings count.
const ENDINGS: [&str; 3] = ["_key", "_password", "_secret"];

/// So many bytes in a row of a secret are taken out where the whole is not there: a text may have
/// been cut or escaped.
const PIECE: usize = 12;

/// A value of a byte or two protects nothing, and taking it out of texts would garble them.
const LEAST: usize = 3;

/// Whether a field's value is secret, even when it is written in the file itself.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    NAMES.contains(&name.as_str()) || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Values that are taken out of every text.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets {
    /// Those too short for pieces.
    short: Vec<String>,
    pieces: HashSet<[u8; PIECE]>,
}

impl Secrets {
    /// Keeps these values out.
    pub(crate) fn new<'v>(values: impl IntoIterator<Item = &'v str>) -> Self {
        let mut secrets = Self::default();
        for value in values.into_iter().flat_map(forms) {
            if value.len() >= PIECE {
                let windows = value.as_bytes().windows(PIECE);
                let pieces = windows.filter_map(|window| <[u8; PIECE]>::try_from(window).ok());
                secrets.pieces.extend(pieces);
            } else if value.len() >= LEAST {
                secrets.short.push(value.into_owned());
            }
        }
        secrets
    }

    /// The text without them.
    pub(crate) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found = self.places(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_by_key(|range| range.start);
        let mut redacted = String::with_capacity(text.len());
        let mut end = 0;
        for range in found {
            if range.start > end || redacted.is_empty() {
                redacted.push_str(text.get(end..range.start).unwrap_or_default());
                redacted.push_str(REDACTED);
            }
            end = end.max(range.end);
        }
        redacted.push_str(text.get(end..).unwrap_or_default());
        Cow::Owned(redacted)
    }

    /// Where they stand, in whole characters.
    fn places(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for value in &self.short {
            let matches = text.match_indices(value.as_str());
            found.extend(matches.map(|(at, _)| at..at + value.len()));
        }
        if self.pieces.is_empty() {
            return found;
        }
        for (at, window) in text.as_bytes().windows(PIECE).enumerate() {
            if self.pieces.contains(window) {
                found.push(text.floor_char_boundary(at)..text.ceil_char_boundary(at + PIECE));
            }
        }
        found
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// A value as it is, and as messages escape it where that differs.
fn forms(value: &str) -> Vec<Cow<'_, str>> {
    let mut forms = vec![Cow::Borrowed(value)];
    let escaped = [
        value.escape_debug().to_string(),
        value.escape_default().to_string(),
        serde_json::Value::from(value).to_string(),
    ];
    for form in escaped {
        let form = form.trim_matches('"');
        if form != value {
            forms.push(Cow::Owned(form.to_owned()));
        }
    }
    forms
}

/// The text without user and password in its URLs.
pub(crate) fn without_userinfo(text: &str) -> Cow<'_, str> {
    let ranges = userinfo(text);
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut redacted = String::with_capacity(text.len());
    let mut end = 0;
    for range in ranges {
        redacted.push_str(text.get(end..range.start).unwrap_or_default());
        redacted.push_str(REDACTED);
        end = range.end;
    }
    redacted.push_str(text.get(end..).unwrap_or_default());
    Cow::Owned(redacted)
}

/// User and password of every URL in a text. Generous: a password may hold a slash by mistake.
fn userinfo(text: &str) -> Vec<Range<usize>> {
    let ends_url = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '<' | '>');
    let mut ranges = Vec::new();
    let mut looked_until = 0;
    for (at, sign) in text.match_indices("://") {
        let start = at + sign.len();
        if start < looked_until {
            continue; // inside of the one before
        }
        let rest = text.get(start..).unwrap_or_default();
        let url = rest.split(ends_url).next().unwrap_or_default();
        looked_until = start + url.len();
        if let Some(end) = url.rfind('@') {
            ranges.push(start..start + end);
        }
    }
    ranges
}

/// A parsed text as excerpts show it. `secret` are the ranges of secret values, `literals` those
/// of all keys and strings; both in the order of the text.
pub(crate) fn mask(text: &str, mut secret: Vec<Range<usize>>, literals: &[Range<usize>]) -> String {
    secret.extend(userinfo(text));
    secret.sort_by_key(|range| range.start);
    cover(text, &secret, &comments(text, literals))
}

/// A text that does not parse, as excerpts show it: what may be a secret is masked line by line.
pub(crate) fn mask_unparsed(text: &str) -> String {
    let mut ranges = userinfo(text);
    let mut start = 0;
    let mut closes_with: Option<&str> = None;
    let mut is_continued = false;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let from = match closes_with {
            Some(quotes) => {
                if line.contains(quotes) {
                    closes_with = None;
                }
                Some(0)
            }
            None if is_continued => Some(0),
            None => secret_in(line),
        };
        if let Some(from) = from {
            let value = line.get(from..).unwrap_or_default();
            let blank = value.len() - value.trim_start().len();
            ranges.push(start + from + blank..end);
            let quotes = ["\"\"\"", "'''"].into_iter();
            let mut open = quotes.filter(|quotes| value.matches(quotes).count() == 1);
            closes_with = closes_with.or_else(|| open.next().filter(|_| from > 0));
            // A value on a line of its own is no TOML, and a secret all the same.
            is_continued = from > 0 && value.trim().is_empty();
        }
        start = end;
    }
    ranges.sort_by_key(|range| range.start);
    cover(text, &ranges, &[])
}

/// Where the first value begins that stands behind the name of a secret field.
fn secret_in(line: &str) -> Option<usize> {
    let mut signs = line.match_indices('=').map(|(at, _)| at);
    let sign = signs.find(|at| {
        let before = line.get(..*at).unwrap_or_default();
        let before = before.trim_end().trim_end_matches(['"', '\'']);
        let is_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let name = before.rsplit(|c: char| !is_of_name(c)).next();
        name.is_some_and(is_secret)
    })?;
    let value = line.get(sign + 1..).unwrap_or_default();
    Some(line.len() - value.trim_start().len())
}

/// Where the comments of a parsed text stand.
fn comments(text: &str, literals: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut literals = literals.iter().peekable();
    for (at, _) in text.match_indices('#') {
        while literals.next_if(|literal| literal.end <= at).is_some() {}
        let is_literal = literals.peek().is_some_and(|literal| literal.start <= at);
        let is_comment = found.last().is_some_and(|comment| comment.end > at);
        if !is_literal && !is_comment {
            let rest = text.get(at..).unwrap_or_default();
            found.push(at..at + rest.find('\n').unwrap_or(rest.len()));
        }
    }
    found
}

/// Replaces what is secret by stars and what is blank by spaces, byte for byte. References such as
/// `${NAME}` may be seen. Ranges are in the order of the text.
fn cover(text: &str, secret: &[Range<usize>], blank: &[Range<usize>]) -> String {
    let mut shown = String::with_capacity(text.len());
    let (mut secret, mut blank) = (Ranges::new(secret), Ranges::new(blank));
    let mut reference_ends = 0;
    for (at, character) in text.char_indices() {
        let is_secret = secret.hold(at);
        if is_secret && at >= reference_ends {
            let rest = text.get(at..).unwrap_or_default();
            let reference = rest
                .strip_prefix("${")
                .and_then(|rest| rest.find(['}', '\n']));
            reference_ends = reference.map_or(reference_ends, |end| at + end + 3);
        }
        let cover = match character {
            '\n' | '\r' => None,
            _ if blank.hold(at) => Some(' '),
            '"' | '\'' => None,
            _ if is_secret && at >= reference_ends => Some(mark(character.len_utf8())),
            _ => None,
        };
        match cover {
            // At the end of its line, where no column counts.
            Some(' ') => shown.extend(std::iter::repeat_n(' ', character.len_utf8())),
            Some(mark) => shown.push(mark),
            None => shown.push(character),
        }
    }
    shown
}

/// A mark of so many bytes, so that places behind it stay true in bytes and in characters.
fn mark(bytes: usize) -> char {
    match bytes {
        2 => '·',
        3 => '•',
        4 => '🞶',
        _ => '*',
    }
}

/// Ranges in the order of their starts, asked for places that only grow.
struct Ranges<'r> {
    rest: std::slice::Iter<'r, Range<usize>>,
    /// Where the last of those that have begun ends.
    end: usize,
}

impl<'r> Ranges<'r> {
    fn new(ranges: &'r [Range<usize>]) -> Self {
        Self {
            rest: ranges.iter(),
            end: 0,
        }
    }

    fn hold(&mut self, at: usize) -> bool {
        while let Some(next) = self.rest.as_slice().first().filter(|next| next.start <= at) {
            self.end = self.end.max(next.end);
            self.rest.next();
        }
        at < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_secret() {
        for name in [
            "token",
            "API_KEY",
            "x-api-key",
            "client_secret",
            "Authorization",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "keys",
            "key_file",
            "max_tokens",
            "name",
            "secretary",
            "monkey",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn values_are_taken_out_whole_cut_and_escaped() {
        let secrets = Secrets::new(["ab", "abc", "0123456789-abcdefgh\n0123456789-é-xyz"]);
        assert_eq!(secrets.redact("ab and abc"), "ab and [redacted]");
        assert_eq!(
            secrets.redact("<0123456789-abcdefgh\n0123456789-é-xyz>"),
            "<[redacted]>"
        );
        assert_eq!(secrets.redact("cut: 3456789-abcdef"), "cut: [redacted]");
        assert_eq!(
            secrets.redact("<0123456789-abcdefgh\\n0123456789-é>"),
            "<[redacted]>"
        );
        let quoted = "a\"b\"c\"d\"e\"f";
        let debugged = format!("{quoted:?}");
        assert_eq!(Secrets::new([quoted]).redact(&debugged), "\"[redacted]\"");
        assert_eq!(secrets.redact("3456789-"), "3456789-");
    }

    #[test]
    fn users_and_passwords_of_urls_are_taken_out() {
        assert_eq!(
            without_userinfo("http://u:p@h/x and https://h/a, \"ws://p/w@h\""),
            "http://[redacted]@h/x and https://h/a, \"ws://[redacted]@h\""
        );
    }

    #[test]
    fn a_text_that_does_not_parse_shows_no_secret() {
        let text = "api_key = sk-1 # was sk-0\n\"token\"=\n\"sk-2\"\nname = \"shown\"\n\
                    keys = [{ name = \"a\", key = 'sk-3', tenant = \"t\" }\n\
                    password = \"\"\"\nsk-4\n sk-5 \"\"\" \nurl = \"http://u:sk-6@h\"\n\
                    admin.token = \"${NAME}sk-7\"\nend = 1";
        let shown = mask_unparsed(text);
        assert_eq!(shown.len(), text.len());
        assert!(!shown.contains("sk-"), "{shown}");
        for kept in [
            "name = \"shown\"",
            "name = \"a\"",
            "\"${NAME}****\"",
            "@h",
            "end = 1",
        ] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
    }

    #[test]
    fn comments_of_a_parsed_text_are_left_out() {
        let text = "a = \"#1\" # old: sk\n# é\nb = '#2'# x # y";
        let shown = mask(text, Vec::new(), &[4..8, 28..32]);
        assert_eq!(shown.len(), text.len());
        assert_eq!(
            shown.split_whitespace().collect::<Vec<_>>(),
            ["a", "=", "\"#1\"", "b", "=", "'#2'"]
        );
    }
}
