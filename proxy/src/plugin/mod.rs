//! From a component file on disk to a call.
