//! The commands of the binary.

mod demo;
