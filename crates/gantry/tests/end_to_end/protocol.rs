//! What goes over the wire to GitLab (coordinator-api §4 to §9, §12 to §14).

use gantry_testkit::{
    Answer, Endpoint, Fault, JobBuilder, RecordedRequest, ServerJobState, TestCa,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Config, Host, JobLog, gate, job, until};

mod delivery;
mod foreign;
mod log_form;
mod payloads;
mod scheduling;
mod values;
mod whole;

/// Numbered lines, slow enough that several patches are needed where the server asks for one a second.
fn numbered(lines: usize) -> JobBuilder {
    let say = format!(
        "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; [ $((i % 50)) -ne 0 ] || sleep 0.5; done"
    );
    job([say.as_str(), "exit 6"])
}

fn assert_numbered(log: &JobLog, lines: usize) {
    let printed: Vec<_> = log
        .stdout
        .iter()
        .filter(|line| line.starts_with("line "))
        .cloned()
        .collect();
    let expected: Vec<_> = (1..=lines).map(|line| format!("line {line}")).collect();
    assert_eq!(printed, expected);
}

fn update() -> Fault {
    Fault::on(Endpoint::UpdateJob).state("final")
}

fn patch() -> Fault {
    Fault::on(Endpoint::PatchTrace)
}
