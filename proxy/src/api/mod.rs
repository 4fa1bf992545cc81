//! Wire formats: pure functions on bytes, without I/O and without a clock.

pub(crate) mod prompt;
