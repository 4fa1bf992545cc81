//! A TOML text as JSON, with the place of every key and value.
//!
//! Places are kept by JSON Pointer, the form in which the schema's validator and plugins report.
//! Strings are substituted on the way (see [`super::substitute`]); which ones is remembered, so
//! that their values can be kept out of everything that is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::secrets::{self, Secrets, is_secret};
use super::sheet::Sheet;
use super::substitute::{Source, Substitution};
use super::syntax;

/// Shorter literals than this are words that messages use.
const LEAST_LITERAL: usize = 8;

/// A parsed config text.
pub(crate) struct Document {
    /// The text as excerpts show it.
    sheet: Sheet,
    /// Its content, substituted.
    pub(crate) json: Value,
    /// Files that were read for substitutions, or could not be.
    pub(crate) files: Vec<PathBuf>,
    /// Pointers of the values that came from a substitution.
    pub(crate) substituted: BTreeSet<String>,
    /// Pointers of the values that could not be read; their JSON value means nothing.
    pub(crate) unreadable: BTreeSet<String>,
    /// Values that must not be shown, by their pointers.
    values: Vec<(String, String)>,
    secrets: OnceLock<Secrets>,
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
            return Err(syntax::problems(text, path, &errors));
        }
        let mut reader = Reader {
            text,
            source,
            faults: Vec::new(),
            document: Self {
                sheet: Sheet::new(path, String::new()),
                json: Value::Null,
                files: Vec::new(),
                substituted: BTreeSet::new(),
                unreadable: BTreeSet::new(),
                values: Vec::new(),
                secrets: OnceLock::new(),
                places: BTreeMap::new(),
            },
            secret: Vec::new(),
            literals: Vec::new(),
        };
        reader.place("", None, 0..0);
        reader.document.json = reader.table("", table.get_ref());
        let mut document = reader.document;
        reader.literals.sort_by_key(|range| range.start);
        let shown = secrets::mask(text, reader.secret, &reader.literals);
        document.sheet = Sheet::new(path, shown);
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
        self.sheet.problem(span, message)
    }

    /// The file, as it was named.
    pub(crate) fn path(&self) -> &Path {
        self.sheet.path()
    }

    /// The line of a field, from 1.
    pub(crate) fn line(&self, pointer: &str) -> usize {
        self.sheet.position(self.nearest(pointer).value.start).0
    }

    /// Whether the file has this field.
    pub(crate) fn has(&self, pointer: &str) -> bool {
        self.places.contains_key(pointer)
    }

    /// What must not be shown.
    pub(crate) fn secrets(&self) -> &Secrets {
        let values = self.values.iter().map(|(_, value)| value.as_str());
        self.secrets.get_or_init(|| Secrets::new(values))
    }

    /// What must not be shown of a field and all below it.
    pub(crate) fn secrets_of(&self, pointer: &str) -> Secrets {
        let is_within = |at: &str| {
            let rest = at.strip_prefix(pointer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let values = self.values.iter().filter(|(at, _)| is_within(at));
        Secrets::new(values.map(|(_, value)| value.as_str()))
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
    /// Values that are secret by their name.
    secret: Vec<Range<usize>>,
    /// Keys and strings.
    literals: Vec<Range<usize>>,
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
            self.literals.push(key.span());
            if is_secret(key.get_ref()) || pointer.contains("/match/header/") {
                self.keep_secret(&pointer, value);
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
            DeValue::Integer(integer) => number(integer).ok_or("a whole number of at most 64 bits"),
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
        self.literals.push(span.clone());
        let Some(substitution) = Substitution::of(text, self.source) else {
            return Value::String(text.to_owned());
        };
        self.document.files.extend(substitution.files);
        if !substitution.values.is_empty() {
            self.document.substituted.insert(pointer.to_owned());
        }
        let values = substitution.values.into_iter();
        let values = values.map(|value| (pointer.to_owned(), value));
        self.document.values.extend(values);
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

    /// Remembers a value that is secret by its name, of whatever type.
    fn keep_secret(&mut self, pointer: &str, value: &Spanned<DeValue<'_>>) {
        self.secret.push(value.span());
        // What stands between references; their names may be shown.
        let literal = value.get_ref().as_str().unwrap_or_default();
        let pieces = literal.split("${").enumerate().map(|(at, piece)| {
            let behind = piece.split_once('}').map(|(_, behind)| behind);
            if at == 0 {
                piece
            } else {
                behind.unwrap_or_default()
            }
        });
        let long = pieces.filter(|piece| piece.len() >= LEAST_LITERAL);
        let kept = long.map(|piece| (pointer.to_owned(), piece.to_owned()));
        self.document.values.extend(kept);
    }
}

fn number(integer: &DeInteger<'_>) -> Option<Number> {
    i64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .map(Number::from)
}
