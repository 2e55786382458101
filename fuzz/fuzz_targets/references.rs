//! Image names and volume entries are read or refused; what a name is written as is the same name.
#![no_main]
use gantry_container::{ImageReference, ServiceReference, VolumeDefinition};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(image) = ImageReference::parse(text) {
        for written in [image.to_string(), image.canonical()] {
            assert_eq!(
                ImageReference::parse(&written).as_ref(),
                Ok(&image),
                "{written}"
            );
        }
        assert!(ImageReference::parse(&image.pull_name()).is_ok());
    }
    drop(ServiceReference::parse(text));
    if let Ok(volume) = VolumeDefinition::parse(text)
        && let Ok(destination) =
            volume.absolute_destination(&volume.destination, "/builds/group/project")
    {
        assert!(destination.starts_with('/'));
        if let Some(bind) = volume.bind(&destination) {
            assert!(!bind.is_empty());
        }
    }
});
