//! Finds the place of a plugin's setting in the config file.
//!
//! Plugins name a setting by JSON Pointer into their own table; only this knows where that table
//! stands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::document::{Document, parent};
use super::resolved::SlotName;
use super::schema::{Pipeline, Slot};

/// Places of all settings of all slots.
#[derive(Debug, Clone, Default)]
pub(crate) struct Locator {
    path: PathBuf,
    /// By name of the slot: the pointer of its table in the file.
    slots: BTreeMap<String, String>,
    /// Line and column, by pointer.
    positions: BTreeMap<String, (usize, usize)>,
}

impl Locator {
    /// Keeps the places of the slots of a completed file.
    pub(super) fn new(document: &Document, pipeline: &Pipeline) -> Self {
        let of_stage = |stage: &str, slots: &Option<Vec<Slot>>| {
            let slots = slots.iter().flatten().enumerate();
            let slots = slots.map(|(at, slot)| (slot.name.clone(), format!("/pipeline/{stage}/{at}")));
            slots.collect::<Vec<_>>()
        };
        let policy = pipeline.cache_policy.iter();
        let policy = policy.map(|slot| (slot.name.clone(), "/pipeline/cache_policy".to_owned()));
        let slots: BTreeMap<String, String> = of_stage("classify", &pipeline.classify)
            .into_iter()
            .chain(of_stage("compress", &pipeline.compress))
            .chain(policy)
            .filter_map(|(name, pointer)| Some((name?, pointer)))
            .collect();
        let positions = slots
            .values()
            .flat_map(|slot| document.below(slot))
            .map(|pointer| (pointer.to_owned(), document.position(pointer)))
            .collect();
        Self {
            path: document.path.clone(),
            slots,
            positions,
        }
    }

    /// `file:line:column` of a setting, by its pointer into the slot's own table; of one that is
    /// not there, the place of the nearest table around it. None when the slot itself is not in the
    /// file, because it is implied.
    pub(crate) fn slot(&self, slot: &SlotName, pointer: &str) -> Option<String> {
        let table = self.slots.get(slot.as_str())?;
        let setting = format!("{table}/config{pointer}");
        let mut nearest = setting.as_str();
        let (line, column) = loop {
            match self.positions.get(nearest) {
                Some(position) => break position,
                None if nearest.len() <= table.len() => return None,
                None => nearest = parent(nearest),
            }
        };
        Some(format!("{}:{line}:{column}", self.path.display()))
    }
}
