//! What part of a message asks, and what part is only material.
//!
//! People write what they want first or last; between stands what it is to be done with: an article,
//! a quotation, the words to translate. Words of the material say little about the request, so they
//! count for little.

use std::ops::Range;

/// A message of so many characters is all question.
const SHORT_CHARS: usize = 360;
/// So many characters at the beginning of a longer one ask, and half as many at its end.
const EDGE_CHARS: usize = 240;
/// A colon this near to the beginning may end the question.
const COLON_CHARS: usize = 160;
/// The first words: where an order names what is to be done.
const OPENING_CHARS: usize = 20;
/// What a word that begins there counts.
const OPENING_SHARE: f32 = 1.4;
/// What a word of the material counts, against 1 for one of the question.
const MATERIAL_SHARE: f32 = 0.25;
/// What a word between quotation marks counts.
const QUOTED_SHARE: f32 = 0.3;

/// Lower case, runs of white space as one space or, where a line ends, one line break; typographic
/// apostrophes as plain ones. Keywords and texts meet in this form.
pub(crate) fn normalized(text: &str) -> String {
    // Byte by byte where it can be: nearly every text is nearly all ASCII.
    let mut out: Vec<u8> = Vec::with_capacity(text.len() + 8);
    // The white space since the last letter; 0: none.
    let mut space = 0;
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let c = match byte.is_ascii() {
            true => char::from(byte),
            false => text
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .unwrap_or_default(),
        };
        at += c.len_utf8();
        if c.is_whitespace() {
            space = if c == '\n' || space == b'\n' {
                b'\n'
            } else {
                b' '
            };
            continue;
        }
        if space != 0 {
            if !out.is_empty() {
                out.push(space);
            }
            space = 0;
        }
        match c {
            _ if c.is_ascii() => out.push(byte.to_ascii_lowercase()),
            '\u{2019}' => out.push(b'\''),
            _ => c
                .to_lowercase()
                .for_each(|c| out.extend(c.encode_utf8(&mut [0; 4]).as_bytes())),
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// The zones of one normalized message.
#[derive(Debug)]
pub(crate) struct Zones {
    /// The first words end here.
    opening_end: usize,
    /// The question at the beginning ends here.
    head_end: usize,
    /// The question at the end begins here.
    tail_start: usize,
    quoted: Vec<Range<usize>>,
    /// True when material was found.
    pub(crate) has_material: bool,
}

impl Zones {
    pub(crate) fn of(text: &str) -> Self {
        let colon = material_colon(text);
        let is_long = char_start(text, SHORT_CHARS) < text.len();
        let head_end = match colon {
            Some(colon) => colon,
            None if is_long => char_start(text, EDGE_CHARS),
            None => text.len(),
        };
        let last_line = text
            .rfind('\n')
            .map(|at| at + 1)
            .filter(|at| *at > head_end);
        let tail_start = match last_line {
            Some(at) => at.max(char_start_from_end(text, EDGE_CHARS)),
            None if is_long && colon.is_none() => char_start_from_end(text, EDGE_CHARS / 2),
            None => text.len(),
        };
        Self {
            opening_end: char_start(text, OPENING_CHARS),
            head_end,
            tail_start: tail_start.max(head_end),
            quoted: quotations(text.get(..head_end).unwrap_or_default()),
            has_material: is_long || colon.is_some(),
        }
    }

    /// What a word that begins at this byte counts: 0 to 1.4.
    pub(crate) fn share(&self, at: usize) -> f32 {
        if at >= self.head_end && at < self.tail_start {
            MATERIAL_SHARE
        } else if self.quoted.iter().any(|quoted| quoted.contains(&at)) {
            QUOTED_SHARE
        } else if at < self.opening_end {
            OPENING_SHARE
        } else {
            1.0
        }
    }

    /// True for a byte of the question.
    pub(crate) fn asks(&self, at: usize) -> bool {
        at < self.head_end || at >= self.tail_start
    }
}

/// The colon that ends the question, when more than a word follows: "Translate: …", "翻译：…".
fn material_colon(text: &str) -> Option<usize> {
    text.char_indices()
        .take(COLON_CHARS)
        .filter(|(_, c)| matches!(c, ':' | '：'))
        .map(|(at, c)| at + c.len_utf8())
        .find(|end| {
            let rest = text.get(*end..).unwrap_or_default();
            let is_sign = rest.starts_with(char::is_whitespace)
                || text.get(..*end).is_some_and(|t| t.ends_with('：'));
            is_sign && rest.trim_start().len() >= 12 && *end > 4
        })
}

/// Where the character with this number begins, or the end of a shorter text.
fn char_start(text: &str, number: usize) -> usize {
    text.char_indices()
        .nth(number)
        .map_or(text.len(), |(at, _)| at)
}

/// Where the last so many characters begin.
fn char_start_from_end(text: &str, number: usize) -> usize {
    text.char_indices()
        .rev()
        .take(number)
        .last()
        .map_or(text.len(), |(at, _)| at)
}

/// Spans between quotation marks of one kind, marks included.
fn quotations(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, char)> = None;
    for (at, c) in text.char_indices() {
        match open {
            Some((start, close)) if c == close => {
                found.push(start..at + c.len_utf8());
                open = None;
            }
            Some(_) => {}
            None => {
                let close = match c {
                    '"' => Some('"'),
                    '\u{201c}' | '\u{201e}' => Some('\u{201d}'),
                    '«' => Some('»'),
                    '「' => Some('」'),
                    '『' => Some('』'),
                    '`' => Some('`'),
                    // An apostrophe within a word opens nothing.
                    '\'' if text
                        .get(..at)
                        .is_none_or(|t| !t.ends_with(char::is_alphanumeric)) =>
                    {
                        Some('\'')
                    }
                    _ => None,
                };
                open = close.map(|close| (at, close));
            }
        }
    }
    found
}
