//! Checks the shape of a document by the JSON Schema, so that every fault of shape comes at once.
//!
//! serde would stop at the first. The schema is made from the types that serde fills, so what
//! passes here, or was mended here, deserialises.

use std::sync::LazyLock;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::document::Document;
use super::problem::Problem;
use super::repair::{Guesses, Repair};
use super::schema::{self, Size, Time};
use super::wording::{self, Fault};

static SCHEMA: LazyLock<Value> = LazyLock::new(schema::json);

#[expect(clippy::expect_used, reason = "no input goes in, and a test builds it")]
static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    jsonschema::options()
        .with_format(schema::TIME_FORMAT, |text: &str| Time::parse(text).is_ok())
        .with_format(schema::SIZE_FORMAT, |text: &str| Size::parse(text).is_ok())
        .should_validate_formats(true)
        .build(&SCHEMA)
        .expect("the schema of our own types compiles")
});

/// What the schema says of a document.
pub(crate) struct Shape {
    /// Every fault of shape: unknown field, missing field, wrong type, value out of range.
    pub(crate) problems: Vec<Problem>,
    /// The document in the right shape, with stand-ins for what is wrong.
    pub(crate) json: Value,
    /// Where these stand.
    pub(crate) guesses: Guesses,
}

/// Checks a document by the schema, and mends what it does not allow.
pub(crate) fn check(document: &Document) -> Shape {
    let mut problems = Vec::new();
    let mut formats = Vec::new();
    let mut repair = Repair::new(document, &SCHEMA);
    for error in VALIDATOR.iter_errors(&document.json) {
        repair.mend(&error, wording::part(&error, &SCHEMA));
        let pointer = error.instance_path().as_str();
        if document.unreadable.contains(pointer) {
            continue; // it has its own problem already
        }
        let is_format = matches!(
            error.kind(),
            ValidationErrorKind::Format { .. } | ValidationErrorKind::Pattern { .. }
        );
        if is_format {
            // A format repeats its pattern in words: one of the two is enough.
            if formats.iter().any(|seen| seen == pointer) {
                continue;
            }
            formats.push(pointer.to_owned());
        }
        let faults = wording::faults(&error, &SCHEMA).into_iter();
        problems.extend(faults.map(|fault| at(document, fault)));
    }
    Shape {
        problems,
        json: repair.json,
        guesses: repair.guesses,
    }
}

/// A fault where it stands in the file.
fn at(document: &Document, fault: Fault) -> Problem {
    let mut problem = match fault.is_name {
        true => document.problem_at_key(&fault.pointer, fault.message),
        false => document.problem(&fault.pointer, fault.message),
    };
    if let Some(label) = fault.label {
        problem.label(label);
    }
    if let Some(help) = fault.help {
        problem.help(help);
    }
    problem
}
