//! Images by their pull policies, and what the log says of it.

use std::time::Duration;

use gantry_config::PullPolicy;
use gantry_engine::{
    EngineError,
    fake::{FakeImage, Fault, Verb},
};
use gantry_job::{Cause, PullFailure};
use tokio::time::Instant;

use crate::harness::{Bench, Ending, Setup, Work, case, run, setup::BUILD_IMAGE};

fn by(policies: &[PullPolicy]) -> Setup {
    Setup::script(Work::says("hello\n"))
        .with(|setup| setup.runner.docker.pull_policy = policies.to_vec())
}

/// The build image is in the registry alone.
fn remote(policies: &[PullPolicy]) -> Setup {
    by(policies).with(|setup| setup.registry = Some(vec![FakeImage::new(BUILD_IMAGE)]))
}

fn pulls(ending: &Ending) -> usize {
    let pulls = ending.calls.iter();
    pulls.filter(|call| call.verb == Verb::ImagePull).count()
}

#[test]
fn always_pulls_also_what_is_there() {
    let setup = by(&[PullPolicy::Always])
        .with(|setup| setup.registry = Some(vec![FakeImage::new(BUILD_IMAGE)]))
        .with(|setup| setup.images.push(FakeImage::new(BUILD_IMAGE)));
    let ending = run(setup);
    ending.assert_success();
    assert_eq!(pulls(&ending), 1);
    ending.assert_order(&[
        "Using effective pull policy of [always] for container alpine:3.20\n",
        "Pulling docker image alpine:3.20 ...\n",
        "Using docker image sha256:",
        " for alpine:3.20 with digest alpine@sha256:",
    ]);
}

#[test]
fn if_not_present_takes_what_is_there() {
    let ending = run(by(&[PullPolicy::IfNotPresent]));
    ending.assert_success();
    assert_eq!(pulls(&ending), 0);
    ending.assert_order(&[
        "Using effective pull policy of [if-not-present] for container alpine:3.20\n",
        "Using locally found image version due to \"if-not-present\" pull policy\n",
        "Using docker image sha256:",
    ]);
}

#[test]
fn if_not_present_pulls_what_is_not() {
    let ending = run(remote(&[PullPolicy::IfNotPresent]));
    ending.assert_success();
    assert_eq!(pulls(&ending), 1);
    ending.assert_never_says("Using locally found");
}

#[test]
fn never_does_not_pull_and_fails_once() {
    let ending = run(remote(&[PullPolicy::Never]));
    assert_eq!(pulls(&ending), 0);
    let failure = PullFailure::NotFound;
    assert!(
        matches!(ending.cause(), Cause::ImagePull { failure: found, .. } if *found == failure),
        "{:?}",
        ending.cause()
    );
    ending.assert_never_says("Preparation failed");
}

#[test]
fn the_next_policy_is_tried_when_one_fails() {
    let setup = by(&[PullPolicy::Always, PullPolicy::IfNotPresent]);
    let ending = run(setup);
    ending.assert_success();
    ending.assert_order(&[
        "Using effective pull policy of [always if-not-present] for container alpine:3.20\n",
        "Pulling docker image alpine:3.20 ...\n",
        "WARNING: Failed to pull image with policy \"always\": ",
        "Attempt #2: Trying \"if-not-present\" pull policy\n",
        "Using locally found image version",
    ]);
}

#[test]
fn an_image_that_does_not_exist_fails_once_with_all_policies_named() {
    let setup = by(&[PullPolicy::Always, PullPolicy::Never])
        .with(|setup| setup.registry = Some(Vec::new()));
    let ending = run(setup);
    ending.assert_says(
        "ERROR: Job failed: failed to pull image \"alpine:3.20\" with specified policies [always never]: ",
    );
    ending.assert_never_says("Preparation failed");
    assert!(ending.ran.is_empty());
}

#[test]
fn a_registry_that_does_not_answer_is_asked_three_times() {
    let (ending, took) = case(async {
        let bench = Bench::new(remote(&[PullPolicy::Always]));
        bench.engine.refuse_pull(
            BUILD_IMAGE,
            "Get \"https://fake/v2/\": dial tcp: i/o timeout",
        );
        let begin = Instant::now();
        (bench.run_to_end().await, begin.elapsed())
    });
    assert_eq!(pulls(&ending), 3);
    ending.assert_order(&[
        "WARNING: Failed to pull image \"alpine:3.20\" (attempt #1), retrying: ",
        "WARNING: Failed to pull image \"alpine:3.20\" (attempt #2), retrying: ",
        "WARNING: Failed to pull image with policy \"always\": ",
        "ERROR: Job failed",
    ]);
    assert!(took >= Duration::from_secs(6), "{took:?}");
}

#[test]
fn a_pull_that_works_the_second_time_is_fine() {
    let ending = case(async {
        let bench = Bench::new(remote(&[PullPolicy::Always]));
        let reset = Fault::Error(EngineError::Pull {
            image: BUILD_IMAGE.to_owned(),
            message: "net/http: TLS handshake timeout".to_owned(),
        });
        bench.engine.fault(Verb::ImagePull, 1, reset);
        bench.run_to_end().await
    });
    ending.assert_success();
    assert_eq!(pulls(&ending), 2);
    ending.assert_says("(attempt #1), retrying: net/http: TLS handshake timeout\n");
}

#[test]
fn an_image_of_the_job_is_pulled_for_its_platform() {
    let setup = remote(&[PullPolicy::Always]).with(|setup| {
        let image = setup.payload.image.as_mut().unwrap();
        image.executor_opts.docker.platform = "linux/arm64".to_owned();
    });
    let ending = run(setup);
    ending.assert_says("Pulling docker image alpine:3.20 for platform linux/arm64 ...\n");
    let pull = ending
        .calls
        .iter()
        .find(|call| call.verb == Verb::ImagePull);
    assert_eq!(pull.unwrap().detail, "linux/arm64");
}

#[test]
fn lines_of_images_come_in_the_order_of_a_job_that_takes_one_after_the_other() {
    let setup = by(&[PullPolicy::Always]).services().with(|setup| {
        let names = [BUILD_IMAGE, "postgres:16", "redis:7"];
        setup.registry = Some(names.map(FakeImage::new).to_vec());
        setup.images.clear();
    });
    // Without a delay and with the first the slowest.
    for delay in [0, 30] {
        let ending = case(async {
            let names = ["postgres", "redis"];
            let bench = Bench::new(by(&[PullPolicy::Always]).services().with(|changed| {
                changed.registry.clone_from(&setup.registry);
                changed.images.clear();
            }));
            for (place, name) in names.iter().enumerate() {
                let slow = Fault::Delay(Duration::from_secs(delay / (place as u64 + 1)));
                bench.engine.fault_on(Verb::ImagePull, name, 1, 1, slow);
            }
            bench.run_to_end().await
        });
        ending.assert_success();
        ending.assert_order(&[
            "Starting service postgres:16...\n",
            "Pulling docker image postgres:16 ...\n",
            " for postgres:16 with digest",
            "Starting service redis:7...\n",
            "Pulling docker image redis:7 ...\n",
            " for redis:7 with digest",
            "Pulling docker image alpine:3.20 ...\n",
            " for alpine:3.20 with digest",
        ]);
    }
}

#[test]
fn containers_are_made_from_the_image_that_was_found_and_not_from_its_tag() {
    let ending = run(Setup::script(Work::says("hello\n")));
    let create = ending
        .calls
        .iter()
        .find(|call| call.verb == Verb::ContainerCreate && call.subject.ends_with("-build"));
    assert!(create.unwrap().detail.starts_with("alpine@sha256:"));
}
