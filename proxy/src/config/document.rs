//! A TOML text as JSON, with the place of every key and value.
//!
//! Places are kept by JSON Pointer, the form in which the schema's validator and plugins report.
//! Strings are substituted on the way (see [`super::substitute`]); which ones is remembered, so
//! that their values can be kept out of everything that is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::substitute::{Source, Substitution};

/// Fields whose value is a secret even when it is written in the file itself.
pub(crate) const SECRET_FIELDS: [&str; 5] =
    ["api_key", "key", "key_sha256", "tenant_secret", "token"];

/// A parsed config text.
pub(crate) struct Document {
    /// The file, as it was named.
    pub(crate) path: PathBuf,
    /// The text as excerpts show it: secrets that are written in it are masked.
    pub(crate) shown: Arc<str>,
    /// Its content, substituted.
    pub(crate) json: Value,
    /// Files that were read for substitutions, or could not be.
    pub(crate) files: Vec<PathBuf>,
    /// Pointers of the values that came from a substitution.
    pub(crate) substituted: BTreeSet<String>,
    /// Pointers of the values that could not be read; their JSON value means nothing.
    pub(crate) unreadable: BTreeSet<String>,
    /// What substitutions gave, long enough to be recognised in a text.
    values: Vec<String>,
    places: BTreeMap<String, Place>,
}

/// Where a field stands.
struct Place {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

impl Document {
    /// Reads a text. Substitutions that failed and values that JSON cannot hold are in the list;
    /// the document is usable beside them.
    ///
    /// # Errors
    /// The syntax errors.
    pub(crate) fn parse(
        text: &str,
        path: &Path,
        source: &Source<'_>,
    ) -> Result<(Self, Vec<Problem>), Problems> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let shown = mask_lines(text);
            let problems = errors.iter().map(|error| {
                let span = error.span().unwrap_or(0..0);
                Problem::at(path, &shown, span, format!("not TOML: {}", error.message()))
            });
            let problems = problems.collect();
            return Err(Problems::new(shown.into(), problems));
        }
        let mut reader = Reader {
            text,
            source,
            faults: Vec::new(),
            document: Self {
                path: path.to_owned(),
                shown: "".into(),
                json: Value::Null,
                files: Vec::new(),
                substituted: BTreeSet::new(),
                unreadable: BTreeSet::new(),
                values: Vec::new(),
                places: BTreeMap::new(),
            },
            masked: Vec::new(),
        };
        reader.place("", None, 0..0);
        reader.document.json = reader.table("", table.get_ref());
        let mut document = reader.document;
        document.shown = mask(text, &reader.masked).into();
        let faults = reader.faults.into_iter();
        let problems = faults
            .map(|(pointer, span, message)| document.problem_at(&pointer, span, message))
            .collect();
        Ok((document, problems))
    }

    /// A problem at the value of a field, or of the nearest table around it that exists; when that
    /// is the whole file, at its beginning and without an excerpt.
    pub(crate) fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        let place = self.nearest(pointer);
        let mut problem = self.problem_at(pointer, place.value.clone(), message);
        if place.key.is_none() && place.value.is_empty() {
            problem.without_excerpt();
        }
        problem
    }

    /// A problem at the name of a field.
    pub(crate) fn problem_at_key(&self, pointer: &str, message: impl Into<String>) -> Problem {
        let place = self.nearest(pointer);
        let span = place.key.clone().unwrap_or(place.value.clone());
        self.problem_at(parent(pointer), span, message)
    }

    fn problem_at(&self, pointer: &str, span: Range<usize>, message: impl Into<String>) -> Problem {
        let field = self.field(pointer);
        let message = match field.is_empty() {
            true => message.into(),
            false => format!("{field}: {}", message.into()),
        };
        Problem::at(&self.path, &self.shown, span, message)
    }

    /// Line and column of a field, from 1.
    pub(crate) fn position(&self, pointer: &str) -> (usize, usize) {
        let problem = self.problem(pointer, "");
        (problem.line, problem.column)
    }

    /// Whether the file has this field.
    pub(crate) fn has(&self, pointer: &str) -> bool {
        self.places.contains_key(pointer)
    }

    /// Pointers of all fields below one, and of itself.
    pub(crate) fn below<'a>(&'a self, pointer: &'a str) -> impl Iterator<Item = &'a str> {
        self.places
            .range(pointer.to_owned()..)
            .map(|(below, _)| below.as_str())
            .take_while(move |below| below.starts_with(pointer))
            .filter(move |below| {
                let rest = below.strip_prefix(pointer).unwrap_or_default();
                rest.is_empty() || rest.starts_with('/')
            })
    }

    /// What must not be shown.
    pub(crate) fn secret_values(&self) -> &[String] {
        &self.values
    }

    /// A pointer as users write fields: `pools[0].backends[1].url`.
    pub(crate) fn field(&self, pointer: &str) -> String {
        let mut field = String::new();
        let mut at = Some(&self.json);
        for escaped in pointer.split('/').skip(1) {
            let name = escaped.replace("~1", "/").replace("~0", "~");
            if at.is_some_and(Value::is_array) {
                field.push_str(&format!("[{name}]"));
            } else {
                if !field.is_empty() {
                    field.push('.');
                }
                field.push_str(&bare_or_quoted(&name));
            }
            at = at.and_then(|value| value.pointer(&format!("/{escaped}")));
        }
        field
    }

    fn nearest(&self, pointer: &str) -> &Place {
        const START: &Place = &Place {
            key: None,
            value: 0..0,
        };
        let mut pointer = pointer;
        loop {
            match self.places.get(pointer) {
                Some(place) => return place,
                None if pointer.is_empty() => return START,
                None => pointer = parent(pointer),
            }
        }
    }
}

/// The pointer of the table or list around a field.
pub(crate) fn parent(pointer: &str) -> &str {
    pointer.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The pointer of a field in a table.
pub(crate) fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn bare_or_quoted(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match !name.is_empty() && name.bytes().all(is_bare) {
        true => name.to_owned(),
        false => format!("{name:?}"),
    }
}

/// Walks the parsed table once.
struct Reader<'a> {
    text: &'a str,
    source: &'a Source<'a>,
    document: Document,
    /// Pointer, place and words of what cannot be read.
    faults: Vec<(String, Range<usize>, String)>,
    masked: Vec<Range<usize>>,
}

impl Reader<'_> {
    fn place(&mut self, pointer: &str, key: Option<Range<usize>>, value: Range<usize>) {
        self.document
            .places
            .insert(pointer.to_owned(), Place { key, value });
    }

    fn table(&mut self, pointer: &str, table: &DeTable<'_>) -> Value {
        let mut object = Map::new();
        for (key, value) in table {
            let pointer = child(pointer, key.get_ref());
            self.place(&pointer, Some(key.span()), value.span());
            let is_secret = SECRET_FIELDS.contains(&key.get_ref().as_ref());
            if is_secret && let Some(text) = value.get_ref().as_str() {
                self.mask_literal(text, value.span());
            }
            object.insert(key.get_ref().to_string(), self.value(&pointer, value));
        }
        Value::Object(object)
    }

    fn array(&mut self, pointer: &str, array: &DeArray<'_>) -> Value {
        let items = array.iter().enumerate().map(|(index, value)| {
            let pointer = format!("{pointer}/{index}");
            self.place(&pointer, None, value.span());
            self.value(&pointer, value)
        });
        Value::Array(items.collect())
    }

    fn value(&mut self, pointer: &str, value: &Spanned<DeValue<'_>>) -> Value {
        let read = match value.get_ref() {
            DeValue::Table(table) => return self.table(pointer, table),
            DeValue::Array(array) => return self.array(pointer, array),
            DeValue::String(text) => return self.string(pointer, text, value.span()),
            DeValue::Boolean(boolean) => return Value::Bool(*boolean),
            DeValue::Integer(integer) => number(integer).ok_or("a number of at most 64 bits"),
            DeValue::Float(float) => float
                .as_str()
                .parse()
                .ok()
                .and_then(Number::from_f64)
                .ok_or("a finite number"),
            DeValue::Datetime(_) => Err("a string in quotes, no field takes a date"),
        };
        match read {
            Ok(number) => Value::Number(number),
            Err(expected) => {
                self.fault(pointer, value.span(), format!("expected {expected}"));
                Value::Null
            }
        }
    }

    fn string(&mut self, pointer: &str, text: &str, span: Range<usize>) -> Value {
        let Some(substitution) = Substitution::of(text, self.source) else {
            return Value::String(text.to_owned());
        };
        self.document.files.extend(substitution.files);
        if !substitution.values.is_empty() {
            self.document.substituted.insert(pointer.to_owned());
        }
        // A value of a byte or two protects nothing, and taking it out of texts would garble them.
        let secrets = substitution
            .values
            .into_iter()
            .filter(|value| value.len() > 2);
        self.document.values.extend(secrets);
        for (reference, message) in substitution.failures {
            let span = self.within(&span, &reference);
            self.fault(pointer, span, message);
        }
        Value::String(substitution.text)
    }

    fn fault(&mut self, pointer: &str, span: Range<usize>, message: String) {
        self.faults.push((pointer.to_owned(), span, message));
        self.document.unreadable.insert(pointer.to_owned());
    }

    /// Where a reference stands in a string literal; the literal itself when it is escaped there.
    fn within(&self, span: &Range<usize>, reference: &str) -> Range<usize> {
        let literal = self.text.get(span.clone()).unwrap_or_default();
        match literal.find(reference) {
            Some(at) => span.start + at..span.start + at + reference.len(),
            None => span.clone(),
        }
    }

    /// Masks a secret that is written in the file; one that refers to elsewhere may be shown.
    fn mask_literal(&mut self, text: &str, span: Range<usize>) {
        if !text.contains("${") {
            self.masked.push(span);
        }
    }
}

fn number(integer: &DeInteger<'_>) -> Option<Number> {
    i64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .map(Number::from)
}

/// Replaces the characters of ranges by marks of the same lengths, so that places behind them stay
/// true, in bytes and in characters.
fn mask(text: &str, ranges: &[Range<usize>]) -> String {
    const MARKS: [char; 5] = ['*', '*', '·', '•', '🞶'];
    let mut ranges = ranges.to_vec();
    ranges.sort_by_key(|range| range.start);
    let mut coming = ranges.into_iter().peekable();
    let mut masked_to = 0;
    let mut masked = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        while let Some(range) = coming.next_if(|range| range.start <= at) {
            masked_to = masked_to.max(range.end);
        }
        let is_shown = at >= masked_to || matches!(character, '\n' | '\r' | '"' | '\'');
        masked.push(match is_shown {
            true => character,
            false => MARKS.get(character.len_utf8()).copied().unwrap_or('*'),
        });
    }
    masked
}

/// Masks what stands behind the name of a secret field, line by line: for a text whose structure is
/// not known because it does not parse.
fn mask_lines(text: &str) -> String {
    let mut ranges = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        for field in SECRET_FIELDS {
            for (at, _) in line.match_indices(field) {
                let (before, rest) = line.split_at(at);
                let behind = rest.strip_prefix(field).unwrap_or_default().trim_start();
                let is_whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
                if let Some(value) = behind.strip_prefix('=')
                    && is_whole
                    && !rest.contains("${")
                {
                    let end = start + line.len();
                    ranges.push(end - value.trim_start().len()..end);
                }
            }
        }
        start += line.len();
    }
    mask(text, &ranges)
}
