//! Images by their pull policies, and what the log says of it.

use std::time::Duration;

use gantry_config::PullPolicy;
use gantry_engine::{
    EngineError,
    fake::{FakeImage, Fault, Verb},
};
use gantry_job::{Cause, PullFailure, payload::Credential};
use tokio::time::Instant;

use crate::harness::{
    Bench, Ending, Setup, Work, case, run,
    setup::{BUILD_IMAGE, HELPER_IMAGE},
};

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

/// Build container and two services of one image are prepared side by side.
#[test]
fn an_image_of_several_containers_is_pulled_once() {
    for policy in [PullPolicy::Always, PullPolicy::IfNotPresent] {
        let setup = remote(&[policy]).services().with(|setup| {
            for service in &mut setup.payload.services {
                BUILD_IMAGE.clone_into(&mut service.name);
            }
        });
        let ending = run(setup);
        ending.assert_success();
        assert_eq!(pulls(&ending), 1, "{policy:?}");
    }
}

#[test]
fn a_pull_that_fails_for_one_of_several_containers_fails_the_job_once() {
    let setup = remote(&[PullPolicy::Always]).services().with(|setup| {
        for service in &mut setup.payload.services {
            BUILD_IMAGE.clone_into(&mut service.name);
        }
        setup.registry = Some(Vec::new());
    });
    let ending = run(setup);
    assert!(
        matches!(ending.cause(), Cause::ImagePull { .. }),
        "{:?}",
        ending.cause()
    );
    ending.assert_never_says("Preparation failed");
}

/// A digest of another repository goes with that one's tag, also while a job runs.
#[test]
fn an_image_that_other_repositories_have_too_is_taken_by_its_own_name() {
    let other = "registry.example.com/copy@sha256:0123";
    let only_other = by(&[PullPolicy::Never]).with(|setup| {
        let image = FakeImage::new(BUILD_IMAGE);
        let image = image.with(|info| info.repo_digests = vec![other.to_owned()]);
        setup.images = vec![image];
    });
    let ending = run(only_other);
    ending.assert_success();
    ending.assert_never_says(other);
    let both = by(&[PullPolicy::Never]).with(|setup| {
        let image = FakeImage::new(BUILD_IMAGE);
        let image = image.with(|info| info.repo_digests.insert(0, other.to_owned()));
        setup.images = vec![image];
    });
    let ending = run(both);
    ending.assert_success();
    ending.assert_says(" for alpine:3.20 with digest alpine@sha256:");
    ending.assert_never_says(other);
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
    let failure = PullFailure::NotOnEngine;
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
        "ERROR: Job failed (system failure): failed to pull image \"alpine:3.20\" with specified policies [always never]: ",
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

// === Credentials ===

const PRIVATE: &str = "registry.example.com/team/app:1";

/// The build image is in a private registry.
fn private() -> Setup {
    by(&[PullPolicy::Always]).with(|setup| {
        let image = FakeImage::new(PRIVATE).requiring("robot", "s3cret-pass");
        setup.registry = Some(vec![image]);
        setup.payload.image.as_mut().unwrap().name = PRIVATE.to_owned();
    })
}

/// `robot` and its password.
const AUTH: &str = r#"{"auths":{"registry.example.com":{"auth":"cm9ib3Q6czNjcmV0LXBhc3M="}}}"#;

#[test]
fn credentials_of_a_variable_open_a_private_registry() {
    let ending = run(private().variable("DOCKER_AUTH_CONFIG", AUTH));
    ending.assert_success();
    ending.assert_order(&[
        "Authenticating with credentials from $DOCKER_AUTH_CONFIG\n",
        "Pulling docker image registry.example.com/team/app:1 ...\n",
    ]);
    ending.assert_never_says("s3cret-pass");
}

#[test]
fn credentials_of_the_payload_open_a_private_registry() {
    let ending = run(private().with(|setup| {
        setup.payload.credentials = vec![Credential {
            kind: "registry".to_owned(),
            url: "registry.example.com".to_owned(),
            username: "robot".to_owned(),
            password: "s3cret-pass".into(),
        }];
    }));
    ending.assert_success();
    ending.assert_says("Authenticating with credentials from job payload (GitLab Registry)\n");
}

#[test]
fn a_private_registry_without_credentials_fails_the_job_once() {
    let ending = run(private());
    assert!(matches!(ending.cause(), Cause::ImagePull { .. }));
    assert_eq!(pulls(&ending), 1);
    ending.assert_never_says("Authenticating");
    ending.assert_never_says("Preparation failed");
}

#[test]
fn credentials_that_cannot_be_read_are_warned_of() {
    let ending = run(by(&[PullPolicy::Always])
        .with(|setup| setup.registry = Some(vec![FakeImage::new(BUILD_IMAGE)]))
        .variable("DOCKER_AUTH_CONFIG", "{\"auths\":"));
    ending.assert_success();
    ending.assert_says("WARNING: Failed to resolve credentials from $DOCKER_AUTH_CONFIG: ");
}

// === The helper's image ===

fn with_helper_image(local: bool, packaged: bool, offered: bool) -> Ending {
    case(async {
        let setup = Setup::script(Work::says("hello\n")).git();
        let bench = Bench::new(setup);
        if !local {
            bench.engine.remove_image(HELPER_IMAGE);
        }
        if offered {
            bench
                .engine
                .add_registry_image(FakeImage::new(HELPER_IMAGE));
        }
        let mut process = bench.start().await;
        let folder = tempfile::tempdir().unwrap();
        if packaged {
            let file = folder.path().join("helper.tar");
            std::fs::write(&file, "an image").unwrap();
            process.job.environment.packaged_helper_image = Some(file);
            bench
                .engine
                .add_loadable_image(FakeImage::new(HELPER_IMAGE));
        }
        bench.finish(process).await.unwrap()
    })
}

fn loads(ending: &Ending) -> usize {
    let loads = ending.calls.iter();
    loads.filter(|call| call.verb == Verb::ImageLoad).count()
}

#[test]
fn the_helper_image_is_taken_where_it_is_at_hand() {
    let ending = with_helper_image(true, true, true);
    ending.assert_success();
    assert_eq!((loads(&ending), pulls(&ending)), (0, 0));
    ending.assert_never_says("helper image");

    let ending = with_helper_image(false, true, true);
    ending.assert_success();
    assert_eq!((loads(&ending), pulls(&ending)), (1, 0));

    let ending = with_helper_image(false, false, true);
    ending.assert_success();
    assert_eq!((loads(&ending), pulls(&ending)), (0, 1));
    ending.assert_says("Using helper image:  gantry/helper:1\n");
}

#[test]
fn a_helper_image_that_is_nowhere_names_the_setting() {
    let ending = with_helper_image(false, false, false);
    assert!(matches!(ending.cause(), Cause::ImagePull { .. }));
    ending.assert_says("ERROR: Job failed");
    ending.assert_says("set [runners.docker] helper_image to any image with git and a shell");
}

#[test]
fn a_helper_image_of_the_configuration_is_shown_with_the_default() {
    let setup = Setup::script(Work::says("hello\n")).git().with(|setup| {
        setup.runner.docker.helper_image = Some("my/git:2".to_owned());
        setup.images.push(FakeImage::new("my/git:2"));
    });
    let ending = run(setup);
    ending.assert_success();
    ending.assert_says(
        "Using helper image:  my/git:2  (overridden, default would be  gantry/helper:1 )\n",
    );
    let create = ending
        .calls
        .iter()
        .find(|call| call.verb == Verb::ContainerCreate && call.subject.ends_with("-predefined"));
    assert!(create.unwrap().detail.starts_with("my/git@sha256:"));
}
