//! What runs when, and what of it the log shows.

use super::*;

/// A step of any name.
fn step(name: &str, script: &[&str]) -> Value {
    json!({"name": name, "script": script, "timeout": 3600, "when": "on_success", "allow_failure": false})
}

fn around() -> Config {
    Config::new()
        .runner("pre_build_script = \"echo of the runner before\"")
        .runner("post_build_script = \"echo of the runner after\"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_but_after_script_has_the_scripts_of_the_runner_around_it() {
    let work = job(["echo one"]).variable("WHAT", "two").set(
        "/steps",
        json!([
            step("after_script", &["echo last $CI_JOB_STATUS"]),
            step("script", &["echo one"]),
            step("release", &["echo $WHAT"]),
            step("Deploy", &[]),
        ]),
    );
    let Some((_, done)) = run(&around(), &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    assert_eq!(
        log.sections(),
        [
            "prepare_executor",
            "prepare_script",
            "get_sources",
            "step_script",
            "step_release",
            "step_deploy",
            "after_script",
            "cleanup_file_variables"
        ]
    );
    let from = log
        .stdout
        .iter()
        .position(|line| line == "$ echo of the runner before");
    let (before, after) = (
        ["$ echo of the runner before", "of the runner before"],
        ["$ echo of the runner after", "of the runner after"],
    );
    let expected = [
        &before[..],
        &["$ echo one", "one"],
        &after,
        &before,
        // Lines of this step are expanded before they are shown.
        &["$ echo two", "two"],
        &after,
        &before,
        &after,
        &[
            "Running after script...",
            "$ echo last $CI_JOB_STATUS",
            "last success",
        ],
    ]
    .concat();
    assert_eq!(log.stdout[from.unwrap()..], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_of_the_first_step_that_fails_is_the_jobs() {
    let steps = |scripts: [&[&str]; 3]| {
        let [script, release, after] = scripts;
        job(["true"]).set(
            "/steps",
            json!([
                step("script", script),
                step("release", release),
                step("after_script", after)
            ]),
        )
    };
    let table = [
        (
            steps([&["exit 9"], &["exit 7"], &["exit 5"]]),
            Some(9),
            false,
        ),
        (
            steps([&["true"], &["echo ran; exit 7"], &["exit 5"]]),
            Some(7),
            true,
        ),
        (
            steps([&["true"], &["echo ran"], &["exit 5"]])
                .variable("AFTER_SCRIPT_IGNORE_ERRORS", "false"),
            Some(5),
            true,
        ),
        (
            steps([&["exit 255"], &["true"], &["exit 5"]])
                .variable("AFTER_SCRIPT_IGNORE_ERRORS", "0"),
            Some(255),
            false,
        ),
    ];
    let jobs: Vec<_> = table.iter().map(|(work, ..)| work.clone()).collect();
    let Some((_, done)) = run_all(&Config::new(), &jobs).await else {
        return;
    };
    for ((_, code, ran), done) in table.iter().zip(&done) {
        assert_eq!(done.exit_code, *code, "{}", done.log());
        assert_eq!(done.failure_reason.as_deref(), Some("script_failure"));
        let log = JobLog::of(done);
        assert_eq!(log.prints("ran"), *ran, "{}", log.text());
        let last = log.runner.last().unwrap();
        let expected = format!("ERROR: Job failed: exit code {}", code.unwrap());
        assert!(last.ends_with(&expected), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_line_ends_the_step_before_the_script_of_the_runner_behind_it() {
    let jobs = [
        job(["false", "echo not reached"]).after_script(["echo after all"]),
        // Who turns errexit off is not stopped, but by the flag.
        job(["set +e", "false", "echo reached"]),
        job(["set +e", "false", "echo not reached"])
            .variable("FF_ENABLE_BASH_EXIT_CODE_CHECK", "true"),
    ];
    let Some((_, done)) = run_all(&around(), &jobs).await else {
        return;
    };
    let logs: Vec<_> = done.iter().map(JobLog::of).collect();
    for number in [0, 2] {
        assert_eq!(done[number].exit_code, Some(1));
        assert!(!logs[number].prints("not reached"));
        assert!(!logs[number].prints("of the runner after"));
    }
    logs[0].assert_prints("after all");
    assert_eq!(done[1].state, ServerJobState::Success);
    logs[1].assert_prints("reached");
    logs[1].assert_prints("of the runner after");
}

/// In each shell; the peer's collapsed sections, byte by byte but for the time.
#[rstest]
#[case::bash("gantry.test/bash:1")]
#[case::dash("gantry.test/dash:1")]
#[case::busybox(BUSYBOX)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_many_lines_are_sections_where_that_is_asked_for(#[case] image: &str) {
    let command = "echo 'a\\nb' 100%\necho two";
    let work = job([command])
        .after_script(["echo 3\necho 4"])
        .image(image)
        .variable("FF_TIMESTAMPS", "false");
    let sections = work.clone().variable("FF_SCRIPT_SECTIONS", "true");
    let unfolded = sections.clone().trace_sections(false);
    let Some((_, done)) = run_all(&Config::new(), &[work, sections, unfolded]).await else {
        return;
    };
    let logs: Vec<_> = done.iter().map(JobRecord::log).collect();
    let first_line = "\n\x1b[32;1m$ echo 'a\\nb' 100% # collapsed multi-line command\x1b[0;m\n";
    assert!(logs[0].contains(first_line), "{}", logs[0]);
    assert!(logs[2].contains(first_line), "{}", logs[2]);
    for (name, shown) in [
        ("script_step_0", command),
        ("after_script_step_0", "echo 3\necho 4"),
    ] {
        let (_, rest) = logs[1].split_once("section_start:").unwrap();
        let from = rest
            .find(&format!(":section_{name}["))
            .unwrap_or_else(|| panic!("{rest}"));
        let rest = &rest[from..];
        let expected = format!(
            ":section_{name}[hide_duration=true,collapsed=true]\r\x1b[0K\x1b[32;1m$ {shown}\x1b[0;m\nsection_end:"
        );
        assert!(rest.starts_with(&expected), "{rest}");
        let rest = &rest[expected.len()..];
        let end = format!(":section_{name}\r\x1b[0K\n");
        assert!(rest[rest.find(':').unwrap()..].starts_with(&end), "{rest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_script_hands_on_is_there_in_later_steps_and_for_the_helper() {
    let work = job(["true"])
        .set(
            "/steps",
            json!([
                step("script", &[
                    "printf 'FOO=bar baz=1\\n\\n  TRIMMED=yes  \\nBARE\\n1X=bad\\n' >> \"$GITLAB_ENV\"",
                    "echo x > file",
                ]),
                step("verify", &["echo \"$FOO|$TRIMMED|\"", "echo LATER=on >> \"$GITLAB_ENV\""]),
                step("after_script", &["echo \"after $FOO|$LATER|$GITLAB_ENV\""]),
            ]),
        )
        .set("/artifacts", json!([{"name": "of-$LATER", "paths": ["file"], "artifact_type": "archive", "artifact_format": "zip"}]));
    let Some((_, done)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    log.assert_prints("bar baz=1|yes|");
    log.assert_prints("after bar baz=1|on|/builds/acme/tools/widget.tmp/gitlab_runner_env");
    log.assert_says("GITLAB_ENV: line 5 is not NAME=value and is ignored");
    assert_eq!(done.artifacts[0].file_name, "of-on.zip");
}
