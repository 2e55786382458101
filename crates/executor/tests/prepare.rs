//! The preparation: its tries, and services.

use std::time::Duration;

use gantry_engine::{
    EngineError,
    fake::{Fault, Verb},
};
use gantry_job::Cause;
use tokio::time::Instant;

use crate::harness::{Bench, Setup, Work, case, run, through, with_faults};

fn refuses(status: u16) -> Fault {
    Fault::Error(EngineError::Failed {
        what: "create volume".to_owned(),
        status,
        message: "the engine is confused".to_owned(),
    })
}

#[test]
fn an_error_of_the_engine_in_prepare_is_tried_again_twice() {
    let (ending, took) = case(async {
        let bench = Bench::new(Setup::script(Work::says("hello\n")).services());
        bench
            .engine
            .fault_on(Verb::VolumeCreate, "", 1, 2, refuses(500));
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    });
    ending.assert_success();
    assert_eq!(ending.count("ERROR: Preparation failed: "), 2);
    assert_eq!(ending.count("Will be retried in 3s ...\n"), 2);
    assert!(took >= Duration::from_secs(6), "{took:?}");
}

#[test]
fn of_two_networks_of_one_name_one_is_removed_before_the_name_is_used() {
    let setup = Setup::script(Work::says("hello\n")).services();
    let ending = through(setup, |bent| {
        // A network is looked for only where there may be one already.
        bent.engine
            .fault_on(Verb::NetworkCreate, "", 1, 1, refuses(500));
        bent.networks_twice = true;
    });
    ending.assert_success();
    let first = |wanted: &[Verb]| {
        ending
            .calls
            .iter()
            .position(|call| wanted.contains(&call.verb))
            .unwrap()
    };
    assert!(first(&[Verb::NetworkRemove]) < first(&[Verb::ContainerStart]));
}

#[test]
fn the_third_failure_of_prepare_is_the_jobs() {
    let ending = case(async {
        let bench = Bench::new(Setup::script(Work::nothing()).after_script(Work::nothing()));
        bench
            .engine
            .fault_on(Verb::VolumeCreate, "", 1, u32::MAX, refuses(500));
        bench.run_to_end().await
    });
    assert!(matches!(ending.cause(), Cause::Engine { .. }));
    assert!(ending.ran.is_empty());
    assert_eq!(ending.count("Preparation failed: "), 2);
    ending.assert_says("ERROR: Job failed (system failure): creating docker volume: ");
    ending.assert_sections_close();
}

/// The engine is still at work on a call of a dead process: it refuses the name and shows no container of it.
#[test]
fn a_name_that_is_taken_by_something_unseen_is_waited_for() {
    for container in ["-build", "-predefined", "-carrier", "-0"] {
        let setup = Setup::script(Work::says("hello\n")).git().services();
        let ending = with_faults(setup, |bench| {
            let taken = Fault::Error(EngineError::Conflict {
                what: "create container".to_owned(),
                message: "the name is already in use".to_owned(),
            });
            bench
                .engine
                .fault_on(Verb::ContainerCreate, container, 1, 40, taken);
        });
        ending.assert_success();
        ending.assert_says("hello\n");
    }
}

#[test]
fn a_mistake_of_the_configuration_fails_once() {
    let ending = case(async {
        let bench = Bench::new(Setup::script(Work::nothing()).services());
        let refused = Fault::Error(gantry_engine::EngineError::BadRequest {
            what: "create container".to_owned(),
            message: "invalid IP address in add-host".to_owned(),
        });
        bench
            .engine
            .fault_on(Verb::ContainerCreate, "postgres", 1, 1, refused);
        bench.run_to_end().await
    });
    assert!(matches!(ending.cause(), Cause::Configuration { .. }));
    ending.assert_never_says("Preparation failed");
    ending.assert_says("ERROR: Job failed: create container: invalid IP address in add-host\n");
}

#[test]
fn services_start_before_the_script_with_their_names() {
    let ending = run(Setup::script(Work::says("hello\n")).services());
    ending.assert_success();
    ending.assert_order(&[
        "Starting service postgres:16...\n",
        "Starting service redis:7...\n",
        "hello\n",
    ]);
}

#[test]
fn without_a_network_of_the_job_services_are_found_by_their_addresses() {
    case(async {
        let bench = Bench::new(
            Setup::script(Work::hangs())
                .services()
                .variable("FF_NETWORK_PER_BUILD", "false")
                .job_timeout(60),
        );
        let process = bench.start().await;
        let life = tokio::time::timeout(Duration::from_secs(5), process.live());
        life.await.unwrap_err();
        let containers = bench.engine.containers();
        let build = containers
            .iter()
            .find(|container| container.state.name.ends_with("-build"))
            .unwrap();
        let hosts = &build.spec.host.extra_hosts;
        for name in ["postgres", "db", "redis", "cache", "kv"] {
            let found = hosts
                .iter()
                .any(|line| line.starts_with(&format!("{name}:172.")));
            assert!(found, "{name} in {hosts:?}");
        }
    });
}
