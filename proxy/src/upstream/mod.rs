//! From a pool's name to an open exchange with one of its backends.
