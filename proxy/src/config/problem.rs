//! What is wrong with a config, and where: collected, then shown all at once.
//!
//! A problem carries the line of the file that it is about, with secrets masked, and its messages
//! are redacted (see [`super::secrets`]).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::secrets::Secrets;

/// Nobody reads more at once, and the log would drown.
const MOST_SHOWN: usize = 100;

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
    pub(super) excerpt: Option<Excerpt>,
}

/// The line of a problem, and the bytes of it that the caret points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) line: String,
    pub(super) span: Range<usize>,
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
            excerpt: None,
        }
    }

    /// Keeps line and column and shows no excerpt: for a problem of the file as a whole.
    pub(crate) fn without_excerpt(&mut self) {
        self.excerpt = None;
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

    fn report(&self, level: &Level<'static>) -> Group<'_> {
        let title = level.clone().primary_title(self.message.as_str());
        let help = self.help.as_deref().map(|help| Level::HELP.message(help));
        let Some(excerpt) = &self.excerpt else {
            let mut origin = Origin::path(self.path.display().to_string());
            if self.line > 0 {
                origin = origin.line(self.line).char_column(self.column);
            }
            let label = self.label.as_deref();
            let label = label.map(|label| Level::NOTE.message(label));
            return title.element(origin).elements(label).elements(help);
        };
        let caret = AnnotationKind::Primary
            .span(excerpt.span.clone())
            .label(self.label.as_deref());
        let snippet = Snippet::source(excerpt.line.as_str())
            .line_start(self.line)
            .path(self.path.display().to_string())
            .annotation(caret);
        title.element(snippet).elements(help)
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
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a config; never empty when it is an error.
#[derive(Clone)]
pub(crate) struct Problems {
    /// The first ones.
    list: Vec<Problem>,
    /// How many there are.
    count: usize,
    files: Vec<PathBuf>,
}

impl Problems {
    /// Problems in the order of their places, each once.
    pub(crate) fn new(mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        list.dedup();
        let count = list.len();
        list.truncate(MOST_SHOWN);
        Self {
            list,
            count,
            files: Vec::new(),
        }
    }

    /// One problem that has no place in a text.
    pub(crate) fn nowhere(path: &Path, message: impl Into<String>) -> Self {
        Self::new(vec![Problem::nowhere(path, message)])
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

    /// In the order of their places, the first hundred.
    pub(crate) fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many there are, those that are not listed too.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All problems with file, line, column, excerpt and caret. With colours for a terminal.
    pub(crate) fn render(&self, severity: Severity, colour: bool) -> String {
        let renderer = match colour {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        let level = match severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut reports: Vec<String> = self
            .list
            .iter()
            .map(|problem| renderer.render(&[problem.report(&level)]))
            .collect();
        if self.count > self.list.len() {
            reports.push(format!("and {} more", self.count - self.list.len()));
        }
        reports.join("\n\n")
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
