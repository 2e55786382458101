//! Scripts of runner and job around the fetch of sources: where they run, what they see, and what becomes of a job when one fails
//! (job-lifecycle §4.3 steps 4 and 18, §4.7).

use gantry_testkit::{GitHttp, Repository, ServerJobState};
use rstest::rstest;
use serde_json::json;

use crate::harness::{BUSYBOX, Config, Host, job};

fn widget(git: &GitHttp) -> Repository {
    git.repository("acme/tools/widget")
        .file("README", "of widget\n")
        .commit("one")
        .build()
}

/// Whose script fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    RunnerBefore,
    JobBefore,
    JobAfter,
    RunnerAfter,
    JobAfterOnce,
}

#[rstest]
#[case::of_the_runner_before(Fails::RunnerBefore, &["runner before"])]
#[case::of_the_job_before(Fails::JobBefore, &["runner before", "job before"])]
#[case::of_the_job_after(Fails::JobAfter, &["runner before", "job before", "job after"])]
#[case::of_the_runner_after(Fails::RunnerAfter, &["runner before", "job before", "job after", "runner after"])]
#[case::at_the_first_attempt(Fails::JobAfterOnce, &["runner before", "job before", "job after"])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_fails_fails_the_attempt_and_all_run_again_at_the_next(
    #[case] fails: Fails,
    #[case] until: &[&str],
) {
    let line = |who: &str, when: Fails| {
        let fail = if fails == when { "; exit 7" } else { "" };
        format!("echo {who} | tee -a /witness/order{fail}")
    };
    let config = Config::new()
        .runner(&format!(
            "pre_get_sources_script = \"{}\"",
            line("runner before", Fails::RunnerBefore)
        ))
        .runner(&format!(
            "post_get_sources_script = \"{}\"",
            line("runner after", Fails::RunnerAfter)
        ));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    let once = "test -e /witness/again || { touch /witness/again; exit 7; }";
    let after = match fails {
        Fails::JobAfterOnce => format!(
            "{}; {once}",
            line("job after", fails).replace("; exit 7", "")
        ),
        _ => line("job after", Fails::JobAfter),
    };
    let work = job(["echo script >> /witness/order"])
        .after_script(["echo after_script >> /witness/order"])
        .git(&widget(&git), "main")
        .variable("GET_SOURCES_ATTEMPTS", "2")
        .variable("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false")
        .set("/hooks", json!([
            {"name": "pre_get_sources_script", "script": [line("job before", Fails::JobBefore)]},
            {"name": "post_get_sources_script", "script": [after, "echo never after a failure >/dev/null"]},
        ]));
    let (done, log) = host.run(&work).await;
    let mut order: Vec<&str> = until.to_vec();
    if fails == Fails::JobAfterOnce {
        order.extend([
            "runner before",
            "job before",
            "job after",
            "runner after",
            "script",
            "after_script",
        ]);
        assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    } else {
        order.extend(until);
        assert_eq!(done.state, ServerJobState::Failed, "{}", log.text());
        assert_eq!(done.failure_reason.as_deref(), Some("script_failure"));
        assert_eq!(done.exit_code, Some(7));
        let last = log.all.last().expect("a line");
        assert!(last.ends_with("ERROR: Job failed: exit code 7"), "{last}");
    }
    assert_eq!(host.witnessed("order"), order, "{}", log.text());
    assert_eq!(log.text().matches("WARNING: Retrying...").count(), 1);
    let sections = log.sections();
    let count = |name: &str| sections.iter().filter(|it| *it == name).count();
    assert_eq!(count("get_sources"), 2, "{sections:?}");
    assert_eq!(count("clear_worktree"), 1, "{sections:?}");
    // What fails before git is run lets it ask nobody.
    let asked = matches!(
        fails,
        Fails::JobAfter | Fails::RunnerAfter | Fails::JobAfterOnce
    );
    assert_eq!(!git.requests().is_empty(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_run_in_the_helper_with_the_variables_of_the_job() {
    let see = "echo $(type git >/dev/null && echo with git), in $PWD, $CI_JOB_NAME, $OF_RUNNER, $PASSWORD, $(cat $SETTINGS), ${CI_JOB_TOKEN:+a token}, $FROM_BEFORE";
    let config = Config::new()
        .runner("environment = [\"OF_RUNNER=of the runner\"]")
        .runner(&format!(
            "pre_get_sources_script = '''\n# a comment\n{see}\nexport FROM_BEFORE=exported\n'''"
        ))
        .runner(&format!("post_get_sources_script = '''{see}'''"));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    host.secret("hush-hush-hush");
    let git = host.git().await;
    let work = job([
        "type git || echo no git in this image",
        "echo then ${FROM_BEFORE:-not exported}, $WRITTEN",
    ])
    .image(BUSYBOX)
    .git(&widget(&git), "main")
    .masked("PASSWORD", "hush-hush-hush")
    .file("SETTINGS", "of a file")
    .set("/hooks", json!([
        {"name": "pre_get_sources_script", "script": [
            "cat", "echo it\\'s \"$CI_JOB_NAME\" >&2", "cat <<END\n  as $CI_JOB_NAME\nEND\n", "echo WRITTEN=written >> $GITLAB_ENV", "sleep 1000 &",
        ]},
        {"name": "post_get_sources_script", "script": ["cat README", ""]},
    ]));
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    let sees = |place: &str, exported: &str| {
        let line = format!(
            "with git, in {place}, unit, of the runner, [MASKED], of a file, a token,{exported}"
        );
        log.assert_prints(&line);
    };
    sees("/", "");
    sees("/builds/acme/tools/widget", " exported");
    log.assert_says("$ # a comment # collapsed multi-line command");
    log.assert_says("$ cat <<END # collapsed multi-line command");
    log.assert_prints("  as unit");
    log.assert_prints("of widget");
    assert!(
        log.stderr.iter().any(|line| line == "it's unit"),
        "{}",
        log.text()
    );
    log.assert_prints("no git in this image");
    log.assert_prints("then not exported, written");
    host.assert_no_secret("the job's log", &done.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_first_one_exports_and_configures_reaches_git() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let elsewhere = format!("{}/elsewhere/", git.url());
    let moved = git
        .repository("elsewhere/acme/tools/widget")
        .file("README", "of elsewhere\n")
        .commit("one")
        .build();
    let by_config = format!(
        "git config --global url.{elsewhere}.insteadOf {}/",
        git.url()
    );
    let by_environment = format!(
        "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=url.{elsewhere}.insteadOf GIT_CONFIG_VALUE_0={}/",
        git.url()
    );
    for hook in [by_config, by_environment] {
        let url = format!("{}/acme/tools/widget.git", git.url());
        let work = job(["cat README"])
            .git_at(&url, "acme/tools/widget", "main", moved.sha("main"))
            .set(
                "/hooks",
                json!([{"name": "pre_get_sources_script", "script": [hook]}]),
            );
        let (done, log) = host.run(&work).await;
        assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
        log.assert_prints("of elsewhere");
    }
}

/// As in GitLab Runner, whose whole stage is one script.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_exits_with_success_ends_the_stage_and_the_job_goes_on() {
    let config = Config::new().runner("pre_get_sources_script = \"exit 0\"");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    let work = job(["ls -A | wc -l"]).git(&widget(&git), "main");
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_says("pre_get_sources_script ended the stage before the sources were fetched");
    log.assert_prints("0");
    assert!(git.requests().is_empty());
}
