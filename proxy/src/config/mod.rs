//! The life of a config file: typed by a user, loaded, checked, resolved, watched.

mod resolved;

pub(crate) use resolved::*;
