//! What becomes of jobs.

use crate::harness::{Repository, engine};

#[test]
fn a_pipeline_that_passes_ends_with_0_and_one_that_fails_with_1() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [build, test]
default: {image: 'gantry.test/busybox:1'}
good:
  stage: build
  script: ['echo good job $CI_JOB_ID', 'echo to stderr >&2']
bad:
  stage: build
  script: [echo before, exit 7, echo never]
  after_script: ['echo ended with $CI_JOB_STATUS']
late: {stage: test, script: [echo never]}
";
    let repository = Repository::new(file, Some(&engine));
    let done = repository.exec(&[]);
    done.assert(
        1,
        &[
            "good | good job 1\n",
            "good | to stderr\n",
            "bad  | before\n",
            "bad  | ended with failed\n",
            "bad  | ERROR: Job failed: exit code 7\n",
            "failed: exit code 7\n",
            "skipped: `bad` failed\n",
            "Pipeline failed in",
        ],
    );
    assert!(!done.stdout.contains("| never"), "{done:#?}");
    assert!(!done.stdout.contains('\x1b'), "{done:#?}");
    assert_eq!(done.stderr, "");
    repository
        .exec(&["good"])
        .assert(0, &["Pipeline passed in"]);
    repository.assert_nothing_left();
}

#[test]
fn allowed_failures_do_not_fail_the_pipeline() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [build, test]
default: {image: 'gantry.test/bash:1'}
any: {stage: build, script: [exit 1], allow_failure: true}
code: {stage: build, script: [exit 42], allow_failure: {exit_codes: 42}}
late: {stage: test, script: [echo still runs]}
";
    let repository = Repository::new(file, Some(&engine));
    repository.exec(&[]).assert(
        0,
        &[
            "late | still runs\n",
            "failed, which is allowed: exit code 42\n",
            "Pipeline passed with warnings in",
        ],
    );
    repository.assert_nothing_left();
}

#[test]
fn services_answer_to_their_aliases_with_and_without_a_network_of_the_job() {
    let Some(engine) = engine() else { return };
    let service = "
  image: gantry.test/busybox:1
  services:
    - name: gantry.test/busybox:1
      alias: web
      variables: {ANSWER: from the service}
      command: [sh, -c, 'mkdir /www; echo $ANSWER > /www/answer; exec httpd -f -p 8080 -h /www']
  script:
    - n=0; until wget -qO answer http://web:8080/answer; do n=$((n+1)); [ $n -lt 50 ]; sleep 0.1; done
    - cat answer";
    let file = format!(
        "own-network:{service}\nhosts-file:{service}\n  variables: {{FF_NETWORK_PER_BUILD: 'false'}}\n"
    );
    let repository = Repository::new(&file, Some(&engine));
    repository.exec(&[]).assert(
        0,
        &[
            "own-network | from the service\n",
            "hosts-file  | from the service\n",
        ],
    );
    repository.assert_nothing_left();
}

#[test]
fn services_are_waited_for_and_what_they_print_is_shown_if_the_job_asks_for_it() {
    let Some(engine) = engine() else { return };
    let file = "
job:
  image: gantry.test/busybox:1
  services:
    - name: gantry.test/busybox:1
      alias: web
      variables: {HEALTHCHECK_TCP_PORT: '8080'}
      command: [sh, -c, 'echo booting; sleep 1; exec httpd -f -p 8080 -h /etc']
  variables: {CI_DEBUG_SERVICES: 'true'}
  script:
    - wget -qO - http://web:8080/passwd | grep -q root
    - echo answered at once
";
    let repository = Repository::new(file, Some(&engine));
    repository.exec(&[]).assert(
        0,
        &[
            "job | Waiting for services to be up and running (timeout 30 seconds)...
",
            "job | [service:gantry.test__busybox-gantry.test-busybox-web] 20",
            "Z booting
",
            "job | answered at once
",
        ],
    );
    repository.assert_nothing_left();
}

#[test]
fn variables_of_the_command_line_win_over_the_file_and_the_file_over_predefined_ones() {
    let Some(engine) = engine() else { return };
    let file = "
variables: {GLOBAL: global, BOTH: global, GIVEN: global, CI_COMMIT_REF_NAME: own}
job:
  image: gantry.test/busybox:1
  variables: {BOTH: 'job and $GLOBAL', GIVEN: job}
  script:
    - echo \"$BOTH, $GIVEN, $CI_COMMIT_REF_NAME, $CI_COMMIT_TITLE, $CI_PROJECT_DIR, $GANTRY_LOCAL\"
";
    let repository = Repository::new(file, Some(&engine));
    let project = repository.root();
    let project = project.file_name().unwrap().to_str().unwrap();
    let expected =
        format!("job | job and global, run, own, A message, /builds/local/{project}, true\n");
    repository
        .exec(&["-e", "GIVEN=run", "--verbose"])
        .assert(0, &[&expected, "job | Using Docker executor with image"]);
    repository.assert_nothing_left();
}

#[test]
fn an_image_that_is_missing_fails_its_job_and_names_it() {
    let Some(engine) = engine() else { return };
    let file = "job: {image: 'gantry.test/nowhere:1', script: [x]}";
    let repository = Repository::new(file, Some(&engine));
    let done = repository.exec(&["--pull-policy", "never"]);
    done.assert(
        1,
        &["image \"gantry.test/nowhere:1\" not found: the engine does not have it, and the pull policy is \"never\""],
    );
    repository.assert_nothing_left();
}

#[test]
fn a_job_that_takes_too_long_is_stopped() {
    let Some(engine) = engine() else { return };
    let file = "job: {image: 'gantry.test/busybox:1', script: [sleep 600]}";
    let repository = Repository::new(file, Some(&engine));
    repository
        .exec(&["--timeout", "2s"])
        .assert(1, &["execution took longer than 2s seconds"]);
    repository.assert_nothing_left();
}
