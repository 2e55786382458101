//! Archives are unpacked below their root, or refused with the root as it was.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(dir) = tempfile::tempdir() else { return };
    let root = dir.path().join("root");
    if std::fs::create_dir(&root).is_err() {
        return;
    }
    gantry_archive::fuzz_extract(data, &root);
    let beside = std::fs::read_dir(dir.path()).map_or(0, Iterator::count);
    assert_eq!(beside, 1, "nothing but the root");
});
