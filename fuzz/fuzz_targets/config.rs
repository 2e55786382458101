//! Any text is a configuration or a list of problems with their places.
#![no_main]
use std::{collections::BTreeMap, path::Path};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(error) = gantry_config::parse(data, Path::new("config.toml"), &BTreeMap::new()) {
        let text = error.to_string();
        assert!(text.contains("config.toml"), "{text}");
        assert!(!text.contains('\x1b'));
    }
});
