//! Any bytes are a pipeline or problems with their places.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(error) = gantry_pipeline::parse_bytes(".gitlab-ci.yml", data) {
        assert!(!error.to_string().is_empty());
    }
});
