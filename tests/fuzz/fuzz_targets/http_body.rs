//! See `proxy/src/fuzzing/http.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate::fuzzing::http_body(data));
