//! A job payload from anywhere is a payload or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    drop(gantry_job::JobPayload::from_slice(data));
});
