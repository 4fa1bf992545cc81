//! The rules of the interface `compress`, in the order in which they are numbered there.
//!
//! Faults of single edits are found first ([`address`]), then edits that meet, then what the cuts
//! leave behind ([`outcome`]). Groups come last on purpose: a tool result may also be emptied by
//! spans, and a message emptied by its parts, so only the finished plan tells which messages are
//! gone.

mod address;
mod fault;
mod outcome;

use crate::edit::{Change, Edit};
use crate::plan::Plan;
use crate::shape::Shape;
use address::Addressed;

pub use fault::{Fault, Refusal, Rules};

/// Checks a list of edits as a whole and turns it into a plan. All of it is applied or nothing.
///
/// # Errors
/// [`Refusal`] names the first edit at fault and the rule that it breaks.
pub fn check(shape: &Shape<'_>, edits: &[Edit], rules: &Rules) -> Result<Plan, Refusal> {
    check_amount(edits, rules)?;
    let mut addressed = Vec::with_capacity(edits.len());
    for (index, edit) in edits.iter().enumerate() {
        let place = address::check_edit(shape, &edit.change, rules).map_err(|fault| Refusal {
            edit: Some(index),
            fault,
        })?;
        addressed.push(Addressed {
            index,
            place,
            change: &edit.change,
        });
    }
    addressed.sort_unstable_by_key(|edit| (edit.place, edit.index));
    address::check_meetings(&addressed)?;
    let (plan, dropped_by) = outcome::build(shape, &addressed)?;
    outcome::check_groups(shape, &dropped_by)?;
    outcome::check_user(shape, &plan)?;
    Ok(plan)
}

/// Rule 1.
fn check_amount(edits: &[Edit], rules: &Rules) -> Result<(), Refusal> {
    let whole = |fault| Refusal { edit: None, fault };
    if edits.len() > rules.max_edits {
        return Err(whole(Fault::TooManyEdits {
            edits: edits.len(),
            limit: rules.max_edits,
        }));
    }
    let replacement_bytes = edits.iter().fold(0_usize, |sum, edit| match &edit.change {
        Change::ReplaceSpan { text, .. } => sum.saturating_add(text.len()),
        Change::DropMessage(_) | Change::DropPart { .. } | Change::DropSpan { .. } => sum,
    });
    if replacement_bytes > rules.max_replacement_bytes {
        return Err(whole(Fault::TooMuchReplacement {
            limit: rules.max_replacement_bytes,
        }));
    }
    Ok(())
}
