//! What the fuzz targets reach of this room: the checks of what plugins return, with the words of a
//! refusal.

use sluicegate_edits::{Edit, Plan};

use super::failure::Failure;
pub(crate) use super::types::{Attribute, MetricDeclaration, MetricKind, PluginInfo, Scored};
use super::types::{Decision, Opinion};
use super::{check, describe};
use crate::api::prompt::Prompt;
use crate::config::Slot;

pub(crate) fn opinion(opinion: Opinion, explain: bool) -> Result<Opinion, String> {
    check::opinion(opinion, explain).map_err(detail)
}

pub(crate) fn decision(decision: Decision, slot: &Slot) -> Result<Decision, String> {
    check::decision(decision, slot).map_err(detail)
}

pub(crate) fn edits(prompt: &Prompt, slot: &Slot, edits: &[Edit]) -> Result<Plan, String> {
    check::edits(prompt, slot, edits).map_err(detail)
}

pub(crate) fn description(info: &PluginInfo, slot: &Slot) -> Result<(), String> {
    describe::check(info, slot).map_err(|error| error.to_string())
}

fn detail(failure: Failure) -> String {
    failure.detail
}
