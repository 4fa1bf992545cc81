//! What a plugin implements: one trait per stage.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{
    Answer, Budget, ConfigIssue, Decision, Edit, Failure, Host, Opinion, Request, Summary,
};

/// A plugin for the stage `classify`: sorts requests by what they ask for.
pub trait Classifier: Sized + 'static {
    /// The slot's config table.
    type Config: DeserializeOwned;

    /// Called once per instance, before its first request.
    ///
    /// # Errors
    /// Everything that is wrong with the config, at once: the candidate is refused, and what ran
    /// before goes on.
    fn new(config: Self::Config) -> Result<Self, Vec<ConfigIssue>>;

    /// Called at most once per request, before routing. Many requests meet one instance.
    ///
    /// # Errors
    /// [`Failure`] when there is no opinion to be had; the slot's `on_failure` decides.
    fn classify(&self, request: &Request, host: &dyn Host) -> Result<Opinion, Failure>;
}

/// A plugin for the stage `compress`: makes prompts shorter by edits, which the host applies.
pub trait Compressor: Sized + 'static {
    /// The slot's config table.
    type Config: DeserializeOwned;

    /// Called once per instance, before its first request.
    ///
    /// # Errors
    /// Everything that is wrong with the config, at once: the candidate is refused, and what ran
    /// before goes on.
    fn new(config: Self::Config) -> Result<Self, Vec<ConfigIssue>>;

    /// Called at most once per request, where its route compresses. The host applies all edits or,
    /// when one breaks a rule, none: see [`crate::testing::apply`].
    ///
    /// # Errors
    /// [`Failure`] when there is nothing to be had; the slot's `on_failure` decides.
    fn compress(
        &self,
        request: &Request,
        budget: &Budget,
        host: &dyn Host,
    ) -> Result<Vec<Edit>, Failure>;
}

/// A plugin for the stage `cache-policy`: says what may be answered from the cache and what may be
/// stored.
pub trait CachePolicy: Sized + 'static {
    /// The slot's config table.
    type Config: DeserializeOwned;

    /// Called once per instance, before its first request.
    ///
    /// # Errors
    /// Everything that is wrong with the config, at once: the candidate is refused, and what ran
    /// before goes on.
    fn new(config: Self::Config) -> Result<Self, Vec<ConfigIssue>>;

    /// Called once per request, after routing and before the look-up.
    ///
    /// # Errors
    /// [`Failure`] when there is no decision to be had; the slot's `on_failure` decides.
    fn decide(
        &self,
        request: &Request,
        summary: &Summary,
        host: &dyn Host,
    ) -> Result<Decision, Failure>;

    /// Called once per whole, successful answer that [`decide`](Self::decide) wanted stored, when
    /// the client has its last byte; true stores it. May meet another instance than `decide` did:
    /// what has to be remembered goes into [`Decision::memo`].
    ///
    /// # Errors
    /// [`Failure`]: the answer is not stored.
    fn admit(&self, answer: &Answer, host: &dyn Host) -> Result<bool, Failure>;
}

/// The config of a plugin that has none: an empty table; anything in it is refused.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// A fault in the config. `path` is a JSON Pointer to the value (`/labels/0/weight`), empty for the
/// whole table; `message` says what was expected, in at most 256 bytes.
#[must_use]
pub fn issue(path: impl Into<String>, message: impl Into<String>) -> ConfigIssue {
    ConfigIssue {
        path: path.into(),
        message: message.into(),
    }
}
