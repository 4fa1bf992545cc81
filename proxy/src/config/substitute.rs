//! `${NAME}` and `${file:/path}` in a string.
//!
//! `$$` is a dollar sign; a dollar sign in front of anything else stands for itself. One newline
//! at the end of a file's text is not part of the value.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::files;

/// Longest file that is read for a substitution, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Bytes that all references of a config may give together: a reference is short, and may be
/// repeated.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Where the values of one config come from.
pub(crate) struct Source<'a> {
    /// Looks an environment variable up.
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// Relative paths start here.
    folder: &'a Path,
    /// Each file is read once.
    read: RefCell<HashMap<PathBuf, Result<String, String>>>,
    /// Bytes that may still come.
    left: Cell<usize>,
}

impl<'a> Source<'a> {
    /// Values of an environment, and of files relative to a folder.
    pub(crate) fn new(variable: &'a dyn Fn(&str) -> Option<String>, folder: &'a Path) -> Self {
        Self {
            variable,
            folder,
            read: RefCell::default(),
            left: Cell::new(MOST_BYTES),
        }
    }

    fn value(&self, name: &str) -> Result<String, String> {
        let value = match name.strip_prefix("file:") {
            Some(path) => self.file(path),
            None => variable(name, self),
        }?;
        let left = self.left.get().checked_sub(value.len());
        self.left.set(
            left.ok_or_else(|| {
                format!("all references together give more than {MOST_BYTES} bytes")
            })?,
        );
        Ok(value)
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let path = self.folder.join(path);
        let mut known = self.read.borrow_mut();
        let text = known.entry(path).or_insert_with_key(|path| read(path));
        text.clone()
    }
}

/// What became of one string.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Substitution {
    /// The string with its values in place. A reference that failed is left out.
    pub(crate) text: String,
    /// What the references gave.
    pub(crate) values: Vec<String>,
    /// Files that the string refers to.
    pub(crate) files: Vec<PathBuf>,
    /// References that gave nothing, as written, and why.
    pub(crate) failures: Vec<(String, String)>,
}

impl Substitution {
    /// Substitutes a string; none when it has no dollar sign.
    pub(crate) fn of(text: &str, source: &Source<'_>) -> Option<Self> {
        if !text.contains('$') {
            return None;
        }
        let mut done = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            done.text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                done.text.push('$');
                rest = after;
            } else if let Some(reference) = after.strip_prefix('{') {
                rest = done.reference(reference, source);
            } else {
                done.text.push('$');
                rest = after;
            }
        }
        done.text.push_str(rest);
        Some(done)
    }

    /// Takes what follows `${` and returns what follows the reference.
    fn reference<'t>(&mut self, text: &'t str, source: &Source<'_>) -> &'t str {
        let Some((name, rest)) = text.split_once('}') else {
            let message = "`${` without `}`; write `$$` for a dollar sign";
            self.failures.push(("${".to_owned(), message.to_owned()));
            return "";
        };
        if let Some(path) = name.strip_prefix("file:") {
            self.files.push(source.folder.join(path));
        }
        match source.value(name) {
            Ok(value) => {
                self.text.push_str(&value);
                self.values.push(value);
            }
            Err(message) => self.failures.push((format!("${{{name}}}"), message)),
        }
        rest
    }
}

fn variable(name: &str, source: &Source<'_>) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(format!(
            "`{name}` is no name of a variable; expected `${{NAME}}` or `${{file:/path}}`"
        ));
    }
    (source.variable)(name).ok_or_else(|| format!("environment variable `{name}` is not set"))
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = files::read(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    let mut text = String::from_utf8(bytes)
        .map_err(|_| format!("`{}` is no text in UTF-8", path.display()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    match text.is_empty() {
        // Mostly it is about to be written.
        true => Err(format!("`{}` is empty", path.display())),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn substitute(text: &str) -> Substitution {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("key"), "from file\n").unwrap();
        let variable = |name: &str| (name == "NAME").then(|| "value".to_owned());
        let source = Source::new(&variable, folder.path());
        Substitution::of(text, &source).unwrap_or_default()
    }

    #[test]
    fn variables_and_files_are_put_in_place() {
        assert_eq!(
            substitute("a ${NAME} b ${file:key}.").text,
            "a value b from file."
        );
    }

    #[test]
    fn dollar_signs_stand_for_themselves_unless_a_brace_follows() {
        assert_eq!(
            substitute("$5 and $$ and $${NAME} $").text,
            "$5 and $ and ${NAME} $"
        );
    }

    #[test]
    fn values_are_not_substituted_again() {
        let variable = |_: &str| Some("${NAME}".to_owned());
        let source = Source::new(&variable, Path::new("/"));
        let done = Substitution::of("${OTHER}", &source).unwrap();
        assert_eq!(done.text, "${NAME}");
    }

    #[test]
    fn every_failure_of_a_string_is_named() {
        let failures = substitute("${GONE} ${file:gone} ${no name} ${open").failures;
        let references: Vec<&str> = failures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(references, ["${GONE}", "${file:gone}", "${no name}", "${"]);
    }

    #[test]
    fn references_cannot_multiply_without_bound() {
        let large = "x".repeat(1024 * 1024);
        let variable = |_: &str| Some(large.clone());
        let source = Source::new(&variable, Path::new("/"));
        let done = Substitution::of(&"${NAME}".repeat(1000), &source).unwrap();
        assert_eq!(done.text.len(), MOST_BYTES);
        assert_eq!(done.failures.len(), 996);
    }
}
