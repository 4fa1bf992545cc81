//! See `proxy/src/fuzzing/canonical_request.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::canonical_request(data));
