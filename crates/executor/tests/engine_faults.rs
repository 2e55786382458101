//! The engine cuts, hangs, refuses, goes away and comes back; the job learns the truth all the same, or says what it cannot know.

use std::time::Duration;

use gantry_engine::{
    EngineError,
    fake::{Down, Fault, Verb},
};
use gantry_executor::Wish;
use gantry_job::{Cause, JobState};
use rstest::rstest;
use tokio::time::Instant;

use crate::harness::{
    Bench, Ending, Setup, Work,
    bent::Bent,
    case,
    deaths::the_same,
    run,
    work::{OnTerm, World},
};

/// A job whose engine has these faults.
fn with_faults(setup: Setup, faults: impl FnOnce(&Bench)) -> Ending {
    case(async {
        let bench = Bench::new(setup);
        faults(&bench);
        bench.run_to_end().await
    })
}

/// A job that sees its engine through something.
fn through(setup: Setup, bend: impl FnOnce(&mut Bent)) -> Ending {
    case(async {
        let mut bench = Bench::new(setup);
        let mut bent = Bent::new(&bench.engine);
        bend(&mut bent);
        bench.through = Some(bent.shared());
        bench.run_to_end().await
    })
}

fn failed(status: u16, message: &str) -> Fault {
    Fault::Error(EngineError::Failed {
        what: "a call".to_owned(),
        status,
        message: message.to_owned(),
    })
}

fn bad_request(message: &str) -> Fault {
    Fault::Error(EngineError::BadRequest {
        what: "start container".to_owned(),
        message: message.to_owned(),
    })
}

#[track_caller]
fn assert_the_same(undisturbed: &Ending, ending: &Ending) {
    if let Err(fault) = the_same(undisturbed, ending) {
        panic!("{fault}");
    }
}

fn talks() -> Setup {
    Setup::script(Work::talks().exits(3)).after_script(Work::talks())
}

// === Streams ===

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

// === Engine away ===

/// Says something before, while and after the engine is away for some seconds.
fn across_a_gap(down: Down) -> Work {
    Work::says("before\n")
        .pause_ms(100)
        .does(move |world| away(world, down, 8))
        .pause_ms(2000)
        .out("meanwhile\n")
        .pause_ms(20_000)
        .out("after\n")
        .exits(3)
}

fn away(world: &World, down: Down, seconds: u64) {
    world.engine.go_down(down);
    let engine = world.engine.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        engine.come_up();
    });
}

#[test]
fn a_container_that_lives_through_an_absence_of_the_engine_loses_no_output() {
    let ending = run(Setup::script(across_a_gap(Down::ContainersLive)));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 3 });
    ending.assert_order(&["before\n", "meanwhile\n", "after\n"]);
    for line in ["before\n", "meanwhile\n", "after\n"] {
        ending.assert_says(line);
    }
    ending.assert_says("WARNING: the container engine was away for");
    assert_eq!(ending.stages_ran(), ["step_script"]);
}

#[test]
fn a_container_that_ends_while_the_engine_is_away_keeps_its_exit_code_and_the_gap_is_told() {
    let work = Work::says("before\n")
        .pause_ms(100)
        .does(|world| away(world, Down::ContainersLive, 8))
        .pause_ms(2000)
        .out("lost\n")
        .exits(5);
    let ending = run(Setup::script(work));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 5 });
    ending.assert_says("before\n");
    ending.assert_never_says("lost\n");
    ending.assert_says("output of a container that ended meanwhile may be missing");
}

#[test]
fn a_container_that_ends_well_while_the_engine_is_away_is_a_success() {
    let work = Work::says("before\n")
        .does(|world| away(world, Down::ContainersLive, 30))
        .pause_ms(2000);
    run(Setup::script(work)).assert_success();
}

#[test]
fn a_container_that_the_stopping_engine_killed_is_no_script_failure() {
    let ending = run(Setup::script(across_a_gap(Down::ContainersKilled)));
    assert!(
        matches!(ending.cause(), Cause::EngineStopped { .. }),
        "{:?}",
        ending.cause()
    );
    ending.assert_says("before\n");
    ending.assert_says("(system failure): the container engine stopped while step_script ran");
}

#[test]
fn an_engine_that_dies_just_after_it_killed_the_container_is_found_out() {
    let work = Work::says("before\n")
        .does(|world| {
            let engine = world.engine.clone();
            tokio::spawn(async move {
                // The end is told first, and then the engine is gone.
                tokio::time::sleep(Duration::from_secs(1)).await;
                engine.go_down(Down::ContainersKilled);
                tokio::time::sleep(Duration::from_secs(20)).await;
                engine.come_up();
            });
        })
        .exits(137);
    let ending = run(Setup::script(work));
    assert!(matches!(ending.cause(), Cause::EngineStopped { .. }));
}

#[test]
fn a_kill_from_outside_is_the_scripts_own_exit_code() {
    let work = Work::says("before\n")
        .does(|world| {
            let engine = world.engine.clone();
            tokio::spawn(async move {
                let build = engine
                    .containers()
                    .into_iter()
                    .find(|container| container.state.name.ends_with("-build"));
                engine.kill_container(&build.unwrap().state.name);
            });
        })
        .then_hangs();
    let ending = run(Setup::script(work));
    assert_eq!(*ending.cause(), Cause::ScriptExit { code: 137 });
}

#[test]
fn errors_of_an_engine_that_comes_up_are_no_verdict_on_the_container() {
    let ending = case(async {
        let bench = Bench::new(Setup::script(
            Work::says("before\n")
                .does(|world| {
                    away(world, Down::ContainersLive, 3);
                    let starting = failed(500, "the daemon is starting");
                    world
                        .engine
                        .fault_on(Verb::ContainerInspect, "", 4, 6, starting);
                })
                .pause_ms(30_000)
                .out("after\n"),
        ));
        bench.run_to_end().await
    });
    ending.assert_success();
    ending.assert_order(&["before\n", "after\n"]);
}

#[test]
fn an_absence_in_a_helper_stage_is_waited_for() {
    let fetch = Work::says("Fetching changes...\n")
        .does(|world| away(world, Down::ContainersLive, 300))
        .pause_ms(10_000)
        .out("Checking out\n");
    let ending = run(Setup::script(Work::says("hello\n"))
        .git()
        .helper("get_sources", fetch));
    ending.assert_success();
    ending.assert_says("Fetching changes...\n");
    ending.assert_says("Checking out\n");
    assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
}

#[test]
fn a_job_whose_engine_never_comes_back_ends_with_its_time() {
    let work = Work::says("before\n").does(|world| world.engine.go_down(Down::ContainersLive));
    let ending = case(async {
        let bench = Bench::new(Setup::script(work.then_hangs()).job_timeout(600));
        let process = bench.start().await;
        let (verdict, removed) = process.live().await.unwrap();
        assert!(!removed);
        bench.engine.come_up();
        assert!(process.job.remove().await);
        bench.ending(&process, verdict).await.unwrap()
    });
    assert!(matches!(ending.cause(), Cause::JobTimeout { .. }));
}

fn canceled_while_away(world: &World) {
    world.engine.go_down(Down::ContainersLive);
    world.server.wish(Wish::Cancel);
}

#[test]
fn a_cancel_while_the_engine_is_away_is_done_when_it_is_back() {
    let work = Work::says("before\n").does(|world| {
        canceled_while_away(world);
        away(world, Down::ContainersLive, 10);
    });
    let ending = run(Setup::script(work.then_hangs()).after_script(Work::says("cleaned up\n")));
    assert_eq!(*ending.cause(), Cause::Canceled);
    assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
    ending.assert_says("before\n");
    ending.assert_says("cleaned up\n");
}

#[test]
fn a_cancel_while_the_engine_is_away_for_good_gives_the_container_up() {
    let work = Work::says("before\n").does(canceled_while_away);
    let ending = case(async {
        let setup = Setup::script(work.then_hangs()).after_script(Work::nothing());
        let bench = Bench::new(setup);
        let process = bench.start().await;
        let begin = Instant::now();
        let (verdict, removed) = process.live().await.unwrap();
        assert!(!removed);
        // The after_script had its 5 minutes.
        assert!(begin.elapsed() < Duration::from_secs(450));
        bench.engine.come_up();
        assert!(process.job.remove().await);
        bench.ending(&process, verdict).await.unwrap()
    });
    assert_eq!(*ending.cause(), Cause::Canceled);
    assert_eq!(ending.stages_ran(), ["step_script"]);
}

// === Container gone ===

fn vanishes() -> Work {
    Work::says("first try\n")
        .does(|world| {
            let engine = world.engine.clone();
            tokio::spawn(async move {
                let build = engine
                    .containers()
                    .into_iter()
                    .find(|container| container.state.name.ends_with("-build"));
                engine.vanish_container(&build.unwrap().state.name);
            });
        })
        .then_hangs()
}

#[test]
fn a_container_removed_from_outside_is_named() {
    let ending = run(Setup::script(vanishes()).after_script(Work::says("cleaned up\n")));
    assert!(
        matches!(ending.cause(), Cause::ContainerVanished { .. }),
        "{:?}",
        ending.cause()
    );
    assert_eq!(ending.stages_ran(), ["step_script", "after_script"]);
    ending.assert_never_says("Execution attempts exceeded");
    ending.assert_says("cleaned up\n");
}

#[test]
fn a_second_attempt_gets_a_new_container() {
    let setup = Setup::new()
        .step_each_time("script", vec![vanishes(), Work::says("second try\n")])
        .variable("EXECUTOR_JOB_SECTION_ATTEMPTS", "2");
    let ending = run(setup);
    ending.assert_success();
    ending.assert_order(&[
        "first try\n",
        "ERROR: Container \"",
        "not found or removed. Will retry...\n",
        "Retrying step_script\n",
        "second try\n",
    ]);
    assert_eq!(ending.stages_ran(), ["step_script", "step_script"]);
    assert_ne!(ending.ran[0].container, ending.ran[1].container);
}

#[test]
fn attempts_come_to_an_end() {
    let setup = Setup::script(vanishes()).variable("EXECUTOR_JOB_SECTION_ATTEMPTS", "2");
    let ending = run(setup);
    assert!(matches!(ending.cause(), Cause::ContainerVanished { .. }));
    assert_eq!(ending.ran.len(), 2);
    ending.assert_order(&["Will retry...", "ERROR: Execution attempts exceeded\n"]);
    ending.assert_says("Execution attempts exceeded");
}

#[test]
fn a_container_removed_between_two_stages_is_made_again() {
    let remove = |world: &World| {
        let engine = world.engine.clone();
        tokio::spawn(async move {
            let build = engine
                .containers()
                .into_iter()
                .find(|container| container.state.name.ends_with("-build"));
            engine.vanish_container(&build.unwrap().state.name);
        });
    };
    // Removed while the helper fetches, before its first start.
    let ending = run(Setup::script(Work::says("hello\n"))
        .git()
        .helper("get_sources", Work::nothing().does(remove).pause_ms(100)));
    ending.assert_success();
    ending.assert_says("hello\n");
}

// === Refusals ===

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
