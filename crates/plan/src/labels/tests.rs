use rstest::rstest;

use super::*;
use crate::fixture::{Fixture, image, short_labels};

#[test]
fn every_object_carries_the_peers_labels_and_whose_it_is() {
    let plan = Fixture::new()
        .with(|it| {
            it.numbers.concurrent = 4;
            it.numbers.concurrent_project = 2;
        })
        .plan();
    let labels: Vec<_> = short_labels(&plan.labels).into_iter().collect();
    assert_eq!(
        labels,
        [
            ("gantry.state", "state0"),
            ("job.before_sha", "0000000000000000000000000000000000000000"),
            ("job.id", "42"),
            ("job.ref", "main"),
            ("job.sha", "265c14cf0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
            ("job.timeout", "2h0m0s"),
            (
                "job.url",
                "https://gitlab.example.com/group/project/-/jobs/42"
            ),
            ("managed", "true"),
            ("pipeline.id", "99"),
            ("project.id", "7"),
            ("project.runner_id", "2"),
            ("runner.id", "tok"),
            ("runner.local_id", "4"),
            ("runner.system_id", "sys"),
        ]
    );
    assert!(
        plan.labels
            .keys()
            .all(|key| key == STATE_LABEL || key.starts_with(LABEL_PREFIX))
    );
}

#[test]
fn containers_add_their_type_to_the_default_set() {
    let plan = Fixture::new().service(image("redis")).plan();
    for container in [
        &plan.build,
        plan.helper.as_ref().unwrap(),
        &plan.services[0].container,
    ] {
        for (key, value) in &plan.labels {
            assert_eq!(
                container.spec.labels.get(key),
                Some(value),
                "{}",
                container.name
            );
        }
    }
    assert_eq!(plan.build.spec.labels.len(), plan.labels.len() + 1);
}

#[test]
fn a_jobs_objects_are_found_by_owner_and_job() {
    let labels = Fixture::new().plan().own_labels();
    let labels: Vec<_> = labels
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        labels,
        [
            ("com.gitlab.gitlab-runner.job.id", "42"),
            ("gantry.state", "state0")
        ]
    );
}

#[rstest]
#[case(99, "1", "99")]
#[case(0, "1", "1")]
#[case(0, "", "")]
fn the_pipeline_is_the_payloads_else_its_variable(
    #[case] id: i64,
    #[case] variable: &str,
    #[case] label: &str,
) {
    let fixture = Fixture::new()
        .variable("CI_PIPELINE_ID", variable)
        .with(|it| it.payload.job_info.pipeline_id = id);
    assert_eq!(short_labels(&fixture.plan().labels)["pipeline.id"], label);
}

#[rstest]
#[case(10, "10s")]
#[case(3600, "1h0m0s")]
#[case(0, "2h0m0s")]
#[case(-1, "2h0m0s")]
fn the_timeout_is_written_as_the_peer_does(#[case] seconds: i64, #[case] label: &str) {
    let fixture = Fixture::new().with(|it| it.payload.runner_info.timeout = seconds);
    assert_eq!(short_labels(&fixture.plan().labels)["job.timeout"], label);
}

#[rstest]
#[case("https://u:secret@h:8443/g/p.git", "https://h:8443/g/p/-/jobs/42")]
#[case("https://h/g/p", "https://h/g/p/-/jobs/42")]
#[case(
    "https://h/g/p.git?private_token=secret#secret",
    "https://h/g/p/-/jobs/42"
)]
#[case("https://secret@h?secret@x/y", "https://h/-/jobs/42")]
#[case("git@h:g/p.git", "/-/jobs/42")]
#[case("secret", "/-/jobs/42")]
fn the_address_of_a_job_holds_no_credentials(#[case] url: &str, #[case] expected: &str) {
    let fixture = Fixture::new().with(|it| it.payload.git_info.repo_url = url.into());
    assert_eq!(job_url(&fixture.payload), expected);
}
