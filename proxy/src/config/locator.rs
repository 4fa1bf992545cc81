//! A loaded file, for what is found after it was checked: by a reload, or by a plugin.
//!
//! Plugins name a setting by JSON Pointer into their own table; only this knows where that table
//! stands.

use std::collections::BTreeMap;
use std::fmt;

use super::document::Document;
use super::problem::Problem;
use super::resolved::SlotName;
use super::schema::{Pipeline, Slot};

/// Finds the places of problems.
pub(crate) struct Locator {
    document: Document,
    /// By name of the slot: the pointer of its table in the file.
    slots: BTreeMap<String, String>,
}

impl Locator {
    /// Keeps the places of a completed file.
    pub(super) fn new(document: Document, pipeline: &Pipeline) -> Self {
        let of_stage = |stage: &str, slots: &Option<Vec<Slot>>| {
            let slots = slots.iter().flatten().enumerate();
            let slots =
                slots.map(|(at, slot)| (slot.name.clone(), format!("/pipeline/{stage}/{at}")));
            slots.collect::<Vec<_>>()
        };
        let policy = pipeline.cache_policy.iter();
        let policy = policy.map(|slot| (slot.name.clone(), "/pipeline/cache_policy".to_owned()));
        let slots = of_stage("classify", &pipeline.classify)
            .into_iter()
            .chain(of_stage("compress", &pipeline.compress))
            .chain(policy)
            .filter_map(|(name, pointer)| Some((name?, pointer)))
            .filter(|(_, pointer)| document.has(pointer))
            .collect();
        Self { document, slots }
    }

    /// A problem at a field.
    pub(crate) fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        let mut problem = self.document.problem(pointer, message);
        // Plugins, too, may repeat what they were given.
        problem.redact(self.document.secrets());
        problem
    }

    /// A problem of a slot, at a field by its pointer into the slot's table, or at the nearest table
    /// around one that is not there. Without a place when the slot itself is not in the file,
    /// because it is implied.
    pub(crate) fn slot_problem(
        &self,
        slot: &SlotName,
        pointer: &str,
        message: impl Into<String>,
    ) -> Problem {
        match self.slots.get(slot.as_str()) {
            Some(table) => self.problem(&format!("{table}{pointer}"), message),
            None => Problem::nowhere(self.document.path(), message),
        }
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locator")
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
