//! Calls that the engine refuses, whose answers get lost, or that it never answers.

use std::time::Duration;

use gantry_engine::{
    EngineError,
    fake::{Fault, Verb},
};
use gantry_job::Cause;
use rstest::rstest;

use crate::harness::{
    Bench, Ending, Entrypoint, Setup, Work, assert_the_same, case, failed, run, with_faults,
    work::OnTerm,
};

fn talks() -> Setup {
    Setup::script(Work::talks().exits(3)).after_script(Work::talks())
}

fn bad_request(message: &str) -> Fault {
    Fault::Error(EngineError::BadRequest {
        what: "start container".to_owned(),
        message: message.to_owned(),
    })
}

#[test]
fn a_name_in_use_is_taken_over() {
    // The answer to the first create got lost.
    for nth in [1, 2, 3] {
        let setup = Setup::script(Work::says("hello\n")).git();
        let ending = with_faults(setup, |bench| {
            bench
                .engine
                .fault(Verb::ContainerCreate, nth, Fault::EffectThenLost);
        });
        ending.assert_success();
        assert_eq!(ending.stages_ran(), ["step_script"]);
    }
}

#[test]
fn a_start_whose_answer_is_lost_runs_the_script_once() {
    let undisturbed = run(talks());
    for nth in [1, 2] {
        let ending = with_faults(talks(), |bench| {
            bench
                .engine
                .fault(Verb::ContainerStart, nth, Fault::EffectThenLost);
        });
        assert_the_same(&undisturbed, &ending);
    }
}

#[rstest]
#[case::attach(Verb::ContainerAttach)]
#[case::wait(Verb::ContainerWait)]
#[case::start(Verb::ContainerStart)]
#[case::create(Verb::ContainerCreate)]
fn an_engine_that_is_away_for_a_moment_when_a_script_begins_is_waited_for(#[case] verb: Verb) {
    let undisturbed = run(talks());
    let ending = case(async {
        let bench = Bench::new(talks());
        bench
            .engine
            .fault_on(verb, "-build", 1, 1, Fault::EffectThenDown);
        let engine = bench.engine.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(7)).await;
            engine.come_up();
        });
        bench.run_to_end().await
    });
    assert_the_same(&undisturbed, &ending);
}

#[rstest]
#[case::exec_format("exec /bin/sh: exec format error: unknown", true)]
#[case::not_found(
    "OCI runtime create failed: exec: \"sh\": executable file not found in $PATH: unknown",
    false
)]
fn a_container_that_cannot_start_fails_the_job_once_with_a_cause(
    #[case] message: &str,
    #[case] exec_format: bool,
    #[values(true, false)] refused: bool,
) {
    let ending = with_faults(Setup::script(Work::nothing()), |bench| {
        let fault = if refused {
            bad_request(message)
        } else {
            failed(500, message)
        };
        bench
            .engine
            .fault_on(Verb::ContainerStart, "-build", 1, u32::MAX, fault);
    });
    match ending.cause() {
        Cause::ExecFormat { exit_code, .. } if exec_format => assert_eq!(*exit_code, None),
        Cause::ShellNotFound { .. } if !exec_format => {}
        other => panic!("{other:?}"),
    }
    let starts = |ending: &Ending| {
        let starts = ending.calls.iter();
        starts
            .filter(|call| call.verb == Verb::ContainerStart)
            .count()
    };
    assert_eq!(starts(&ending), 1);
}

#[rstest]
#[case::missing("exec: \"/none\": stat /none: no such file or directory: unknown")]
#[case::not_executable("exec: \"/etc/passwd\": permission denied: unknown")]
fn an_entrypoint_that_cannot_be_run_is_named_and_not_the_shell(#[case] message: &str) {
    let setup = Setup::script(Work::nothing()).entrypoint(Entrypoint::Execs { words: "" });
    let ending = with_faults(setup, |bench| {
        let fault = bad_request(message);
        bench
            .engine
            .fault_on(Verb::ContainerStart, "-build", 1, u32::MAX, fault);
    });
    assert!(
        matches!(ending.cause(), Cause::Configuration { .. }),
        "{:?}",
        ending.cause()
    );
    ending.assert_says("the entrypoint of image \"alpine:3.20\" cannot be run");
    ending.assert_says(message);
}

// === Stop and removal ===

fn deaf() -> Work {
    Work::hangs().on_term(OnTerm::Deaf)
}

#[test]
fn a_stop_that_never_answers_does_not_hold_the_job() {
    let setup = Setup::script(deaf())
        .after_script(Work::says("cleaned up\n"))
        .variable("RUNNER_SCRIPT_TIMEOUT", "10s");
    let ending = with_faults(setup, |bench| {
        bench
            .engine
            .fault_on(Verb::ContainerStop, "-build", 1, u32::MAX, Fault::Hang);
    });
    assert_eq!(*ending.cause(), Cause::ScriptTimeout);
    assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
    ending.assert_says("cleaned up\n");
}

#[test]
fn a_stop_that_times_out_again_and_again_does_not_hold_the_job() {
    let setup = Setup::script(deaf())
        .after_script(Work::says("cleaned up\n"))
        .variable("RUNNER_SCRIPT_TIMEOUT", "10s");
    let ending = with_faults(setup, |bench| {
        let late = Fault::Error(EngineError::TimedOut {
            what: "stop container".to_owned(),
            seconds: 40,
        });
        bench
            .engine
            .fault_on(Verb::ContainerStop, "-build", 1, u32::MAX, late);
    });
    assert_eq!(*ending.cause(), Cause::ScriptTimeout);
    assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
}

#[test]
fn a_container_that_cannot_be_removed_at_once_is_removed_for_the_next_stage() {
    let setup = Setup::script(Work::hangs())
        .after_script(Work::says("cleaned up\n"))
        .variable("RUNNER_SCRIPT_TIMEOUT", "10s");
    let ending = with_faults(setup, |bench| {
        let busy = failed(500, "driver failed to remove root filesystem: busy");
        bench
            .engine
            .fault_on(Verb::ContainerRemove, "-build", 1, 5, busy);
    });
    assert_eq!(*ending.cause(), Cause::ScriptTimeout);
    assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
    assert_ne!(ending.ran[0].container, ending.ran[1].container);
}

#[test]
fn removal_goes_on_until_the_engine_lets_go() {
    let setup = Setup::script(Work::says("hello\n")).git().services();
    let ending = with_faults(setup, |bench| {
        let busy = || failed(500, "device or resource busy");
        for (verb, subject) in [
            (Verb::ContainerRemove, "-build"),
            (Verb::ContainerRemove, "postgres"),
            (Verb::NetworkRemove, ""),
            (Verb::NetworkList, ""),
        ] {
            bench.engine.fault_on(verb, subject, 1, 2, busy());
        }
    });
    ending.assert_success();
}

#[test]
fn a_removal_that_fails_for_good_is_told_and_can_be_repeated() {
    case(async {
        let bench = Bench::new(Setup::script(Work::says("hello\n")));
        let busy = failed(500, "device or resource busy");
        bench
            .engine
            .fault_on(Verb::ContainerRemove, "-build", 1, u32::MAX, busy);
        let process = bench.start().await;
        let (_, removed) = process.live().await.unwrap();
        assert!(!removed);
        assert!(!bench.left().is_empty());
        bench.engine.clear_faults();
        assert!(process.job.remove().await);
        assert!(bench.left().is_empty());
    });
}

#[test]
fn a_container_that_a_script_started_on_the_jobs_network_goes_with_it() {
    let work = Work::nothing().does(|world| {
        let engine = world.engine.clone();
        let network = engine
            .containers()
            .iter()
            .find(|container| container.state.name.ends_with("-build"))
            .map(|build| build.spec.host.network_mode.clone());
        let spec = gantry_container::ContainerSpec {
            image: "redis:7".to_owned(),
            host: gantry_container::HostSpec {
                network_mode: network.unwrap(),
                ..Default::default()
            },
            ..Default::default()
        };
        tokio::spawn(async move {
            use gantry_engine::Engine as _;
            let id = engine.container_create("own", &spec).await.unwrap();
            engine.container_start(&id).await.unwrap();
        });
    });
    let ending = run(Setup::script(work.pause_ms(100)).services());
    ending.assert_success();
}
