//! Image names and volume entries are read or refused.
#![no_main]
use gantry_container::{ImageReference, ServiceReference, VolumeDefinition};

libfuzzer_sys::fuzz_target!(|text: &str| {
    drop(ImageReference::parse(text));
    drop(ServiceReference::parse(text));
    drop(VolumeDefinition::parse(text));
});
