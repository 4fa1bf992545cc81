//! See `proxy/src/fuzzing/config.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::config(data));
