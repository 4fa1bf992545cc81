//! A config text as it may be shown: where a byte stands, and the line around it.
//!
//! Lines are found by an index: a file of ten thousand routes can have as many mistakes.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Excerpt, Problem};

/// A longer line is not shown: nobody could read it.
const LONGEST_LINE: usize = 1000;

/// A text whose secrets are masked, and its name.
pub(crate) struct Sheet {
    path: PathBuf,
    text: String,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl Sheet {
    /// A text to point into. Its secrets have been masked.
    pub(crate) fn new(path: &Path, text: String) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            path: path.to_owned(),
            starts: std::iter::once(0).chain(ends).collect(),
            text,
        }
    }

    /// The file, as it was named.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A problem at a byte range. One that is out of bounds or splits a character is moved to the
    /// nearest that does not; one over several lines ends with its first line.
    pub(crate) fn problem(&self, span: Range<usize>, message: impl Into<String>) -> Problem {
        let start = self.text.floor_char_boundary(span.start);
        let (line, column) = self.position(start);
        let begin = self.starts.get(line - 1).copied().unwrap_or_default();
        let rest = self.text.get(begin..).unwrap_or_default();
        let shown = rest.split(['\n', '\r']).next().unwrap_or_default();
        // Blank where a comment was.
        let shown = shown.trim_end();
        let from = (start - begin).min(shown.len());
        let to = self.text.ceil_char_boundary(span.end).max(start) - begin;
        let mut problem = Problem::nowhere(&self.path, message);
        (problem.line, problem.column) = (line, column);
        problem.excerpt = (shown.len() <= LONGEST_LINE).then(|| Excerpt {
            line: shown.to_owned(),
            span: from..to.min(shown.len()),
        });
        problem
    }

    /// Line and column in characters, both from 1.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at);
        let begin = self.starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(begin..at).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}
