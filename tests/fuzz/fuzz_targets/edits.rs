//! See `proxy/src/fuzzing/edits.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::edits(data));
