use gantry_job::{Variables, unsupported_keywords};

use super::*;
use crate::predefined::{Commit, UserFacts};
use crate::{KeyBy, parse};

const FILE: &str = r#"
variables: {GLOBAL: g, BOTH: global, CI_COMMIT_BRANCH: mine, GITLAB_USER_NAME: mine, RUN: yaml}
default:
  image: alpine
  before_script: [one]
job:
  stage: build
  image: {name: "img:$TAG", entrypoint: [""], pull_policy: [always, never], docker: {user: 1000, platform: linux/arm64}}
  services:
    - postgres:16
    - {name: redis, alias: "cache, r", command: [--port, "1"], entrypoint: [/e], variables: {V: 1}, pull_policy: if-not-present}
  variables: {TAG: "v$GLOBAL", BOTH: job, RAW: {value: "$TAG", expand: false}}
  script: [two, three]
  after_script: four
plain:
  script: x
"#;

fn run() -> LocalRun {
    LocalRun {
        git: GitFacts {
            commit: Some(Commit {
                sha: "ab".repeat(20),
                ..Commit::default()
            }),
            branch: Some("main".to_owned()),
            remote_url: Some("git@git.example.com:acme/tools/shop.git".to_owned()),
            ..GitFacts::default()
        },
        project: ProjectFacts {
            user: UserFacts {
                name: "Ada".to_owned(),
                ..UserFacts::default()
            },
            ..ProjectFacts::default()
        },
        variables: vec![Variable::new("RUN", "run")],
        timeout: None,
        key_hashes: KeyHashes::default(),
    }
}

fn payload(job: &str) -> JobPayload {
    let pipeline = parse("f", FILE).unwrap();
    let facts = JobFacts {
        job_id: 9,
        pipeline_id: 4,
        ..JobFacts::default()
    };
    to_payload(pipeline.job(job).unwrap(), &run(), &facts).unwrap()
}

fn value(payload: &JobPayload, key: &str) -> String {
    payload
        .variables
        .iter()
        .rfind(|one| one.key == key)
        .unwrap()
        .value
        .clone()
}

#[test]
fn a_job_becomes_a_payload_that_a_runner_supports() {
    let payload = payload("job");
    assert_eq!(unsupported_keywords(&payload), Vec::new());
    assert_eq!(payload.id, 9);
    assert_eq!(payload.job_info.name, "job");
    assert_eq!(payload.job_info.stage, "build");
    assert_eq!(payload.job_info.project_full_path, "acme/tools/shop");
    assert_eq!(payload.timeout(), DEFAULT_TIMEOUT);
    assert!(!payload.features.trace_sections);
    assert!(payload.token.is_empty());
    assert_eq!(
        payload.git_info.repo_url.expose(),
        "https://git.example.com/acme/tools/shop.git"
    );
    assert_eq!(
        payload.git_info.refspecs,
        ["+refs/heads/main:refs/remotes/origin/main"]
    );
    assert_eq!(payload.git_info.sha, "ab".repeat(20));
}

#[test]
fn before_script_and_script_are_one_step_and_after_script_is_another() {
    let payload = payload("job");
    assert_eq!(payload.steps.len(), 2);
    assert_eq!(payload.steps[0].name, "script");
    assert_eq!(payload.steps[0].script, ["one", "two", "three"]);
    assert_eq!(payload.after_script().unwrap().script, ["four"]);
    assert_eq!(payload.after_script().unwrap().when, "always");
}

#[test]
fn a_job_without_after_script_has_no_such_step() {
    let payload = payload("plain");
    assert_eq!(payload.steps.len(), 1);
    assert_eq!(payload.steps[0].script, ["one", "x"]);
    assert_eq!(payload.image.unwrap().name, "alpine");
}

#[test]
fn image_and_services_carry_all_their_options() {
    let payload = payload("job");
    let image = payload.image.unwrap();
    assert_eq!(image.name, "img:$TAG");
    assert_eq!(image.entrypoint, [""]);
    assert_eq!(image.pull_policy, ["always", "never"]);
    assert_eq!(image.executor_opts.docker.user, "1000");
    assert_eq!(image.executor_opts.docker.platform, "linux/arm64");
    assert_eq!(payload.services[0].name, "postgres:16");
    let redis = &payload.services[1];
    assert_eq!(
        (redis.name.as_str(), redis.alias.as_str()),
        ("redis", "cache, r")
    );
    assert_eq!(redis.command, ["--port", "1"]);
    assert_eq!(redis.entrypoint, ["/e"]);
    assert_eq!(redis.pull_policy, ["if-not-present"]);
    assert_eq!(redis.variables[0].value, "1");
}

#[test]
fn predefined_then_file_then_user_then_run_is_the_precedence() {
    let payload = payload("job");
    assert_eq!(value(&payload, "BOTH"), "job");
    assert_eq!(value(&payload, "CI_COMMIT_BRANCH"), "mine");
    assert_eq!(value(&payload, "GITLAB_USER_NAME"), "Ada");
    assert_eq!(value(&payload, "RUN"), "run");
}

#[test]
fn variables_of_the_file_are_expanded_and_raw_ones_are_not() {
    let payload = payload("job");
    assert_eq!(value(&payload, "TAG"), "vg");
    let raw = payload
        .variables
        .iter()
        .rfind(|one| one.key == "RAW")
        .unwrap();
    assert_eq!((raw.value.as_str(), raw.raw), ("$TAG", true));
}

#[test]
fn a_circle_of_variables_is_an_error() {
    let pipeline = parse("f", "a: {script: x, variables: {A: $B, B: $A}}").unwrap();
    let error = to_payload(&pipeline.jobs[0], &run(), &JobFacts::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "circular variable reference detected: [\"A\", \"B\"]"
    );
}

// local-pipelines G 50, through the runner's own expansion.
#[test]
fn dollar_escapes_and_raw_values_arrive_as_in_gitlab() {
    let file = "variables: {R: r, X: $$R, Y: {value: y$R, expand: false}, Z: z$Y}\na: {script: x}";
    let pipeline = parse("f", file).unwrap();
    let payload = to_payload(&pipeline.jobs[0], &run(), &JobFacts::default()).unwrap();
    let seen = Variables::from(payload.variables).expanded();
    assert_eq!(
        (seen.value("X"), seen.value("Y"), seen.value("Z")),
        ("$R", "y$R", "zy$R")
    );
}

#[test]
fn a_tag_makes_a_tag_pipeline_only_without_a_branch() {
    let pipeline = parse("f", "a: {script: x}").unwrap();
    let mut run = run();
    run.git.tag = Some("v1".to_owned());
    let branch = to_payload(&pipeline.jobs[0], &run, &JobFacts::default()).unwrap();
    assert_eq!(branch.git_info.ref_type, "branch");
    run.git.branch = None;
    let tag = to_payload(&pipeline.jobs[0], &run, &JobFacts::default()).unwrap();
    assert_eq!(
        (
            tag.git_info.ref_type.as_str(),
            tag.git_info.ref_name.as_str()
        ),
        ("tag", "v1")
    );
    assert_eq!(tag.git_info.refspecs, ["+refs/tags/v1:refs/tags/v1"]);
}

#[test]
fn artifacts_and_reports_become_entries_of_their_own_as_a_server_sends_them() {
    let file = "
a:
  script: x
  artifacts:
    {name: n, paths: [p], exclude: [e], when: on_failure, expire_in: 1 day, reports: {dotenv: .env, junit: [a, b]}}
b: {script: x, artifacts: {reports: {junit: j}}}
c: {script: x}
";
    let pipeline = parse("f", file).unwrap();
    let all = |job: &str| {
        let job = pipeline.job(job).unwrap();
        let payload = to_payload(job, &run(), &JobFacts::default()).unwrap();
        let entries = payload.artifacts.into_iter();
        let text = entries.map(|one| {
            format!(
                "{} {} {:?}-{:?} {} {}",
                one.artifact_type, one.name, one.paths, one.exclude, one.when, one.expire_in
            )
        });
        text.collect::<Vec<_>>()
    };
    assert_eq!(
        all("a"),
        [
            "archive n [\"p\"]-[\"e\"] on_failure 1 day",
            "dotenv dotenv [\".env\"]-[] always ",
            "junit junit [\"a\", \"b\"]-[] always ",
        ]
    );
    assert_eq!(all("b"), ["junit junit [\"j\"]-[] always "]);
    assert_eq!(all("c"), Vec::<String>::new());
}

#[test]
fn keys_of_caches_that_are_made_of_files_change_with_the_files() {
    let key = |text: &str, hashes: &[(KeyBy, &str, &str)]| {
        let file = format!("a: {{script: x, cache: {{paths: [p], key: {text}}}}}");
        let pipeline = parse("f", &file).unwrap();
        let mut run = run();
        let hashes = hashes.iter();
        run.key_hashes.0 = hashes
            .map(|&(by, path, hash)| ((by, path.to_owned()), hash.to_owned()))
            .collect();
        let payload = to_payload(&pipeline.jobs[0], &run, &JobFacts::default()).unwrap();
        payload.cache[0].key.clone()
    };
    let one = key("{files: [a.lock]}", &[(KeyBy::Content, "a.lock", "1")]);
    assert_eq!(one.len(), 40);
    let changed = key("{files: [a.lock]}", &[(KeyBy::Content, "a.lock", "2")]);
    assert_ne!(one, changed);
    let prefixed = key(
        "{files: [a.lock, none], prefix: $P}",
        &[(KeyBy::Content, "a.lock", "1")],
    );
    assert_eq!(prefixed, format!("$P-{one}"));
    let commit = [(KeyBy::Content, "a", "1")];
    assert_eq!(key("{files_commits: [a]}", &commit), "default");
    assert_eq!(key("{files: [none], prefix: p}", &[]), "p-default");
    assert_eq!(key("k", &[]), "k");
}

// local-pipelines C1 rows 4, 6 and 8; G 58.
#[test]
fn reported_variables_win_over_those_of_the_file_and_lose_to_those_of_the_run() {
    let file = "variables: {A: g, RUN: g}\na: {script: x, variables: {A: j, B: 'b-$A'}}";
    let pipeline = parse("f", file).unwrap();
    let facts = JobFacts {
        reported: vec![
            Variable::new("A", "first"),
            Variable::new("A", "second"),
            Variable::new("RUN", "reported"),
        ],
        ..JobFacts::default()
    };
    let payload = to_payload(&pipeline.jobs[0], &run(), &facts).unwrap();
    assert_eq!(value(&payload, "A"), "second");
    assert_eq!(value(&payload, "B"), "b-second");
    assert_eq!(value(&payload, "RUN"), "run");
}

#[test]
fn earlier_jobs_with_artifacts_become_dependencies() {
    let pipeline = parse("f", "a: {script: x}").unwrap();
    let facts = JobFacts {
        dependencies: vec![Giver {
            id: 3,
            name: "build".to_owned(),
            size: 12,
        }],
        ..JobFacts::default()
    };
    let payload = to_payload(&pipeline.jobs[0], &run(), &facts).unwrap();
    let [dependency] = &payload.dependencies[..] else {
        panic!("{:?}", payload.dependencies)
    };
    assert_eq!((dependency.id, dependency.name.as_str()), (3, "build"));
    assert_eq!(dependency.artifacts_file.size, 12);
}
