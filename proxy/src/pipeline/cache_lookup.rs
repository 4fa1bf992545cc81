//! Looks for a stored answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cache_policy::Plan;
use super::context::RequestContext;
use super::error::{Error, Result};
use crate::cache::{Memory, Stored};
use crate::telemetry::{CacheResult, Stage};

/// What the look-up gave.
pub(crate) enum Lookup {
    /// A stored answer.
    Hit(Arc<Stored>),
    /// None; with the plan under which the answer may be stored.
    Miss(Option<Box<Plan>>),
}

/// Looks up the plan's key.
///
/// # Errors
/// [`Error::NotCached`] when the client wants a stored answer or none.
pub(super) fn run(cx: &mut RequestContext, cache: &Memory, plan: Option<Plan>) -> Result<Lookup> {
    cx.enter(Stage::CacheLookup);
    let Some(plan) = plan else {
        return Ok(Lookup::Miss(None));
    };
    if plan.lookup {
        let stored = cache.get(&plan.key);
        let stored = stored.map(|stored| (stored.age(SystemTime::now()), stored));
        let fresh = |age: Duration| plan.max_age.is_none_or(|most| age <= most);
        if let Some((age, stored)) = stored.filter(|(age, _)| fresh(*age)) {
            cx.record.cache = CacheResult::Hit;
            cx.record.cache_age = Some(age);
            cx.record.upstream_model = Some(stored.model.clone());
            return Ok(Lookup::Hit(stored));
        }
        cx.record.cache = CacheResult::Miss;
    }
    if plan.only {
        return Err(Error::NotCached);
    }
    Ok(Lookup::Miss(plan.store.then(|| Box::new(plan))))
}
