//! See `proxy/src/fuzzing/event_stream.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::event_stream(data));
