//! `${NAME}` and `${file:/path}` in a string.
//!
//! `$$` is a dollar sign; a dollar sign in front of anything else stands for itself. One newline
//! at the end of a file's text is not part of the value.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file that is read for a substitution, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Where values come from.
pub(crate) struct Source<'a> {
    /// Looks an environment variable up.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Relative paths start here.
    pub(crate) folder: &'a Path,
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
        let found = match name.strip_prefix("file:") {
            Some(path) => {
                let path = source.folder.join(path);
                self.files.push(path.clone());
                read(&path)
            }
            None => variable(name, source),
        };
        match found {
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
    let cannot = |why: &dyn std::fmt::Display| format!("cannot read the file: {why}");
    let metadata = fs::metadata(path).map_err(|error| cannot(&error))?;
    // A pipe would hold the reload for ever, and a device has no end.
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(cannot(&"it is not a file"));
    }
    let length = metadata.len();
    if length > MAX_FILE_BYTES {
        return Err(cannot(&format!(
            "it has {length} bytes, at most {MAX_FILE_BYTES} are allowed"
        )));
    }
    let mut text = fs::read_to_string(path).map_err(|error| cannot(&error))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn substitute(text: &str) -> Substitution {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("key"), "from file\n").unwrap();
        let variable = |name: &str| (name == "NAME").then(|| "value".to_owned());
        let source = Source {
            variable: &variable,
            folder: folder.path(),
        };
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
        let source = Source {
            variable: &variable,
            folder: Path::new("/"),
        };
        let done = Substitution::of("${OTHER}", &source).unwrap();
        assert_eq!(done.text, "${NAME}");
    }

    #[test]
    fn every_failure_of_a_string_is_named() {
        let failures = substitute("${GONE} ${file:gone} ${no name} ${open").failures;
        let references: Vec<&str> = failures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(references, ["${GONE}", "${file:gone}", "${no name}", "${"]);
    }
}
