//! Streams of the engine that are cut, end too early, stall, or never come.

use std::time::Duration;

use gantry_engine::fake::{Fault, Verb};
use gantry_job::{Cause, JobState};

use crate::harness::{
    Setup, Work, assert_the_same, deaths::the_same, failed, run, through, with_faults,
};

fn talks() -> Setup {
    Setup::script(Work::talks().exits(3)).after_script(Work::talks())
}

#[test]
fn an_attach_that_breaks_at_any_byte_of_the_output_loses_and_doubles_none() {
    let undisturbed = run(talks());
    for nth in [1, 2] {
        for bytes in (0..180).step_by(3).map(|bytes| bytes + nth as usize) {
            let ending = with_faults(talks(), |bench| {
                bench
                    .engine
                    .fault(Verb::ContainerAttach, nth, Fault::CutOutput(bytes));
            });
            if let Err(fault) = the_same(&undisturbed, &ending) {
                panic!("attach {nth} cut after {bytes} bytes: {fault}");
            }
        }
    }
}

#[test]
fn an_attach_that_ends_cleanly_at_any_byte_while_the_container_runs_loses_no_output() {
    let undisturbed = run(talks());
    // Up to the last pause: an end that comes with the container's own cannot be told from it.
    for bytes in (0..140).step_by(5) {
        let ending = with_faults(talks(), |bench| {
            bench
                .engine
                .fault(Verb::ContainerAttach, 1, Fault::EndOutput(bytes));
        });
        if let Err(fault) = the_same(&undisturbed, &ending) {
            panic!("attach ended after {bytes} bytes: {fault}");
        }
    }
}

/// An engine ends a log that is followed with its container, however far behind the reader is (Docker 20.10).
#[test]
fn a_followed_log_that_ends_too_early_loses_no_output() {
    let undisturbed = run(talks());
    for bytes in 0..180 {
        let ending = with_faults(talks(), |bench| {
            bench
                .engine
                .fault(Verb::ContainerAttach, 1, Fault::CutOutput(1));
            bench
                .engine
                .fault(Verb::ContainerLogs, 1, Fault::EndOutput(bytes));
        });
        if let Err(fault) = the_same(&undisturbed, &ending) {
            panic!("log ended after {bytes} bytes: {fault}");
        }
    }
}

#[test]
fn an_attach_that_stalls_loses_no_output() {
    let undisturbed = run(talks());
    for bytes in [0, 1, 70, 100] {
        let ending = through(talks(), |bent| bent.attach_stalls = Some(bytes));
        if let Err(fault) = the_same(&undisturbed, &ending) {
            panic!("attach stalled after {bytes} bytes: {fault}");
        }
    }
}

#[test]
fn a_script_that_the_engine_took_only_in_part_is_run_whole_and_once() {
    let undisturbed = run(talks());
    for bytes in [0, 1, 20, 400, 900] {
        for nth in [1, 2] {
            let ending = with_faults(talks(), |bench| {
                bench
                    .engine
                    .fault(Verb::ContainerAttach, nth, Fault::CutStdin(bytes));
            });
            if let Err(fault) = the_same(&undisturbed, &ending) {
                panic!("stdin of attach {nth} cut after {bytes} bytes: {fault}");
            }
        }
    }
}

#[test]
fn a_script_that_never_arrives_whole_is_no_success() {
    let ending = with_faults(Setup::script(Work::talks()), |bench| {
        let cut = Fault::CutStdin(20);
        bench
            .engine
            .fault_on(Verb::ContainerAttach, "", 1, u32::MAX, cut);
    });
    assert_eq!(ending.verdict.state, JobState::Failed);
    assert!(ending.ran.is_empty());
    assert!(ending.cause().is_system_failure(), "{:?}", ending.cause());
}

#[test]
fn without_events_the_end_is_learned_from_the_wait() {
    let undisturbed = run(talks());
    assert_the_same(
        &undisturbed,
        &through(talks(), |bent| bent.no_events = true),
    );
    let refused = with_faults(talks(), |bench| {
        let fault = failed(500, "no events today");
        bench.engine.fault_on(Verb::Events, "", 1, u32::MAX, fault);
    });
    assert_the_same(&undisturbed, &refused);
}

#[test]
fn with_events_nobody_waits_for_a_late_wait() {
    let undisturbed = run(talks());
    let late = Duration::from_secs(100_000);
    let ending = through(talks(), |bent| bent.wait_later = late);
    assert_the_same(&undisturbed, &ending);
}

#[test]
fn a_wait_that_breaks_while_the_container_runs_changes_nothing() {
    let undisturbed = run(talks());
    for ms in [0, 100, 700, 1400] {
        let ending = through(talks(), |bent| {
            bent.no_events = true;
            bent.wait_breaks = Some(Duration::from_millis(ms));
        });
        assert_the_same(&undisturbed, &ending);
    }
}

#[test]
fn without_events_and_with_a_late_wait_the_state_tells_the_end() {
    let undisturbed = run(talks());
    let ending = through(talks(), |bent| {
        bent.no_events = true;
        bent.wait_later = Duration::from_secs(100_000);
    });
    assert_the_same(&undisturbed, &ending);
}

#[test]
fn output_past_the_end_of_the_log_driver_is_missed_with_a_word() {
    // Attach breaks, and the log cannot be read.
    let ending = with_faults(talks(), |bench| {
        bench
            .engine
            .fault(Verb::ContainerAttach, 1, Fault::CutOutput(30));
        let broken = failed(501, "configured logging driver does not support reading");
        bench
            .engine
            .fault_on(Verb::ContainerLogs, "", 1, u32::MAX, broken);
    });
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 3 });
    ending.assert_says("first line\n");
    assert!(ending.count("the rest of the output cannot be read") >= 1);
}
