use std::num::NonZeroUsize;

use gantry_config::LogDriver;
use gantry_container::EngineFlavor;
use gantry_job::Variable;
use gantry_pipeline::{ProjectFacts, parse};
use gantry_plan::StageWork;
use rstest::rstest;

use super::*;

fn options() -> RunOptions {
    RunOptions {
        at_once: NonZeroUsize::MIN,
        pull_policy: None,
        image: None,
        variables: Vec::new(),
        timeout: None,
        privileged: false,
        artifacts: None,
        keep_going: false,
    }
}

fn jobs(file: &str, options: &RunOptions) -> Result<Vec<Option<PlannedJob>>, Vec<JobProblem>> {
    preparation(options).jobs(&parse("f", file).unwrap(), || [7; 8])
}

fn preparation(options: &RunOptions) -> Preparation {
    let run = LocalRun {
        project: ProjectFacts {
            folder: "shop".to_owned(),
            config_path: ".gitlab-ci.yml".to_owned(),
            ..ProjectFacts::default()
        },
        variables: options.variables.clone(),
        timeout: options.timeout,
        ..LocalRun::default()
    };
    let engine = EngineFacts {
        flavor: EngineFlavor::Docker,
        version: "20.10.24".to_owned(),
        api_version: "1.41".to_owned(),
        os: "linux".to_owned(),
        architecture: "x86_64".to_owned(),
        host_name: String::new(),
    };
    let host = HostFacts {
        name: "here".to_owned(),
        system_id: "local".to_owned(),
        state_id: "0123456789abcdef".to_owned(),
        version: "19.4.0".to_owned(),
        revision: "r".to_owned(),
        executable_arch: "linux/amd64".to_owned(),
        helper_image: "helper".to_owned(),
        log_driver: LogDriver::Auto,
        link_variables: true,
        naming: gantry_config::Naming::default(),
        shared_local_cache: false,
        nested_variables: false,
        s3_multipart: true,
        mask_encoded: true,
    };
    Preparation {
        run,
        facts: JobFacts {
            job_id: 40,
            ..JobFacts::default()
        },
        options: options.clone(),
        host,
        engine,
        cache_volume: "gantry-exec-shop-1-cache".to_owned(),
    }
}

/// The plans; there must be no problem.
fn plans(file: &str, options: &RunOptions) -> Vec<PlannedJob> {
    match jobs(file, options) {
        Ok(jobs) => jobs.into_iter().map(|job| job.expect("planned")).collect(),
        Err(problems) => panic!("{problems:?}"),
    }
}

fn policies(plan: &Plan) -> Vec<&[PullPolicy]> {
    let services = plan.services.iter();
    std::iter::once(&plan.build)
        .chain(services.map(|service| &service.container))
        .map(|container| container.image.policies.as_slice())
        .collect()
}

#[test]
fn no_two_jobs_share_a_name_of_anything() {
    let planned = plans(
        "a: {image: i, script: x}\nb: {image: i, script: x}",
        &options(),
    );
    let [a, b] = planned.as_slice() else {
        panic!("two jobs")
    };
    assert_eq!((a.plan.job_id, b.plan.job_id), (40, 41));
    assert_ne!(a.plan.build.name, b.plan.build.name);
    assert_ne!(a.plan.volumes[0].spec.name, b.plan.volumes[0].spec.name);
    assert!(
        a.plan.names.project_unique.contains("local0123"),
        "part of the state id tells people on one engine apart: {}",
        a.plan.names.project_unique
    );
}

#[test]
fn a_job_works_on_the_tree_without_a_helper_and_keeps_no_volume() {
    let planned = plans("a: {image: i, script: x, after_script: [y]}", &options());
    let PlannedJob {
        plan,
        log,
        with_tree,
        submodules,
    } = &planned[0];
    assert!(*with_tree);
    assert_eq!(*submodules, Submodules::None);
    assert!(plan.helper.is_none());
    assert!(plan.volumes.iter().all(|volume| volume.temporary));
    assert!(plan.network.is_none());
    assert_eq!(plan.directories.project, "/builds/local/shop");
    assert!(!log.timestamps);
    assert!(!plan.script.trace_sections);
}

#[rstest]
#[case("none", Submodules::None)]
#[case("normal", Submodules::Direct)]
#[case("recursive", Submodules::Nested)]
fn submodules_are_part_of_the_tree_as_the_job_says(
    #[case] strategy: &str,
    #[case] expected: Submodules,
) {
    let file =
        format!("a: {{image: i, script: x, variables: {{GIT_SUBMODULE_STRATEGY: {strategy}}}}}");
    assert_eq!(plans(&file, &options())[0].submodules, expected);
}

#[rstest]
#[case::none("none")]
#[case::empty("empty")]
fn without_sources_there_is_no_tree_and_still_no_helper(#[case] strategy: &str) {
    let file = format!("a: {{image: i, script: x, variables: {{GIT_STRATEGY: {strategy}}}}}");
    let planned = plans(&file, &options());
    assert!(!planned[0].with_tree);
    assert!(planned[0].plan.helper.is_none());
    let StageWork::Lines(lines) = &planned[0].plan.stages[1].work else {
        panic!("no sources")
    };
    assert!(
        lines[0].contains("Skipping Git repository setup"),
        "{lines:?}"
    );
}

#[rstest]
#[case::default(None, "a: {image: i, script: x, services: [s]}", &[PullPolicy::IfNotPresent, PullPolicy::IfNotPresent])]
#[case::the_file_says_more(
    None,
    "a: {image: {name: i, pull_policy: [always, if-not-present]}, script: x, services: [{name: s, pull_policy: never}]}",
    &[PullPolicy::Always, PullPolicy::Never]
)]
#[case::the_command_line_wins(
    Some(PullPolicy::Never),
    "a: {image: {name: i, pull_policy: always}, script: x, services: [{name: s, pull_policy: always}]}",
    &[PullPolicy::Never, PullPolicy::Never]
)]
fn images_are_pulled_as_whoever_says_most_says(
    #[case] pull_policy: Option<PullPolicy>,
    #[case] file: &str,
    #[case] first: &[PullPolicy],
) {
    let options = RunOptions {
        pull_policy,
        ..options()
    };
    let planned = plans(file, &options);
    let found: Vec<_> = policies(&planned[0].plan)
        .iter()
        .map(|policies| policies[0])
        .collect();
    assert_eq!(found, first);
}

#[test]
fn a_job_without_image_gets_that_of_the_run_or_is_a_problem_with_its_place() {
    let with_image = RunOptions {
        image: Some("given".to_owned()),
        ..options()
    };
    let planned = plans("a: {script: x}", &with_image);
    assert_eq!(planned[0].plan.image_name, "given");
    let problems = jobs("a: {script: x}\n\nb: {script: x}", &options())
        .map(drop)
        .unwrap_err();
    let places: Vec<_> = problems
        .iter()
        .map(|problem| problem.place.as_str())
        .collect();
    assert_eq!(places, [".gitlab-ci.yml:1", ".gitlab-ci.yml:3"]);
    assert!(problems[0].message.contains("--image"), "{problems:?}");
}

#[rstest]
#[case::with_services("services: [s]", true)]
#[case::without("stage: test", false)]
#[case::the_job_says_no("services: [s], variables: {FF_NETWORK_PER_BUILD: 'false'}", false)]
#[case::the_job_says_yes("variables: {FF_NETWORK_PER_BUILD: 'true'}", true)]
fn a_job_with_services_has_a_network_unless_it_says_otherwise(
    #[case] more: &str,
    #[case] network: bool,
) {
    let planned = plans(&format!("a: {{image: i, script: x, {more}}}"), &options());
    assert_eq!(planned[0].plan.network.is_some(), network);
}

#[rstest]
#[case::bad_image("a: {image: 'No Image', script: x}", "No Image")]
#[case::circle("a: {image: i, script: x, variables: {A: $B, B: $A}}", "circular")]
fn what_cannot_be_run_is_told_before_anything_starts(#[case] file: &str, #[case] word: &str) {
    let problems = jobs(file, &options()).map(drop).unwrap_err();
    let message = problems[0].message.to_lowercase();
    assert!(message.contains(&word.to_lowercase()), "{message}");
}

#[test]
fn variables_timeout_and_privileges_of_the_run_reach_the_plan() {
    let options = RunOptions {
        variables: vec![Variable::new("V", "run")],
        timeout: Some(std::time::Duration::from_secs(90)),
        privileged: true,
        ..options()
    };
    let planned = plans("a: {image: i, script: x, variables: {V: job}}", &options);
    let plan = &planned[0].plan;
    assert_eq!(plan.variables.value("V"), "run");
    assert_eq!(plan.limits.job, std::time::Duration::from_secs(90));
    assert!(plan.build.spec.host.privileged);
}

#[test]
fn a_job_with_caches_has_the_volume_of_the_project_and_one_without_has_not() {
    let file =
        "a: {image: i, script: x, cache: {paths: [c]}}\nb: {image: i, script: x, cache: {key: k}}";
    let planned = plans(file, &options());
    let bind = "gantry-exec-shop-1-cache:/cache".to_owned();
    let has = |job: &PlannedJob| job.plan.build.spec.host.binds.contains(&bind);
    assert!(has(&planned[0]) && !has(&planned[1]));
    let helper = planned[0].plan.helper.as_ref().expect("a helper");
    assert!(helper.spec.host.binds.contains(&bind));
    assert!(
        planned[0]
            .plan
            .volumes
            .iter()
            .all(|volume| volume.temporary)
    );
}

#[rstest]
#[case::variables_may_come("reports: {dotenv: e}", "", true)]
#[case::files_only("paths: [f]", "", false)]
#[case::none_of_them_comes("reports: {dotenv: e}", ", dependencies: []", false)]
fn a_job_whose_image_an_earlier_one_may_name_is_planned_later(
    #[case] artifacts: &str,
    #[case] more: &str,
    #[case] later: bool,
) {
    let file = format!(
        "a: {{stage: build, image: i, script: x, artifacts: {{{artifacts}}}}}\nb: {{image: $IMAGE, script: x{more}}}"
    );
    match jobs(&file, &options()) {
        Ok(jobs) => assert!(later && jobs[0].is_some() && jobs[1].is_none()),
        Err(problems) => assert!(!later && problems[0].job == "b"),
    }
}

#[test]
fn what_earlier_jobs_hand_on_is_in_the_plan() {
    let run = plans("a: {image: i, script: x}", &options());
    assert!(run[0].plan.helper.is_none());
    let given = Given {
        job: "build".to_owned(),
        id: 7,
        archive: Some(("/x/0.zip".into(), 12)),
        variables: vec![Variable::new("V", "reported")],
        earlier: None,
    };
    let pipeline = parse("f", "a: {image: 'i:$V', script: x}").unwrap();
    let planned = preparation(&options())
        .job(0, &pipeline.jobs[0], &[given], [7; 8])
        .unwrap();
    assert_eq!(planned.plan.image_name, "i:reported");
    let request = planned
        .plan
        .stages
        .iter()
        .find_map(|stage| match &stage.work {
            StageWork::DownloadArtifacts(request) => Some(request),
            _ => None,
        });
    let request = request.expect("artifacts are fetched");
    assert_eq!(
        (request.dependencies[0].id, request.folder.is_some()),
        (7, true)
    );
}
