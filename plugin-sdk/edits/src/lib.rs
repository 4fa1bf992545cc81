//! The rules by which edits of a prompt are checked, the same in the proxy and in an author's
//! tests.
//!
//! A compressor returns a list of [`Edit`]s; [`check()`] either turns the whole list into a [`Plan`]
//! or refuses all of it with the first fault that it finds. Invariants of an accepted plan: cuts
//! are sorted, do not overlap, and lie on borders of characters, so that UTF-8 stays whole; nothing
//! locked is touched; a group of messages goes whole or stays whole; what would be left empty is
//! already a drop. Nothing here panics, whatever a plugin returns, and the work grows with the
//! request plus n log n in the number of edits.
//!
//! Start at [`check()`]; what goes in is in [`mod@edit`] and [`shape`], what comes out in [`plan`].
#![deny(
    clippy::expect_used,
    clippy::get_unwrap,
    clippy::indexing_slicing,
    clippy::unreachable
)]

mod check;
pub mod edit;
pub mod plan;
#[doc(hidden)]
pub mod reference;
pub mod shape;

pub use check::{Fault, Refusal, Rules, check};
pub use edit::{Change, Edit, Kind, Reason};
pub use plan::{Cut, MessagePlan, PartPlan, Plan, cut_text};
pub use shape::{MessageShape, PartShape, Shape};
