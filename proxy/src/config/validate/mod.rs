//! From the file as typed to the config as used: what values mean together.
//!
//! Each section's function resolves what it can and reports every fault to the [`Checker`]; where
//! a value is at fault, something harmless stands in for it so that the rest is still checked. The
//! result counts only when no error was reported. The typed file is completed on the way (names
//! and counts that were left out), so that it can be shown as it is used.

mod auth;
mod certificates;
mod names;
mod network;
mod pipeline;
mod pools;
mod routes;
mod sections;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Document;
use super::overrides::Overrides;
use super::problem::Problem;
use super::repair::Guesses;
use super::resolved::Config;
use super::schema::{File, Size};

/// Checks a file and resolves it.
pub(crate) fn resolve(file: &mut File, overrides: &Overrides, checker: &mut Checker<'_>) -> Config {
    let server = server::resolve(&mut file.server, overrides, checker);
    let auth = auth::resolve(&file.auth, server.listen, checker);
    let models = pools::models(&file.models, checker);
    let pools = pools::resolve(&mut file.pools, auth.mode, checker);
    let routes = routes::resolve(&mut file.routes, &pools, &auth, checker);
    let pipeline = pipeline::resolve(&mut file.pipeline, server.workers, checker);
    let cache = sections::cache(&mut file.cache, overrides, checker);
    let admin = sections::admin(&file.admin, server.listen, checker);
    let telemetry = sections::telemetry(&file.telemetry, server.listen, admin.listen, checker);
    Config {
        server,
        auth,
        models,
        pools: pools.into_iter().map(Arc::new).collect(),
        routes: routes.into_iter().map(Arc::new).collect(),
        pipeline,
        cache,
        admin,
        telemetry,
    }
}

/// Collects what is found while a file is resolved.
pub(crate) struct Checker<'a> {
    document: &'a Document,
    /// The config file's folder, absolute: relative paths start here.
    folder: &'a Path,
    guesses: Guesses,
    pub(crate) errors: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// Files that the config depends on.
    pub(crate) files: Vec<PathBuf>,
    /// The last problem that was nothing but a guess.
    ignored: Option<Problem>,
}

impl<'a> Checker<'a> {
    /// A checker of one document, in which not everything may be known.
    pub(crate) fn new(document: &'a Document, folder: &'a Path, guesses: Guesses) -> Self {
        Self {
            document,
            folder,
            guesses,
            ignored: None,
            errors: Vec::new(),
            warnings: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Reports an error at a field's value, or at the table around a field that is left out. One
    /// about a value that is not known is dropped; what rests on other values too must ask
    /// [`Self::knows`] first.
    fn error(&mut self, pointer: &str, message: impl Into<String>) -> &mut Problem {
        let problem = self.document.problem(pointer, message);
        if !self.knows(pointer) {
            return self.ignored.insert(problem);
        }
        self.errors.push_mut(problem)
    }

    /// Reports something that is allowed and probably not meant.
    fn warn(&mut self, pointer: &str, message: impl Into<String>) -> &mut Problem {
        let problem = self.document.problem(pointer, message);
        self.warnings.push_mut(problem)
    }

    /// Whether a field has the value that the user means.
    fn knows(&self, pointer: &str) -> bool {
        self.guesses.knows(self.document, pointer)
    }

    /// Whether all that stands below a field is known, too.
    fn knows_whole(&self, pointer: &str) -> bool {
        self.guesses.knows_whole(self.document, pointer)
    }

    /// Where a field stands, for a message about another field: `line 12`.
    fn line_of(&self, pointer: &str) -> String {
        format!("line {}", self.document.line(pointer))
    }

    /// Resolves a path against the config file's folder.
    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Checks that a size lies in its bounds and fits the machine's words.
    fn size(&mut self, pointer: &str, size: Size, least: Size, most: Size) -> usize {
        if size < least || size > most {
            self.error(pointer, format!("expected a size from {least} to {most}"));
        }
        usize::try_from(size.0).unwrap_or(usize::MAX)
    }

    /// Warns when a secret is written in the file itself.
    fn secret(&mut self, pointer: &str) {
        if self.document.has(pointer) && !self.document.substituted.contains(pointer) {
            self.warn(pointer, "a secret is written in the file").help(
                "write \"${NAME}\" for an environment variable or \"${file:/path}\" for a file",
            );
        }
    }
}
