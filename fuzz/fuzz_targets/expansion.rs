//! Variables expand without panic and within bounds. Lines `KEY=VALUE`; the last line is expanded.
#![no_main]
use gantry_job::{Variable, Variables};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut variables = Variables::new();
    for line in text.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        variables.push(Variable::new(key, value));
    }
    let expanded = variables.expanded();
    assert_eq!(expanded.len(), variables.len());
    drop(variables.expand(text.lines().last().unwrap_or_default()));
});
