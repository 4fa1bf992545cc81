//! When two requests are equal, and what is kept of their answers.
//!
//! A [`Key`] is the whole request in canonical form ([`key()`]). An answer is collected by a
//! [`Recorder`], kept as it came ([`Stored`]) in [`Memory`], and given to the next asker as a stream
//! or plain, whichever that one wants ([`replay`]). What a client says about it is read by
//! [`control`].

mod canonical;
pub(crate) mod control;
mod key;
mod memory;
mod recorder;
pub(crate) mod replay;
mod stored;

#[cfg(any(test, fuzzing))]
pub(crate) use canonical::encode;
pub(crate) use control::Control;
pub(crate) use key::{Key, KeyParts, key};
pub(crate) use memory::Memory;
pub(crate) use recorder::{Answer, Recorder};
pub(crate) use stored::Stored;
