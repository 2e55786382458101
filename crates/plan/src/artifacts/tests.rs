use gantry_job::payload::{Dependency as Wanted, DependencyFile};
use rstest::rstest;

use super::*;
use crate::{
    Plan,
    fixture::{Fixture, JOB_TOKEN, strings},
};

fn artifact(when: &str) -> Artifact {
    Artifact {
        name: "dist".to_owned(),
        paths: strings(&["dist/"]),
        when: when.to_owned(),
        ..Artifact::default()
    }
}

fn with(artifacts: Vec<Artifact>) -> Fixture {
    Fixture::new().with(|it| it.payload.artifacts = artifacts)
}

fn names(plan: &Plan) -> Vec<String> {
    let stages = plan.stages.iter();
    stages
        .map(|stage| stage.stage.section_name().into_owned())
        .collect()
}

fn uploaded<'a>(plan: &'a Plan, name: &str) -> &'a UploadArtifactsRequest {
    let mut stages = plan.stages.iter();
    match stages.find(|stage| stage.stage.section_name() == name) {
        Some(crate::PlannedStage {
            work: StageWork::UploadArtifacts(request),
            ..
        }) => request,
        _ => panic!("nothing is uploaded {name}"),
    }
}

#[rstest]
#[case("", &["upload_artifacts_on_success"])]
#[case("on_success", &["upload_artifacts_on_success"])]
#[case("on_failure", &["upload_artifacts_on_failure"])]
#[case("always", &["upload_artifacts_on_success", "upload_artifacts_on_failure"])]
fn when_decides_which_stages_upload(#[case] when: &str, #[case] stages: &[&str]) {
    let plan = with(vec![artifact(when)]).plan();
    let found: Vec<_> = names(&plan)
        .into_iter()
        .filter(|name| name.starts_with("upload"))
        .collect();
    assert_eq!(found, stages);
}

#[test]
fn stages_stand_in_the_order_of_the_peer() {
    let plan = with(vec![artifact("always")])
        .with(|it| {
            it.payload.cache = vec![gantry_job::payload::Cache {
                untracked: true,
                when: "always".to_owned(),
                ..Default::default()
            }];
            it.payload.dependencies = vec![dependency("build", "artifacts.zip")];
        })
        .plan();
    assert_eq!(
        names(&plan),
        [
            "prepare_script",
            "get_sources",
            "restore_cache",
            "download_artifacts",
            "step_script",
            "archive_cache",
            "archive_cache_on_failure",
            "upload_artifacts_on_success",
            "upload_artifacts_on_failure",
            "cleanup_file_variables"
        ]
    );
}

#[test]
fn every_field_of_an_entry_reaches_the_helper_as_it_is() {
    let plan = with(vec![
        Artifact {
            name: "a/$CI_JOB_NAME".to_owned(),
            exclude: strings(&["dist/**/*.tmp"]),
            untracked: true,
            artifact_type: "archive".to_owned(),
            artifact_format: "zip".to_owned(),
            expire_in: "1 week".to_owned(),
            ..artifact("")
        },
        Artifact {
            artifact_type: "junit".to_owned(),
            artifact_format: "gzip".to_owned(),
            ..artifact("always")
        },
    ])
    .plan();
    let request = uploaded(&plan, "upload_artifacts_on_success");
    assert_eq!(request.job_id, 42);
    assert_eq!(request.token.expose(), JOB_TOKEN);
    assert_eq!(request.coordinator.url, "https://gitlab.example.com");
    assert_eq!(
        (
            request.timeout_seconds,
            request.response_header_timeout_seconds
        ),
        (3600, 600)
    );
    let entry = &request.entries[0];
    assert_eq!(entry.name, "a/$CI_JOB_NAME");
    assert_eq!(entry.selection.exclude, ["dist/**/*.tmp"]);
    assert!(entry.selection.untracked);
    assert_eq!(
        (entry.format.as_str(), entry.expire_in.as_str()),
        ("zip", "1 week")
    );
    assert_eq!(request.entries[1].artifact_type, "junit");
    assert_eq!(
        uploaded(&plan, "upload_artifacts_on_failure").entries.len(),
        1
    );
}

#[test]
fn exclusions_alone_upload_and_nothing_at_all_does_not() {
    let only_exclude = Artifact {
        paths: Vec::new(),
        exclude: strings(&["x"]),
        ..artifact("")
    };
    let nothing = Artifact {
        paths: Vec::new(),
        ..artifact("")
    };
    let plan = with(vec![only_exclude, nothing]).plan();
    assert_eq!(
        uploaded(&plan, "upload_artifacts_on_success").entries.len(),
        1
    );
}

fn dependency(name: &str, file: &str) -> Wanted {
    Wanted {
        id: 41,
        token: "other-token".into(),
        name: name.to_owned(),
        artifacts_file: DependencyFile {
            filename: file.to_owned(),
            size: 1,
        },
    }
}

#[test]
fn only_dependencies_with_a_file_are_fetched_each_with_its_own_token() {
    let plan = Fixture::new()
        .with(|it| {
            it.payload.dependencies =
                vec![dependency("lint", ""), dependency("build", "artifacts.zip")];
        })
        .variable("ARTIFACT_DOWNLOAD_ATTEMPTS", "3")
        .variable("FF_USE_DIRECT_DOWNLOAD", "false")
        .plan();
    let mut stages = plan.stages.iter();
    let stage = stages
        .find(|stage| stage.stage.section_name() == "download_artifacts")
        .unwrap();
    assert_eq!(stage.attempts, 3);
    let StageWork::DownloadArtifacts(request) = &stage.work else {
        panic!("nothing is fetched");
    };
    let found: Vec<_> = request
        .dependencies
        .iter()
        .map(|one| (one.id, one.name.as_str(), one.token.expose()))
        .collect();
    assert_eq!(found, [(41, "build", "other-token")]);
    assert!(!request.direct_download);
}

#[test]
fn a_provenance_statement_is_made_when_asked_for_and_holds_no_credentials() {
    assert!(
        uploaded(
            &with(vec![artifact("")]).plan(),
            "upload_artifacts_on_success"
        )
        .provenance
        .is_none()
    );
    let plan = with(vec![artifact("")])
        .variable("RUNNER_GENERATE_ARTIFACTS_METADATA", "true")
        .variable("CI_RUNNER_ID", "12")
        .plan();
    let provenance = uploaded(&plan, "upload_artifacts_on_success")
        .provenance
        .clone()
        .unwrap();
    assert_eq!(
        provenance.repo_url,
        "https://gitlab.example.com/group/project.git"
    );
    assert_eq!(provenance.runner_id, "12");
    assert_eq!(
        provenance.parameters,
        ["RUNNER_GENERATE_ARTIFACTS_METADATA", "CI_RUNNER_ID"]
    );
}

#[test]
fn tokens_are_not_printed_with_the_plan() {
    let fixture = with(vec![artifact("")])
        .with(|it| it.payload.dependencies = vec![dependency("build", "artifacts.zip")]);
    let masks = fixture.log_plan().masks;
    let plan = fixture.plan();
    let printed = format!(
        "{}{}",
        crate::render::text(&plan, &masks),
        crate::render::json(&plan, &masks)
    );
    assert!(!printed.contains("other-token") && !printed.contains(JOB_TOKEN));
    assert!(printed.contains("artifacts of build"));
}

#[test]
fn a_job_without_a_server_keeps_artifacts_in_a_directory() {
    let fixture = with(vec![artifact("always")]).with(|it| {
        it.runner.url = String::new();
        it.payload.dependencies = vec![dependency("build", "artifacts.zip")];
    });
    assert!(!names(&fixture.plan()).contains(&"upload_artifacts_on_success".to_owned()));
    let plan = fixture.with(|it| it.artifacts = ArtifactsAt::Here).plan();
    for stage in ["upload_artifacts_on_success", "upload_artifacts_on_failure"] {
        let folder = uploaded(&plan, stage).folder.clone();
        assert_eq!(folder, Some(KEPT_ARTIFACTS.into()));
    }
    let given = plan.stages.iter().find_map(|stage| match &stage.work {
        StageWork::DownloadArtifacts(request) => request.folder.clone(),
        _ => None,
    });
    assert_eq!(given, Some(GIVEN_ARTIFACTS.into()));
}
