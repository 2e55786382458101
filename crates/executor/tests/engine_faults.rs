//! The engine goes away and comes back, or containers vanish from it; the job learns the truth all the same, or says what it
//! cannot know.

use std::time::Duration;

use gantry_engine::fake::{Down, FakeEngine, Verb};
use gantry_executor::Wish;
use gantry_job::Cause;
use rstest::rstest;
use tokio::time::Instant;

use crate::harness::{Bench, Setup, Work, case, failed, run, work::World};

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
        assert!(!verdict.stopped, "nobody could stop its container");
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
    goes_by(FakeEngine::vanish_container)
}

/// While the script runs, its container is removed so.
fn goes_by(remove: fn(&FakeEngine, &str)) -> Work {
    Work::says("first try\n")
        .does(move |world| {
            let engine = world.engine.clone();
            tokio::spawn(async move {
                let build = engine
                    .containers()
                    .into_iter()
                    .find(|container| container.state.name.ends_with("-build"));
                remove(&engine, &build.unwrap().state.name);
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

/// Engines kill a container and then take their time to remove it: its end is told before it is gone.
#[test]
fn a_container_that_is_killed_for_its_removal_was_removed() {
    let ending = run(Setup::script(goes_by(FakeEngine::begin_removal)));
    assert!(
        matches!(ending.cause(), Cause::ContainerVanished { .. }),
        "{:?}",
        ending.cause()
    );
}

#[rstest]
#[case::gone_at_once(FakeEngine::vanish_container)]
#[case::gone_after_a_while(FakeEngine::begin_removal)]
fn a_second_attempt_gets_a_new_container(#[case] remove: fn(&FakeEngine, &str)) {
    let setup = Setup::new()
        .step_each_time("script", vec![goes_by(remove), Work::says("second try\n")])
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
