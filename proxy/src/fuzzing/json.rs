//! JSON read the slow way: what the proxy's own readers and writers are held against.
//!
//! A tree by the grammar of RFC 8259 that shares no code with the proxy. It keeps the text of every
//! value and all that stands between two, so that [`Value::print`] gives back every byte that nobody
//! changed. Texts are UTF-16, so that half a surrogate pair is what it is.

use std::collections::{HashMap, HashSet};

/// Deepest text that is read: a tree recurses.
const MAX_DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Value<'a> {
    /// As written, without white space around it.
    pub(super) text: &'a str,
    pub(super) content: Content<'a>,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Content<'a> {
    /// `null`, `true` or `false`.
    Word,
    Number,
    Text(Vec<u16>),
    List(Entries<'a>),
    Object(Entries<'a>),
}

/// What stands between brackets.
#[derive(Debug, Clone)]
pub(super) struct Entries<'a> {
    /// From the bracket to the first entry, or to the end when there is none.
    open: &'a str,
    pub(super) list: Vec<Entry<'a>>,
}

/// An element, or a member.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    /// Of a member.
    pub(super) key: Vec<u16>,
    /// From the key's literal to the value; empty for an element.
    head: &'a str,
    pub(super) value: Value<'a>,
    /// Up to the next entry, or to the end, bracket included.
    after: &'a str,
}

/// Reads a text that is one value with white space around it. None when it is not, or too deep.
pub(super) fn read(text: &str) -> Option<Value<'_>> {
    let mut reader = Reader { text, at: 0 };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    (reader.at == text.len()).then_some(value)
}

impl<'a> Value<'a> {
    /// The last member with this name: of duplicates the last one holds.
    pub(super) fn member(&self, name: &str) -> Option<&Value<'a>> {
        let name: Vec<u16> = name.encode_utf16().collect();
        let entry = self.members().iter().rfind(|entry| entry.key == name)?;
        Some(&entry.value)
    }

    /// All members, duplicates included.
    pub(super) fn members(&self) -> &[Entry<'a>] {
        match &self.content {
            Content::Object(entries) => &entries.list,
            _ => &[],
        }
    }

    /// The elements of a list; none of what is not one.
    pub(super) fn elements(&self) -> Option<Vec<&Value<'a>>> {
        match &self.content {
            Content::List(entries) => Some(entries.list.iter().map(|entry| &entry.value).collect()),
            _ => None,
        }
    }

    /// A text as a plugin sees it; none of what is not one.
    pub(super) fn string(&self) -> Option<String> {
        match &self.content {
            Content::Text(units) => Some(String::from_utf16_lossy(units)),
            _ => None,
        }
    }

    /// Where it stands; no two values stand at the same place.
    pub(super) fn place(&self) -> usize {
        self.text.as_ptr().addr()
    }

    /// The text with these changes.
    pub(super) fn print(&self, changes: &Changes) -> String {
        if let Some(new) = changes.new.get(&self.place()) {
            return new.clone();
        }
        let (Content::List(entries) | Content::Object(entries)) = &self.content else {
            return self.text.to_owned();
        };
        let Some(last) = entries.list.last() else {
            let inside = changes
                .last_inside
                .get(&self.place())
                .map_or("", String::as_str);
            let (bracket, rest) = entries.open.split_at(1);
            return format!("{bracket}{inside}{rest}");
        };
        let is_kept = |entry: &&Entry<'a>| !changes.gone.contains(&entry.value.place());
        let kept: Vec<&Entry<'a>> = entries.list.iter().filter(is_kept).collect();
        let mut out = entries.open.to_owned();
        for (at, entry) in kept.iter().enumerate() {
            let place = entry.value.place();
            out.push_str(changes.before.get(&place).map_or("", String::as_str));
            out.push_str(entry.head);
            out.push_str(&entry.value.print(changes));
            if at + 1 < kept.len() {
                out.push_str(entry.after);
            }
        }
        // What is gone takes the comma behind it along, at the end of the list the one before.
        out.push_str(
            changes
                .last_inside
                .get(&self.place())
                .map_or("", String::as_str),
        );
        out.push_str(last.after);
        out
    }
}

/// Changes to a text, by the places of values.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Entries that leave.
    pub(super) gone: HashSet<usize>,
    /// Values that are written anew.
    pub(super) new: HashMap<usize, String>,
    /// What comes before an entry.
    pub(super) before: HashMap<usize, String>,
    /// What comes behind the last entry of a list or object.
    pub(super) last_inside: HashMap<usize, String>,
}

/// A piece of a string literal: one character, an escape, or an escaped surrogate pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) raw: &'a str,
    pub(super) units: Vec<u16>,
}

impl Piece<'_> {
    /// Bytes that it has for a plugin, for which half a pair is U+FFFD.
    pub(super) fn bytes(&self) -> usize {
        String::from_utf16_lossy(&self.units).len()
    }

    pub(super) fn is_first_half(&self) -> bool {
        matches!(self.units[..], [0xD800..=0xDBFF])
    }

    pub(super) fn is_second_half(&self) -> bool {
        matches!(self.units[..], [0xDC00..=0xDFFF])
    }
}

/// The pieces of a valid literal.
pub(super) fn pieces(literal: &str) -> Vec<Piece<'_>> {
    let mut rest = literal
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or("");
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    while let Some(first) = rest.chars().next() {
        let bytes = match (first, rest.as_bytes().get(1)) {
            ('\\', Some(b'u')) => 6,
            ('\\', _) => 2,
            _ => first.len_utf8(),
        };
        let (raw, behind) = rest.split_at(bytes);
        rest = behind;
        let units = match raw.strip_prefix('\\') {
            Some(escape) => vec![unescaped(escape)],
            None => raw.encode_utf16().collect(),
        };
        let piece = Piece { raw, units };
        match pieces.last_mut() {
            Some(last) if last.is_first_half() && piece.is_second_half() => {
                let start = literal.len() - behind.len() - 1 - 12;
                last.raw = literal.get(start..start + 12).unwrap_or_default();
                last.units.extend(piece.units);
            }
            _ => pieces.push(piece),
        }
    }
    pieces
}

/// What an escape stands for; it is valid, and has no backslash any more.
fn unescaped(escape: &str) -> u16 {
    match escape.as_bytes() {
        [b'u', ..] => u16::from_str_radix(escape.trim_start_matches('u'), 16).unwrap_or_default(),
        [b'n'] => 10,
        [b't'] => 9,
        [b'r'] => 13,
        [b'b'] => 8,
        [b'f'] => 12,
        [other] => u16::from(*other),
        _ => 0,
    }
}

/// A text as the proxy writes one: nothing is escaped but what must be.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// The inside of [`quoted`].
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        let start = self.at;
        let content = match self.peek()? {
            b'{' => Content::Object(self.entries(b'}', depth)?),
            b'[' => Content::List(self.entries(b']', depth)?),
            b'"' => Content::Text(self.string()?),
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        };
        let text = self.since(start);
        Some(Value { text, content })
    }

    fn entries(&mut self, close: u8, depth: usize) -> Option<Entries<'a>> {
        if depth == MAX_DEPTH {
            return None;
        }
        let start = self.at;
        self.at += 1;
        self.space();
        let mut entries = Entries {
            open: self.since(start),
            list: Vec::new(),
        };
        if self.take(close) {
            entries.open = self.since(start);
            return Some(entries);
        }
        loop {
            let begin = self.at;
            let mut key = Vec::new();
            if close == b'}' {
                key = (self.peek()? == b'"').then(|| self.string())??;
                self.space();
                if !self.take(b':') {
                    return None;
                }
                self.space();
            }
            let head = self.since(begin);
            let value = self.value(depth + 1)?;
            let end = self.at;
            self.space();
            let goes_on = self.take(b',');
            if goes_on {
                self.space();
            } else if !self.take(close) {
                return None;
            }
            let after = self.since(end);
            entries.list.push(Entry {
                key,
                head,
                value,
                after,
            });
            if !goes_on {
                return Some(entries);
            }
        }
    }

    fn string(&mut self) -> Option<Vec<u16>> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                0..0x20 => return None,
                b'\\' => {
                    self.at += 1;
                    let kind = self.peek()?;
                    self.at += 1;
                    if kind == b'u' {
                        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
                        digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                        self.at += 4;
                    } else if !b"\"\\/bfnrt".contains(&kind) {
                        return None;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let pieces = pieces(self.since(start));
        Some(pieces.into_iter().flat_map(|piece| piece.units).collect())
    }

    fn number(&mut self) -> Option<Content<'a>> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Some(Content::Number)
    }

    /// At least one.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<Content<'a>> {
        let rest = self.text.get(self.at..)?;
        rest.starts_with(word).then_some(())?;
        self.at += word.len();
        Some(Content::Word)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_here = self.peek() == Some(byte);
        self.at += usize::from(is_here);
        is_here
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }
}
