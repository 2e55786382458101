//! Patterns of paths are read or refused, and match in bounded time.
#![no_main]
use gantry_archive::Pattern;

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (pattern, path) = input;
    if let Ok(pattern) = Pattern::new(&pattern) {
        pattern.matches(&path);
    }
});
