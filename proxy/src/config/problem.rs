//! What is wrong with a config, and where: collected, then shown all at once.
//!
//! A problem points into the text of the file by byte range. The text that excerpts are cut from
//! has its secrets masked, and messages are redacted (see [`super::secrets`]).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::secrets::Secrets;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file, as it was named; of a problem outside of any file, where that is.
    pub(crate) path: PathBuf,
    /// From 1; 0 when the problem has no line.
    pub(crate) line: usize,
    /// In characters, from 1; 0 when the problem has no line.
    pub(crate) column: usize,
    /// Field path, what is wrong, what was expected.
    pub(crate) message: String,
    /// Stands beside the caret.
    label: Option<String>,
    /// What to do, where it needs a sentence of its own.
    help: Option<String>,
    span: Option<Range<usize>>,
}

impl Problem {
    /// A problem without a place in a text: a file that cannot be read, a variable's value.
    pub(crate) fn nowhere(path: &Path, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
            label: None,
            help: None,
            span: None,
        }
    }

    /// A problem at a byte range of `text`. A range that is out of bounds or splits a character is
    /// moved to the nearest one that does not; one over several lines ends with its first line.
    pub(crate) fn at(
        path: &Path,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        let start = text.floor_char_boundary(span.start);
        let end = text.ceil_char_boundary(span.end).max(start);
        let (before, rest) = text.split_at(start);
        let first_line = rest.find(['\n', '\r']).map_or(text.len(), |at| start + at);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let (lines, in_line) = before.split_at(line_start);
        Self {
            line: lines.matches('\n').count() + 1,
            column: in_line.chars().count() + 1,
            span: Some(start..end.min(first_line)),
            ..Self::nowhere(path, message)
        }
    }

    /// Keeps line and column and shows no excerpt: for a problem of the file as a whole.
    pub(crate) fn without_excerpt(&mut self) {
        self.span = None;
    }

    /// Sets what stands beside the caret.
    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// Sets what to do.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Takes secrets out of every text of this problem.
    pub(crate) fn redact(&mut self, secrets: &Secrets) {
        let texts = [
            Some(&mut self.message),
            self.label.as_mut(),
            self.help.as_mut(),
        ];
        for text in texts.into_iter().flatten() {
            if let Cow::Owned(redacted) = secrets.redact(text) {
                *text = redacted;
            }
        }
    }
}

/// `file:line:column: message` in one line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.message)?;
        if let Some(label) = &self.label {
            write!(f, " ({label})")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a config; never empty when it is an error.
#[derive(Clone)]
pub(crate) struct Problems {
    /// Excerpts are cut from it; secrets are masked.
    source: Arc<str>,
    list: Vec<Problem>,
    files: Vec<PathBuf>,
}

impl Problems {
    /// Problems of one text, in the order of their places, each once.
    pub(crate) fn new(source: Arc<str>, mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        list.dedup();
        Self {
            source,
            list,
            files: Vec::new(),
        }
    }

    /// Adds the files that the text refers to.
    pub(crate) fn with_files(mut self, files: Vec<PathBuf>) -> Self {
        self.files = files;
        self
    }

    /// Files that the text refers to, as far as it could be read: besides the config itself, a
    /// change of these may mend it.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// One problem that has no place in a text.
    pub(crate) fn nowhere(path: &Path, message: impl Into<String>) -> Self {
        Self::new("".into(), vec![Problem::nowhere(path, message)])
    }

    /// In the order of their places.
    pub(crate) fn list(&self) -> &[Problem] {
        &self.list
    }

    /// All problems with file, line, column, excerpt and caret. With colours for a terminal.
    pub(crate) fn render(&self, level: Severity, colour: bool) -> String {
        let renderer = match colour {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        let reports: Vec<String> = self
            .list
            .iter()
            .map(|problem| renderer.render(&self.report(problem, level)))
            .collect();
        reports.join("\n\n")
    }

    fn report<'a>(&'a self, problem: &'a Problem, level: Severity) -> Vec<Group<'a>> {
        let level = match level {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(problem.message.as_str());
        let help = problem
            .help
            .as_deref()
            .map(|help| Level::HELP.message(help));
        let Some(span) = problem.span.clone() else {
            let mut origin = Origin::path(problem.path.display().to_string());
            if problem.line > 0 {
                origin = origin.line(problem.line).char_column(problem.column);
            }
            return vec![title.element(origin).elements(help)];
        };
        let caret = AnnotationKind::Primary
            .span(span)
            .label(problem.label.as_deref());
        let snippet = Snippet::source(&*self.source)
            .path(problem.path.display().to_string())
            .annotation(caret);
        vec![title.element(snippet).elements(help)]
    }
}

/// How a list of problems is headed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The config is refused.
    Error,
    /// The config is taken.
    Warning,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Severity::Error, false))
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}

impl std::error::Error for Problems {}
