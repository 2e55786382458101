//! Stages of the helper over connections that break, and a helper that does not answer or is gone.

use std::time::Duration;

use gantry_engine::{
    EngineError,
    fake::{Down, ExecHandler, FakeEngine, Fault, Verb},
};
use gantry_job::Cause;
use tokio::{io::AsyncReadExt, time::Instant};

use crate::harness::{
    Bench, Ending, Setup, Work, case,
    deaths::{Course, Death, survive, the_same},
    run, with_faults,
};

fn with_sources() -> Setup {
    Setup::script(Work::says("hello\n")).git()
}

fn helper_of(engine: &FakeEngine) -> String {
    let helper = engine
        .containers()
        .into_iter()
        .find(|container| container.state.name.ends_with("-predefined"));
    helper.unwrap().state.name
}

#[test]
fn a_connection_that_breaks_at_any_byte_loses_and_doubles_no_output() {
    let undisturbed = run(with_sources());
    for bytes in (0..900).step_by(13) {
        let ending = with_faults(with_sources(), |bench| {
            bench.engine.fault(Verb::Exec, 1, Fault::CutOutput(bytes));
        });
        if let Err(fault) = the_same(&undisturbed, &ending) {
            panic!("cut after {bytes} bytes: {fault}");
        }
        assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
    }
}

#[test]
fn a_connection_that_ends_cleanly_at_any_byte_loses_and_doubles_no_output() {
    let undisturbed = run(with_sources());
    for bytes in (0..900).step_by(37) {
        let ending = with_faults(with_sources(), |bench| {
            bench.engine.fault(Verb::Exec, 1, Fault::EndOutput(bytes));
        });
        if let Err(fault) = the_same(&undisturbed, &ending) {
            panic!("ended after {bytes} bytes: {fault}");
        }
    }
}

#[test]
fn a_helper_that_is_gone_between_two_stages_is_replaced() {
    for killed in [true, false] {
        let script = Work::says("hello\n").does(move |world| {
            let helper = helper_of(&world.engine);
            if killed {
                world.engine.kill_container(&helper);
            } else {
                world.engine.vanish_container(&helper);
            }
        });
        let ending = run(Setup::script(script).git());
        ending.assert_success();
        assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
    }
}

#[test]
fn a_request_that_arrives_in_part_is_sent_again() {
    let undisturbed = run(with_sources());
    for bytes in [0, 5, 60, 200, 1000] {
        let ending = with_faults(with_sources(), |bench| {
            bench.engine.fault(Verb::Exec, 1, Fault::CutStdin(bytes));
        });
        if let Err(fault) = the_same(&undisturbed, &ending) {
            panic!("cut after {bytes} bytes: {fault}");
        }
        assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
    }
}

#[test]
fn connections_that_break_again_and_again_lead_to_the_end_all_the_same() {
    let undisturbed = run(with_sources());
    let ending = with_faults(with_sources(), |bench| {
        for nth in 1..20 {
            let cut = Fault::CutOutput(250 + 13 * nth as usize);
            bench.engine.fault(Verb::Exec, nth, cut);
        }
    });
    if let Err(fault) = the_same(&undisturbed, &ending) {
        panic!("{fault}");
    }
}

#[test]
fn breaks_that_lie_minutes_apart_are_no_reason_to_give_up() {
    let mut fetch = Work::nothing();
    for n in 0..6 {
        let line = format!("part {n}\n");
        fetch = fetch
            .out(&line)
            .pause_ms(50_000)
            // Each cuts the connection that is there.
            .does(|world| {
                world.engine.go_down(Down::ContainersLive);
                world.engine.come_up();
            });
    }
    let ending = run(with_sources().helper("get_sources", fetch));
    ending.assert_success();
    for n in 0..6 {
        ending.assert_says(&format!("part {n}\n"));
    }
    assert_eq!(ending.helped, ["get_sources/1", "cleanup_file_variables/1"]);
}

fn that_talks_a_lot() -> Setup {
    let mut fetch = Work::nothing();
    for n in 0..40 {
        let line = format!("{n:04} {}\n", "x".repeat(200));
        fetch = fetch.out(&line.repeat(100)).pause_ms(10);
    }
    let mut setup = with_sources().helper("get_sources", fetch);
    setup.runner.output_limit = 64 << 20;
    setup
}

/// What was acknowledged is gone in the agent: it must be in the log by then, whenever the runner dies.
#[test]
fn output_is_acknowledged_only_once_it_is_in_the_log() {
    let course = Course::of(that_talks_a_lot);
    assert!(course.ending.log.len() > 800_000);
    let deaths: Vec<[Death; 1]> = course
        .instants(9)
        .into_iter()
        .map(|death| [death])
        .collect();
    survive(that_talks_a_lot, &course, deaths, the_same);
}

#[test]
fn a_helper_that_does_not_answer_fails_the_job_after_ten_seconds_with_a_reason() {
    let (ending, took) = case(async {
        let bench = Bench::new(with_sources());
        bench.agents.fall_silent();
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    });
    assert!(
        matches!(ending.cause(), Cause::HelperNoHello { .. }),
        "{:?}",
        ending.cause()
    );
    assert!(ending.ran.is_empty());
    ending.assert_says("the helper did not answer within 10s");
    // Also the clean-up asked.
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn something_else_that_answers_is_named() {
    let ending = with_faults(with_sources(), |bench| {
        let other = ExecHandler::new(|run| async move {
            run.stdout("Usage: tool FILE\n");
            // Reads its stdin like anybody else.
            let (mut input, output) = run.into_io();
            let read = input.read_to_end(&mut Vec::new()).await;
            drop(output);
            i64::from(read.is_err())
        });
        bench.engine.on_exec("-predefined", other);
    });
    match ending.cause() {
        Cause::HelperLost { message, .. } => assert!(message.contains("Usage"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_helper_container_that_ends_is_named_with_its_exit_code() {
    let fetch = Work::says("Fetching changes...\n").does(|world| {
        let engine = world.engine.clone();
        tokio::spawn(async move { engine.kill_container(&helper_of(&engine)) });
    });
    let ending = run(with_sources().helper("get_sources", fetch.then_hangs()));
    match ending.cause() {
        Cause::HelperLost { message, .. } => {
            assert!(message.contains("exit code 137"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    ending.assert_says("Fetching changes...\n");
    assert!(ending.ran.is_empty());
}

#[test]
fn a_helper_container_that_was_removed_is_named() {
    let fetch = Work::nothing().does(|world| {
        let engine = world.engine.clone();
        tokio::spawn(async move { engine.vanish_container(&helper_of(&engine)) });
    });
    let ending = run(with_sources().helper("get_sources", fetch.then_hangs()));
    match ending.cause() {
        Cause::HelperLost { message, .. } => {
            assert!(message.contains("was removed"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_helper_that_dies_between_stages_does_not_change_the_result() {
    let work = Work::says("hello\n").does(|world| {
        let engine = world.engine.clone();
        tokio::spawn(async move { engine.kill_container(&helper_of(&engine)) });
    });
    let ending = run(Setup::script(work.pause_ms(500)).git());
    ending.assert_success();
}

#[test]
fn a_helper_that_is_gone_when_the_runner_comes_back_fetches_again() {
    let ending = case(async {
        let fetch = Work::says("Fetching changes...\n").pause_ms(10_000);
        let bench = Bench::new(with_sources().helper("get_sources", fetch));
        let process = bench.start().await;
        let life = tokio::time::timeout(Duration::from_secs(3), process.live());
        life.await.unwrap_err();
        drop(process);
        bench.engine.kill_container(&helper_of(&bench.engine));
        bench.run_to_end().await
    });
    ending.assert_success();
    assert_eq!(
        ending.helped,
        [
            "get_sources/1",
            "get_sources/1.2",
            "cleanup_file_variables/1"
        ]
    );
    assert_eq!(ending.stages_ran(), ["step_script"]);
    let said = ending.log.matches("Fetching changes...\n").count();
    assert_eq!(said, 2, "all of what both said: {}", ending.log);
}

/// The second helper is at work when the next process finds it.
#[test]
fn a_stage_of_a_replaced_helper_goes_on_when_the_runner_comes_back_again() {
    let ending = case(async {
        let fetch = Work::says("Fetching changes...\n")
            .pause_ms(10_000)
            .out("Done\n");
        let bench = Bench::new(with_sources().helper("get_sources", fetch));
        for killed in [true, false] {
            let process = bench.start().await;
            let life = tokio::time::timeout(Duration::from_secs(3), process.live());
            life.await.unwrap_err();
            drop(process);
            if killed {
                bench.engine.kill_container(&helper_of(&bench.engine));
            }
        }
        bench.run_to_end().await
    });
    ending.assert_success();
    assert_eq!(
        ending.helped,
        [
            "get_sources/1",
            "get_sources/1.2",
            "cleanup_file_variables/1"
        ]
    );
    assert_eq!(ending.log.matches("Fetching changes...\n").count(), 2);
    assert_eq!(ending.log.matches("Done\n").count(), 1);
}

#[test]
fn a_connection_in_use_is_used_for_all_stages() {
    case(async {
        let bench = Bench::new(with_sources());
        bench.run_to_end().await.assert_success();
        assert_eq!(bench.agents.connections(), 1);
    });
}

#[test]
fn the_helper_program_is_put_into_its_volume_once() {
    let ending = run(with_sources());
    let uploads = |ending: &Ending| {
        let puts = ending.calls.iter();
        puts.filter(|call| {
            call.verb == Verb::ArchivePut && call.subject.starts_with("gantry-tools")
        })
        .count()
    };
    assert_eq!(uploads(&ending), 1);
}

#[test]
fn a_tools_volume_that_another_runner_fills_is_waited_for() {
    // The other one died in the middle.
    let ending = case(async {
        let bench = Bench::new(with_sources());
        let spec = gantry_container::ContainerSpec {
            image: "alpine:3.20".to_owned(),
            ..Default::default()
        };
        use gantry_engine::Engine as _;
        bench
            .engine
            .container_create("gantry-tools-0123456789abcdef-fill", &spec)
            .await
            .unwrap();
        bench.run_to_end().await
    });
    ending.assert_success();
}

#[test]
fn a_missing_helper_program_names_the_setting() {
    let ending = case(async {
        let bench = Bench::new(with_sources());
        let mut process = bench.start().await;
        process.job.environment.helper_binaries =
            std::sync::Arc::new(|architecture| Err(format!("helper_binary.{architecture}")));
        bench.finish(process).await.unwrap()
    });
    assert!(matches!(ending.cause(), Cause::HelperBinaryMissing { .. }));
    ending.assert_says("name one with helper_binary.x86_64");
}

#[test]
fn a_helper_that_cannot_be_created_fails_the_job_before_any_script() {
    let ending = with_faults(with_sources(), |bench| {
        let refused = Fault::Error(EngineError::BadRequest {
            what: "create container".to_owned(),
            message: "invalid mount".to_owned(),
        });
        bench
            .engine
            .fault_on(Verb::ContainerCreate, "-predefined", 1, u32::MAX, refused);
    });
    assert!(matches!(ending.cause(), Cause::Configuration { .. }));
    assert!(ending.ran.is_empty());
}
