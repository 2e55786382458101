//! Any file is a journal, a journal with a torn end, or an error that names the line.
#![no_main]
use std::path::Path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let found = gantry_journal::read_records::<gantry_executor::Record>(data, Path::new("journal"));
    if let Ok(records) = found {
        drop(gantry_executor::Progress::of(records));
    }
});
