//! Facts about a request that are not words: the kinds of its parts, tools, numbers, code, the shape
//! of its texts. A label's table gives each a weight.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use sluicegate_plugin::{Origin, Part, Request, Role};

use crate::zones::Zones;

/// A fact, by its name in the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The last user message has a picture.
    Image,
    /// It has sound.
    Audio,
    /// It has a video.
    Video,
    /// It has a file of another kind.
    File,
    /// The client offers tools.
    Tools,
    /// The last user message uses a word of an offered tool's name.
    ToolMentioned,
    /// The conversation goes on behind a tool's answer.
    ToolResults,
    /// It has a code block, or lines that read as code.
    Code,
    /// It has numbers: 1 for four or more, less for fewer.
    Numbers,
    /// It asks a question: its own words end in a question mark.
    Question,
    /// It brings a text along, behind a colon or at length.
    Material,
    /// The request brings documents along: context entries, document tags, numbered passages.
    Documents,
    /// It has at most 240 bytes.
    Short,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::File => "file",
            Self::Tools => "tools",
            Self::ToolMentioned => "tool_mentioned",
            Self::ToolResults => "tool_results",
            Self::Code => "code",
            Self::Numbers => "numbers",
            Self::Question => "question",
            Self::Material => "material",
            Self::Documents => "documents",
            Self::Short => "short",
        })
    }
}

/// All facts about one request.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    present: BTreeSet<Signal>,
    numbers: f32,
}

impl Signals {
    pub(crate) fn of(request: &Request, question: &str, zones: &Zones) -> Self {
        let mut signals = Self {
            numbers: numbers(question, zones),
            ..Self::default()
        };
        let mut put = |signal, is_present| {
            if is_present {
                signals.present.insert(signal);
            }
        };
        for part in request
            .last_user_message()
            .into_iter()
            .flat_map(|message| &message.parts)
        {
            match part {
                Part::Image(_) => put(Signal::Image, true),
                Part::Audio(_) => put(Signal::Audio, true),
                Part::Video(_) => put(Signal::Video, true),
                Part::File(_) => put(Signal::File, true),
                Part::Text(_) | Part::ToolCall(_) | Part::ToolResult(_) | Part::Other(_) => {}
            }
        }
        let message = request.last_user_message();
        let texts = message.into_iter().flat_map(|message| message.texts());
        let texts = texts.map(|(_, text)| text.head.as_str());
        put(Signal::Tools, !request.tools.is_empty());
        put(
            Signal::ToolMentioned,
            mentions_tool(&request.tools, question),
        );
        put(
            Signal::ToolResults,
            request
                .messages
                .last()
                .is_some_and(|m| m.role == Role::Tool),
        );
        put(Signal::Code, is_code(texts));
        put(Signal::Question, asks(question, zones));
        put(Signal::Material, zones.has_material);
        put(Signal::Documents, has_documents(request));
        put(Signal::Short, question.len() <= 240);
        signals
    }

    /// 0 (absent) to 1.
    pub(crate) fn value(&self, signal: Signal) -> f32 {
        match signal {
            Signal::Numbers => self.numbers,
            other if self.present.contains(&other) => 1.0,
            _ => 0.0,
        }
    }
}

/// A quarter for each number of the question, up to four; less for one of the material.
fn numbers(text: &str, zones: &Zones) -> f32 {
    let mut sum = 0.0;
    let mut before = b' ';
    for (at, byte) in text.bytes().enumerate() {
        // `x2` and `utf8` are names; `2x` holds a number, and `1.5` one, not two.
        if byte.is_ascii_digit()
            && !before.is_ascii_alphanumeric()
            && !matches!(before, b'.' | b',' | b'_' | b'-')
        {
            sum += 0.25 * zones.share(at).min(1.0);
            if sum >= 1.0 {
                return 1.0;
            }
        }
        before = byte;
    }
    sum
}

fn asks(question: &str, zones: &Zones) -> bool {
    let asks = |mark: char| question.match_indices(mark).any(|(at, _)| zones.asks(at));
    asks('?') || !question.is_ascii() && (asks('？') || asks('؟'))
}

/// True when a word of four letters or more of a tool's name stands in the text, in any form that
/// begins like it.
fn mentions_tool(tools: &[String], question: &str) -> bool {
    let mut words = BTreeSet::new();
    for tool in tools {
        let mut word = String::new();
        for c in tool.chars() {
            let is_border =
                !c.is_alphanumeric() || c.is_uppercase() && word.ends_with(char::is_lowercase);
            if is_border {
                words.insert(std::mem::take(&mut word));
            }
            if c.is_alphanumeric() {
                word.extend(c.to_lowercase());
            }
        }
        words.insert(word);
    }
    words.retain(|word| word.chars().count() >= 4);
    if words.is_empty() {
        return false;
    }
    question.split(|c: char| !c.is_alphanumeric()).any(|word| {
        let stem = word.get(..word.floor_char_boundary(5)).unwrap_or_default();
        stem.len() >= 4 && words.iter().any(|known| known.starts_with(stem))
    })
}

/// Lines that are looked at, and the longest one: prose puts a paragraph on a line.
const MAX_CODE_LINES: usize = 40;
const MAX_CODE_LINE_BYTES: usize = 160;
/// How lines of code begin that nobody writes in prose.
const CODE_OPENINGS: [&str; 8] = [
    "def ",
    "fn ",
    "func ",
    "#include",
    "public static ",
    ">>> ",
    "SELECT ",
    "<?php",
];
/// How they begin where more must tell: a bracket or an assignment.
const LIKELY_OPENINGS: [&str; 12] = [
    "class ", "import ", "from ", "const ", "let ", "var ", "return ", "for ", "for(", "if (",
    "while", "assert ",
];
const CODE_ENDINGS: [&str; 6] = [";", "{", "}", "):", "]:", ");"];
const CODE_MARKS: [&str; 10] = ["()", "=>", "->", "==", "!=", "+=", "::", "++;", "&&", "])"];

/// A code fence, a line that can be nothing else, two lines that read as code, or one that stands
/// nearly alone.
fn is_code<'a>(texts: impl Iterator<Item = &'a str>) -> bool {
    texts.into_iter().any(is_code_text)
}

fn is_code_text(text: &str) -> bool {
    // Looked for by one byte: that is a search many times as fast.
    if text
        .match_indices('`')
        .any(|(at, _)| text.get(at..).is_some_and(|t| t.starts_with("```")))
    {
        return true;
    }
    let (mut code, mut lines) = (0, 0);
    let is_short = |line: &&str| !line.is_empty() && line.len() <= MAX_CODE_LINE_BYTES;
    for line in text
        .lines()
        .map(str::trim)
        .filter(is_short)
        .take(MAX_CODE_LINES)
    {
        lines += 1;
        let begins = |openings: &[&str]| openings.iter().any(|opening| line.starts_with(opening));
        if begins(&CODE_OPENINGS) && line.contains(['(', '*', '<', '=']) {
            return true;
        }
        let is_code = begins(&LIKELY_OPENINGS) && line.contains(['(', '=', '{', '*'])
            || CODE_ENDINGS.iter().any(|ending| line.ends_with(ending))
            || CODE_MARKS.iter().any(|mark| line.contains(mark));
        code += usize::from(is_code);
    }
    code >= 2 || code == 1 && lines <= 2
}

/// A lone `[1]` before less than this is a footnote.
const NUMBERED_PASSAGE_BYTES: usize = 600;

/// How retrieval marks documents.
const DOCUMENT_TAGS: [&str; 7] = [
    "<doc",
    "<context",
    "<passage",
    "<chunk",
    "<source",
    "<search_result",
    "<article",
];

/// Context entries of the request itself, a document tag, or numbered passages, anywhere.
fn has_documents(request: &Request) -> bool {
    request
        .messages
        .iter()
        .flat_map(|message| &message.parts)
        .any(|part| match part {
            Part::Text(text) => text.origin == Origin::Chunk || brings_documents(&text.head),
            Part::Image(_)
            | Part::Audio(_)
            | Part::Video(_)
            | Part::File(_)
            | Part::ToolCall(_)
            | Part::ToolResult(_)
            | Part::Other(_) => false,
        })
}

fn brings_documents(text: &str) -> bool {
    let after = |(at, _)| text.get(at..).unwrap_or_default();
    let is_tag = |rest: &str| DOCUMENT_TAGS.iter().any(|tag| rest.starts_with(tag));
    let is_first = |rest: &str| {
        rest.starts_with("[1] ") && (rest.contains("\n[2] ") || rest.len() > NUMBERED_PASSAGE_BYTES)
    };
    text.match_indices('<').map(after).any(is_tag)
        || text.match_indices('[').map(after).any(is_first)
}
