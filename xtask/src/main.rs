//! Helper.
fn main() {}
