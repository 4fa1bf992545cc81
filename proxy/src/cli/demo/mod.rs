//! The demo.
mod backend;
