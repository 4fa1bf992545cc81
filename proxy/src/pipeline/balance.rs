//! Says which backend is tried next: least requests inside a pool, then the next pool of the chain.
//!
//! A pool gets as many attempts as the route allows, on a backend that was not tried yet where
//! there is one. Without a further pool, all are tried again. An attempt that found nobody listening
//! does not count, once for each backend of the pool: it cost nobody time or tokens, and two backends
//! that restart in turns would else fail a request between them.

use super::context::RequestContext;
use super::error::Error;
use super::route::{Hop, Target};
use crate::config::{BackendIdentity, PoolName};
use crate::telemetry::Stage;
use crate::upstream::Picked;

/// The backends that are still to be tried, in order.
pub(crate) struct Candidates<'a> {
    chain: &'a [Hop],
    /// Attempts that each pool gets.
    attempts: u32,
    hop: usize,
    /// Attempts made in the current pool.
    made: u32,
    /// Attempts in the current pool that do not count.
    free: usize,
    tried: Vec<BackendIdentity>,
    /// A pool that had no room.
    full: Option<PoolName>,
}

/// One backend to try.
pub(crate) struct Candidate<'a> {
    pub(crate) hop: &'a Hop,
    /// The hop is not the chain's first.
    pub(crate) fallback: bool,
    /// It has failed this request before.
    pub(crate) again: bool,
    pub(crate) picked: Picked,
}

/// Begins with the chain's first pool.
pub(super) fn run<'a>(cx: &mut RequestContext, target: &'a Target) -> Candidates<'a> {
    cx.enter(Stage::Balance);
    Candidates {
        chain: &target.chain,
        attempts: target.route.attempts.max(1),
        hop: 0,
        made: 0,
        free: 0,
        tried: Vec::new(),
        full: None,
    }
}

impl<'a> Candidates<'a> {
    /// The next backend; its in-flight count is held by what is returned.
    pub(super) fn next(&mut self) -> Option<Candidate<'a>> {
        loop {
            let hop = self.chain.get(self.hop)?;
            if let Some(picked) = self.pick(hop) {
                self.made += 1;
                let again = self.tried.contains(picked.backend.identity());
                self.tried.push(picked.backend.identity().clone());
                return Some(Candidate {
                    hop,
                    fallback: self.hop > 0,
                    again,
                    picked,
                });
            }
            self.leave_pool();
        }
    }

    /// A backend of the current pool, while it has room and attempts are left.
    fn pick(&mut self, hop: &Hop) -> Option<Picked> {
        if self.made >= self.attempts {
            return None;
        }
        let Some(room) = hop.pool.room() else {
            self.full = Some(hop.pool.config().name.clone());
            return None;
        };
        let is_last = self.hop + 1 == self.chain.len();
        let picked = hop.pool.pick(&self.tried);
        let picked = picked.or_else(|| is_last.then(|| hop.pool.pick(&[])).flatten());
        picked.map(|picked| picked.within(room))
    }

    /// Takes note that the last attempt found nobody listening.
    pub(super) fn not_reached(&mut self) {
        let hop = self.chain.get(self.hop);
        if hop.is_some_and(|hop| self.free < hop.pool.backends().len()) {
            self.free += 1;
            self.made = self.made.saturating_sub(1);
        }
    }

    /// Goes on with the next pool; false when there is none.
    pub(super) fn leave_pool(&mut self) -> bool {
        self.hop += 1;
        self.made = 0;
        self.free = 0;
        self.hop < self.chain.len()
    }

    /// True when another attempt would be allowed.
    pub(super) fn has_more(&self) -> bool {
        self.hop + 1 < self.chain.len()
            || (self.hop < self.chain.len() && self.made < self.attempts)
    }

    /// Why none was given, when none ever was.
    pub(super) fn none_left(self, target: &Target) -> Error {
        match self.full {
            Some(pool) => Error::PoolOverloaded { pool },
            None => Error::NoBackend {
                pool: target.route.pool.clone(),
            },
        }
    }

    /// True when another pool stands behind the current one.
    pub(super) fn has_fallback(&self) -> bool {
        self.hop + 1 < self.chain.len()
    }
}
