//! What keeps a text from being TOML, in the words of a config's reader.
//!
//! A parser that goes on after an error reports what follows from it, too: of each line the first
//! error is told, and of a table that is opened twice its header alone.

use std::ops::Range;
use std::path::Path;

use toml::de::Error;

use super::problem::{Problem, Problems};
use super::secrets;
use super::sheet::Sheet;

/// The problems of a text that does not parse.
pub(crate) fn problems(text: &str, path: &Path, errors: &[Error]) -> Problems {
    let sheet = Sheet::new(path, secrets::mask_unparsed(text));
    let mut found: Vec<Problem> = Vec::new();
    // Where the table ends that was opened twice: its keys are no news.
    let mut passed_over = 0;
    let mut errors: Vec<(Range<usize>, &str)> = errors
        .iter()
        .map(|error| (error.span().unwrap_or_default(), error.message()))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, message) in errors {
        let is_twice = message == "duplicate key";
        if is_twice && span.start < passed_over {
            continue;
        }
        if is_twice && line_before(text, span.start).trim_start().starts_with('[') {
            passed_over = next_header(text, span.end);
        }
        let problem = problem(text, &sheet, span, message);
        if found.last().is_none_or(|last| last.line != problem.line) {
            found.push(problem);
        }
    }
    Problems::new(found)
}

/// The problem of a text that is not UTF-8.
pub(crate) fn not_utf8(bytes: &[u8], path: &Path, valid: usize) -> Problem {
    // UTF-16 begins with a mark (RFC 2781 §3.2), as Windows writes it.
    if let Some([0xff, 0xfe] | [0xfe, 0xff]) = bytes.get(..2) {
        return Problem::nowhere(path, "not UTF-8 but UTF-16: save the file as UTF-8");
    }
    let start = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let byte = bytes.get(valid).copied().unwrap_or_default();
    let message = format!("not UTF-8: byte 0x{byte:02x}; save the file as UTF-8");
    let mut problem = Sheet::new(path, start.into_owned()).problem(valid..valid, message);
    problem.without_excerpt();
    problem
}

fn problem(text: &str, sheet: &Sheet, span: Range<usize>, message: &str) -> Problem {
    let rest = text.get(span.start..).unwrap_or_default();
    let at = rest.chars().next().unwrap_or('\n');
    let before = line_before(text, span.start);
    if is_invisible(at) {
        let message = format!("not TOML: an invisible character, U+{:04X}", u32::from(at));
        let mut problem = sheet.problem(span, message);
        problem.help("take it out");
        return problem;
    }
    let ends_string = ["string, expected `\"`", "string, expected `'`"];
    let told = if message == "duplicate key" {
        let name = text.get(span.clone()).unwrap_or_default();
        format!("`{name}` is there already")
    } else if before.trim_end().ends_with('=') && at.is_whitespace() {
        "a value is missing: it stands on the line of its key".to_owned()
    } else if message.starts_with("string values must be quoted") {
        "text must stand in quotes".to_owned()
    } else if ends_string.iter().any(|end| message.contains(end)) {
        "a string without its end: close it with a quote".to_owned()
    } else {
        message.to_owned()
    };
    let mut problem = sheet.problem(span, format!("not TOML: {told}"));
    if let Some(help) = help(message, before, rest) {
        problem.help(help);
    }
    problem
}

/// What to do, where it can be guessed.
fn help(message: &str, before: &str, rest: &str) -> Option<&'static str> {
    if message == "duplicate key" {
        Some(
            "a key stands once in its table, and a table is opened once; [[name]] adds an entry \
             to a list",
        )
    } else if message.starts_with("missing escaped value") {
        Some("write two backslashes for one, or put the text in single quotes")
    } else if rest.starts_with(':') || before.ends_with(':') {
        Some("TOML writes `key = value`, and `[section]` on a line of its own")
    } else if is_merge_mark(before, rest) {
        Some("a merge has left its marks: choose one side")
    } else {
        None
    }
}

fn is_merge_mark(before: &str, rest: &str) -> bool {
    let start = if before.is_empty() { rest } else { before };
    // After the first sign of a row the rest of it follows.
    let signs = ["<<<", ">>>"].iter().any(|signs| start.starts_with(signs));
    signs || (start.starts_with('=') && rest.starts_with("=="))
}

/// Control characters, and marks that no editor shows: of byte order, of width zero.
fn is_invisible(character: char) -> bool {
    let is_mark = matches!(
        character,
        '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}' | '\u{2029}'
    );
    is_mark || (character.is_control() && !matches!(character, '\n' | '\r' | '\t'))
}

fn line_before(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    before.rsplit('\n').next().unwrap_or_default()
}

/// Where the next line begins that opens a table.
fn next_header(text: &str, from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.find("\n[").map_or(text.len(), |at| from + at + 1)
}
