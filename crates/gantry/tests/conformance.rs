//! `docs/conformance.md` names tests; each of them exists where it says.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether the file is the module of that name, or tests of it.
fn is_module(file: &Path, module: &str) -> bool {
    let named = |part: &std::ffi::OsStr| Path::new(part).file_stem().is_some_and(|it| it == module);
    file.components().any(|part| named(part.as_os_str()))
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(top.join("docs/conformance.md")).unwrap();
    let mut package = "";
    let mut missing = Vec::new();
    let mut named = 0;
    for word in table.split('`').skip(1).step_by(2) {
        if word == "gantry" || word.starts_with("gantry-") {
            package = word;
        } else if let Some((module, function)) = word.split_once("::") {
            named += 1;
            let folder = package.strip_prefix("gantry-").unwrap_or("gantry");
            let mut files = Vec::new();
            sources(&top.join("crates").join(folder), &mut files);
            let declared = format!("fn {function}(");
            let there = files.iter().any(|file| {
                is_module(file, module) && fs::read_to_string(file).unwrap().contains(&declared)
            });
            if !there {
                missing.push(format!("{package} {word}"));
            }
        }
    }
    assert!(named > 100, "{named}");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_scenario_has_a_row() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(top.join("docs/conformance.md")).unwrap();
    let rows = table.lines().filter_map(|line| {
        let (numbers, _) = line.strip_prefix("| ")?.split_once(" | ")?;
        Some(numbers.split(", ").filter_map(|number| number.parse().ok()))
    });
    let numbers: Vec<u32> = rows.flatten().collect();
    let missing: Vec<u32> = (1..=81)
        .filter(|number| !numbers.contains(number))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
