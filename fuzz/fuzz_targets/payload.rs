//! A job payload from anywhere is a payload, which is written and read back equal, or an error of one line.
#![no_main]
use gantry_job::JobPayload;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match JobPayload::from_slice(data) {
        Ok(payload) => {
            let written = serde_json::to_vec(&payload).unwrap();
            let again = JobPayload::from_slice(&written);
            assert!(
                again.as_ref() == Ok(&payload),
                "{again:?} is not {payload:?}"
            );
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("job payload"), "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.len() < 2000);
        }
    }
});
