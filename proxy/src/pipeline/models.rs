//! `/v1/models`, from the pools.

use http::StatusCode;

use super::answer::Answer;
use super::error::{Error, Result};
use super::snapshot::Snapshot;
use crate::api;

/// The API wants a time of creation; pools have none. Fixed, so that equal configs answer alike:
/// 2024-01-01T00:00:00Z in seconds since 1970.
const CREATED: u64 = 1_704_067_200;

/// All models that the pools name, or one of them; `auto` stands first.
///
/// # Errors
/// [`Error::UnknownModel`].
pub(super) fn run(snapshot: &Snapshot, path: &str) -> Result<Answer> {
    let mut names = vec![("auto".to_owned(), "sluicegate".to_owned())];
    for pool in &snapshot.config.pools {
        for model in &pool.models {
            if names.iter().all(|(known, _)| known != model) {
                names.push((model.clone(), pool.name.to_string()));
            }
        }
    }
    let body = match path.strip_prefix("/v1/models/") {
        None => api::models::list(names.into_iter(), CREATED),
        Some(wanted) => {
            let found = names.into_iter().find(|(name, _)| name == wanted);
            let (name, owner) = found.ok_or_else(|| Error::UnknownModel {
                model: wanted.chars().take(256).collect(),
            })?;
            api::models::one(&name, &owner, CREATED)
        }
    };
    Ok(Answer::json(StatusCode::OK, body))
}
