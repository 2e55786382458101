//! Bytes from a helper are messages or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gantry_agent::fuzz_decoder(data));
