//! See `proxy/src/fuzzing/plugin_output.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::plugin_output(data));
