//! Start, reload, stop: the only room that loads the snapshot.
