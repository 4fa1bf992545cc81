//! One spelling for all JSON texts that say the same: order of fields, number forms, escapes and
//! white space are no difference; text stays exact, down to halves of surrogate pairs.
//!
//! The encoding is prefix-free, so different values have different encodings. Time and memory are
//! linear in the text: an object of more than [`INLINE_BYTES`] stands in its parent by its digest,
//! so sorting moves no byte more often than a few dozen times. Below [`MAX_DEPTH`] a value stands as
//! it was written: never a wrong match, at worst a miss.

use sha2::{Digest, Sha256};

use crate::api::json::{self, Unit};

/// Largest encoding of an object that is written out in its parent.
const INLINE_BYTES: usize = 256;
/// Deepest level that is put into canonical form.
const MAX_DEPTH: usize = 96;

/// Appends the canonical form of a valid JSON value.
pub(crate) fn encode(out: &mut Vec<u8>, value: &str) {
    Encoder { text: value, at: 0 }.value(out, 0);
}

/// Goes through a text that is known to be valid JSON. On one that is not it gives some bytes, and
/// ends.
struct Encoder<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Encoder<'a> {
    fn value(&mut self, out: &mut Vec<u8>, depth: usize) {
        self.skip_space();
        if depth >= MAX_DEPTH && matches!(self.peek(), Some(b'{' | b'[')) {
            let start = self.at;
            self.skip_nested();
            return sized(out, b'R', self.slice(start).as_bytes());
        }
        match self.peek() {
            Some(b'{') => self.object(out, depth),
            Some(b'[') => self.array(out, depth),
            Some(b'"') => string(out, self.literal()),
            Some(b't') => self.word(out, b'T', 4),
            Some(b'f') => self.word(out, b'F', 5),
            Some(b'n') => self.word(out, b'N', 4),
            _ => {
                let start = self.at;
                let is_number =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                while self.bytes().get(self.at).is_some_and(is_number) {
                    self.at += 1;
                }
                number(out, self.slice(start));
                // Whatever stands here in a text that is not JSON is stepped over.
                self.at += usize::from(start == self.at && self.at < self.text.len());
            }
        }
    }

    /// Members sorted by key. Duplicates all stay, in their order: an upstream gets them as they
    /// came, and which of them it takes is its own affair.
    fn object(&mut self, out: &mut Vec<u8>, depth: usize) {
        let start = out.len();
        out.push(b'{');
        let mut members: Vec<(Vec<u8>, std::ops::Range<usize>)> = Vec::new();
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'"') => {
                    let mut key = Vec::new();
                    string(&mut key, self.literal());
                    self.skip_space();
                    self.at += usize::from(self.peek() == Some(b':'));
                    let begin = out.len();
                    out.extend_from_slice(&key);
                    self.value(out, depth + 1);
                    members.push((key, begin..out.len()));
                }
                other => {
                    self.at += usize::from(other == Some(b'}'));
                    break;
                }
            }
        }
        if !members.is_sorted_by_key(|(key, _)| key) {
            members.sort_by(|(one, _), (next, _)| one.cmp(next));
            let mut sorted = Vec::with_capacity(out.len() - start);
            for (_, range) in members {
                sorted.extend_from_slice(out.get(range).unwrap_or_default());
            }
            out.truncate(start + 1);
            out.extend_from_slice(&sorted);
        }
        out.push(b'}');
        if out.len() - start > INLINE_BYTES {
            let digest = Sha256::digest(out.get(start..).unwrap_or_default());
            out.truncate(start);
            out.push(b'D');
            out.extend_from_slice(&digest);
        }
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) {
        out.push(b'[');
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    break;
                }
                Some(_) => self.value(out, depth + 1),
                None => break,
            }
        }
        out.push(b']');
    }

    fn word(&mut self, out: &mut Vec<u8>, tag: u8, length: usize) {
        out.push(tag);
        self.at = (self.at + length).min(self.text.len());
    }

    /// The string literal that begins here, quotes included.
    fn literal(&mut self) -> &'a str {
        let start = self.at;
        self.at += 1;
        while let Some(next) = memchr::memchr2(b'"', b'\\', self.rest()) {
            self.at += next;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return self.slice(start);
            }
            // The backslash, and what it escapes.
            self.at += 2;
        }
        self.at = self.text.len();
        self.slice(start)
    }

    /// Steps over the object or array that begins here, however deep it is.
    fn skip_nested(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.literal();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// From `start` to here.
    fn slice(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes().get(self.at..).unwrap_or_default()
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }
}

/// A tag, a length, and bytes.
fn sized(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A string by its decoded bytes; half a surrogate pair by the three bytes that UTF-8 would give it,
/// which no text has.
fn string(out: &mut Vec<u8>, literal: &str) {
    let inside = json::inside(literal);
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return sized(out, b'S', inside.as_bytes());
    }
    let mut text = Vec::with_capacity(inside.len());
    for (unit, _) in json::units(literal) {
        match unit {
            Unit::Run(run) => text.extend_from_slice(run.as_bytes()),
            Unit::Char(c) => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Lone(half) => {
                let [high, low] = half.to_be_bytes();
                let middle = 0x80 | (high & 0x0f) << 2 | low >> 6;
                text.extend_from_slice(&[0xe0 | high >> 4, middle, 0x80 | low & 0x3f]);
            }
        }
    }
    sized(out, b'S', &text);
}

/// A number by its sign, its digits without zeros at either end, and the power of ten of the last
/// one. Exact for any length; a power that does not fit stands as it was written.
fn number(out: &mut Vec<u8>, text: &str) {
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, power) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        // Zero, with whatever sign and power.
        return out.extend_from_slice(b"#+0;");
    }
    let digits = significant.trim_end_matches('0');
    let shift = i64::try_from(significant.len() - digits.len())
        .ok()
        .zip(i64::try_from(fraction.len()).ok());
    let power = power
        .parse::<i64>()
        .ok()
        .zip(shift)
        .and_then(|(power, (trailing, fraction))| {
            power.checked_add(trailing)?.checked_sub(fraction)
        });
    let Some(power) = power else {
        return sized(out, b'P', text.as_bytes());
    };
    out.push(b'#');
    out.push(if is_negative { b'-' } else { b'+' });
    out.extend_from_slice(digits.as_bytes());
    out.push(b'e');
    out.extend_from_slice(power.to_string().as_bytes());
    out.push(b';');
}
