//! From a file on disk to a resolved config, with everything that is wrong in between.
//!
//! The steps: parse and substitute ([`super::document`]), check the shape ([`super::structure`]),
//! fill the types, check the meaning ([`super::validate`]). A text that does not parse ends there.
//! After that every fault is reported at once: what has the wrong shape gets a stand-in
//! ([`super::repair`]), and nothing is said that rests on one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::document::Document;
use super::files;
use super::locator::Locator;
use super::overrides::Overrides;
use super::problem::{Problem, Problems};
use super::redact;
use super::resolved::Config;
use super::schema::File;
use super::structure;
use super::substitute::Source;
use super::syntax;
use super::validate::{self, Checker};

/// Largest config file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A config that may be used.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The config.
    pub(crate) config: Arc<Config>,
    /// Files whose change means a reload: the config, secrets, plugins, certificates. Absolute.
    pub(crate) watched: Vec<PathBuf>,
    /// The config as it is used, with its secrets redacted.
    pub(crate) redacted: Value,
    /// What is allowed and probably not meant, one line each.
    pub(crate) warnings: Vec<String>,
    /// Finds the places of what comes to light later.
    pub(crate) locator: Locator,
    /// The warnings with their places.
    warned: Problems,
}

impl Loaded {
    /// The warnings, to be shown with excerpts.
    pub(crate) fn warned(&self) -> &Problems {
        &self.warned
    }
}

/// Loads a config file.
///
/// # Errors
/// Everything that is wrong with the file, or why it cannot be read.
pub(crate) fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, Problems> {
    let text = read(path)?;
    let mut loaded = load_str(&text, path, overrides)?;
    loaded.watched.insert(0, absolute(path));
    Ok(loaded)
}

/// Loads a config from a text. `origin` is its name in messages, and its folder is where relative
/// paths start; it need not exist.
///
/// # Errors
/// Everything that is wrong with the text.
pub(crate) fn load_str(
    text: &str,
    origin: &Path,
    overrides: &Overrides,
) -> Result<Loaded, Problems> {
    load_with(text, origin, overrides, &|name| std::env::var(name).ok())
}

/// [`load_str`] with a given environment.
pub(crate) fn load_with(
    text: &str,
    origin: &Path,
    overrides: &Overrides,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let full = absolute(origin);
    let folder = full.parent().unwrap_or(&full);
    let source = Source::new(variable, folder);
    let (document, mut problems) = Document::parse(text, origin, &source)?;
    let shape = structure::check(&document);
    problems.extend(shape.problems);
    let mut file: File = match serde_json::from_value(shape.json) {
        Ok(file) => file,
        Err(error) => {
            // The schema is made from these types, so this is a gap between the two.
            let message = format!("the config does not deserialise: {error}");
            problems.push(Problem::nowhere(origin, message));
            return Err(finish(&document, problems).with_files(document.files));
        }
    };
    let mut checker = Checker::new(&document, folder, shape.guesses);
    let config = validate::resolve(&mut file, overrides, &mut checker);
    let Checker {
        errors,
        warnings,
        files,
        ..
    } = checker;
    problems.extend(errors);
    let mut watched = document.files.clone();
    watched.extend(files);
    watched.sort();
    watched.dedup();
    if !problems.is_empty() {
        return Err(finish(&document, problems).with_files(watched));
    }
    let warned = finish(&document, warnings);
    Ok(Loaded {
        watched,
        redacted: redact::view(&file, &document),
        warnings: warned.list().iter().map(Problem::to_string).collect(),
        locator: Locator::new(document, &file.pipeline),
        warned,
        config: Arc::new(config),
    })
}

/// Takes what is secret out of all texts.
fn finish(document: &Document, mut problems: Vec<Problem>) -> Problems {
    for problem in &mut problems {
        problem.redact(document.secrets());
    }
    Problems::new(problems)
}

fn read(path: &Path) -> Result<String, Problems> {
    let bytes = files::read(path, MAX_FILE_BYTES)
        .map_err(|error| Problems::nowhere(path, error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        Problems::new(vec![syntax::not_utf8(error.as_bytes(), path, valid)])
    })
}

/// Makes a path independent of the working directory, without resolving symlinks: the watcher must
/// see the path that the operator named.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
