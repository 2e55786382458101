//! Sources by git, and what of them and of file variables stays behind (job-lifecycle §4, §2.5).

mod damage;
mod flags;
mod helper;
mod history;
mod strategies;

use gantry_testkit::{GitHttp, JobBuilder, JobRecord, Repository, ServerJobState};
use rstest::rstest;
use serde_json::json;

use crate::harness::{
    BUSYBOX, Config, Host, JobLog, Processes, Runner, Signal, gate, job, skipped,
};

/// An image with git in it.
const GIT: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));

fn repository(git: &GitHttp) -> Repository {
    git.repository("acme/tools/widget")
        .file("README", "one\n")
        .commit("one")
        .file("README", "two\n")
        .executable("run", "#!/bin/sh\necho ran\n")
        .commit("two")
        .file("README", "three\n")
        .commit("three")
        .branch("side")
        .file("side", "side")
        .commit("side")
        .build()
}

/// A job on the head of `main`, in an image with git.
fn on_main<const N: usize>(git: &GitHttp, script: [&str; N]) -> JobBuilder {
    job(script).image(GIT).git(&repository(git), "main")
}

async fn run(host: &Host, work: &JobBuilder) -> (JobRecord, JobLog) {
    let id = host.gitlab.enqueue(work);
    let runner = host.start();
    let job = host.end_of(id).await;
    runner.signal(Signal::QUIT);
    let mut runner = runner;
    assert_eq!(runner.exit_code().await, 0);
    let log = JobLog::of(&job);
    (job, log)
}

/// Runs jobs one after the other, and then drains the runner.
async fn run_in_turn(
    host: &Host,
    jobs: impl IntoIterator<Item = JobBuilder>,
) -> Vec<(JobRecord, JobLog)> {
    let runner = host.start();
    let mut done = Vec::new();
    for work in jobs {
        done.push(next(host, &work).await);
    }
    host.finish(runner).await;
    done
}

/// One job of a runner that goes on.
async fn next(host: &Host, work: &JobBuilder) -> (JobRecord, JobLog) {
    let id = host.gitlab.enqueue(work);
    let job = host.end_of(id).await;
    let log = JobLog::of(&job);
    (job, log)
}

/// What get_sources prints.
fn told(log: &JobLog) -> Vec<&str> {
    let lines = log.stdout.iter().map(String::as_str);
    lines
        .skip_while(|line| !line.starts_with("Running on "))
        .skip(1)
        .take_while(|line| !line.starts_with("$ "))
        // Another one for each job.
        .filter(|line| !line.starts_with("Gitaly correlation ID: "))
        .collect()
}

/// Runs git where the server has a repository.
fn on_server(repository: &Repository, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(repository.folder())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

/// Everything in the volumes that the host's jobs left: names, and content that may be read.
pub(crate) async fn contents_of_kept_volumes(host: &Host) -> String {
    let mut text = String::new();
    for volume in host.kept_volumes().await {
        let mount = format!("{}:/v", volume["Name"].as_str().expect("a name"));
        let look = "find /v | sort; find /v -type f -exec cat {} +";
        let arguments = ["run", "--rm", "-v", &mount, BUSYBOX, "sh", "-c", look];
        text += &host.docker.run(&arguments).await;
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_are_fetched_and_fetched_again_into_the_same_volume() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let sha = repository(&git).sha("main").to_owned();
    let script = [
        "git rev-parse HEAD",
        "cat README",
        "./run",
        "ls left-behind 2>/dev/null || echo clean",
        "echo x > left-behind",
        "mkdir -p .git/hooks; printf '#!/bin/sh\\necho hooked >> /witness/hooked\\n' > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout",
        "git config core.fsmonitor 'echo hooked >> /witness/hooked'",
        "touch .git/index.lock .git/refs/heads/left.lock",
    ];
    let (first, log) = run(&host, &on_main(&git, script)).await;
    assert_eq!(first.state, ServerJobState::Success, "{}", log.text());
    log.assert_says("Fetching changes with git depth set to 20...");
    log.assert_says("Initialized empty Git repository in /builds/acme/tools/widget/.git/");
    log.assert_says("Created fresh repository.");
    log.assert_says(&format!(
        "Checking out {} as detached HEAD (ref is main)...",
        &sha[..8]
    ));
    log.assert_says("Skipping Git submodules setup");
    log.assert_prints(&sha);
    log.assert_prints("three");
    log.assert_prints("ran");
    log.assert_prints("clean");

    let id = host.gitlab.enqueue(&on_main(&git, script));
    let runner = host.start();
    let second = host.end_of(id).await;
    let text = contents_of_kept_volumes(&host).await;
    host.finish(runner).await;
    let log = JobLog::of(&second);
    assert_eq!(second.state, ServerJobState::Success, "{}", log.text());
    log.assert_says("Reinitialized existing Git repository in /builds/acme/tools/widget/.git/");
    log.assert_says("Removing left-behind");
    log.assert_prints("clean");
    // What the first job planted did not run in the second one's get_sources.
    assert!(host.witnessed("hooked").is_empty());
    assert!(text.contains("README"));
    host.assert_no_secret("the kept volume", &text);
}

#[rstest]
#[case::clone("clone", "20", "Fetching changes with git depth set to 20...")]
#[case::whole_history("fetch", "0", "Fetching changes...")]
#[case::one_commit("fetch", "1", "Fetching changes with git depth set to 1...")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strategy_and_depth_are_obeyed(
    #[case] strategy: &str,
    #[case] depth: &str,
    #[case] says: &str,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let script = ["echo commits: $(git rev-list --count HEAD)", "cat README"];
    let work = on_main(&git, script)
        .depth(depth.parse().expect("a number"))
        .variable("GIT_STRATEGY", strategy);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    let kept = host.kept_volumes().await.len();
    host.finish(runner).await;
    let log = JobLog::of(&job);
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_says(says);
    let commits = if depth == "1" { 1 } else { 3 };
    log.assert_prints(&format!("commits: {commits}"));
    assert_eq!(kept, usize::from(strategy == "fetch"));
}

/// Debian's git is too old for it as yet (job-lifecycle §4.5).
#[rstest]
#[case::shallow("20", "Cloning repository for main with git depth set to 20...")]
#[case::whole_history("0", "Cloning repository for main...")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_git_that_clones_a_revision_clones_natively(#[case] depth: &str, #[case] says: &str) {
    let Some(image) = std::env::var("GANTRY_TEST_NEW_GIT")
        .ok()
        .filter(|it| !it.is_empty())
    else {
        skipped("GANTRY_TEST_NEW_GIT names no helper image with git 2.49 or newer");
        return;
    };
    let config = Config::new().docker(&format!("helper_image = \"{image}\""));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    let script = [
        "git rev-parse HEAD",
        "cat README",
        "git fetch -q origin && echo fetched",
    ];
    let work = on_main(&git, script)
        .depth(depth.parse().expect("a number"))
        .variable("GIT_STRATEGY", "clone")
        .variable("FF_USE_GIT_NATIVE_CLONE", "true");
    let sha = repository(&git).sha("main").to_owned();
    let (job, log) = run(&host, &work).await;
    host.assert_nothing_left().await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_says(says);
    log.assert_prints(&sha);
    log.assert_prints("three");
    log.assert_prints("fetched");
    host.assert_no_secret("the job's log", &job.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sources_are_fetched_for_strategies_none_and_empty() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let script = ["pwd", "ls -A | wc -l"];
    let with = |strategy| on_main(&git, script).variable("GIT_STRATEGY", strategy);
    let none = host.gitlab.enqueue(&with("none"));
    let empty = host.gitlab.enqueue(&with("empty"));
    let runner = host.start();
    let none = JobLog::of(&host.end_of(none).await);
    let empty = JobLog::of(&host.end_of(empty).await);
    host.finish(runner).await;
    none.assert_says("Skipping Git repository setup");
    none.assert_says("Skipping Git checkout");
    none.assert_says("Skipping Git submodules setup");
    none.assert_prints("/builds/acme/tools/widget");
    none.assert_prints("0");
    empty.assert_says("Skipping Git repository setup and creating an empty build directory");
    empty.assert_prints("/builds/acme/tools/widget-empty");
    empty.assert_prints("0");
    assert!(git.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_to_fetch_are_repeated_on_a_cleared_worktree() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let work = on_main(&git, ["cat README"])
        .variable("GET_SOURCES_ATTEMPTS", "3")
        .variable("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false");
    git.fail_next(2, 500);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let log = JobLog::of(&job);
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    let retries = log
        .all
        .iter()
        .filter(|line| line.contains("WARNING: Retrying..."));
    assert_eq!(retries.count(), 2);
    let sections = log.sections();
    let cleared = sections.iter().filter(|name| *name == "clear_worktree");
    assert_eq!(cleared.count(), 1, "{sections:?}");
    log.assert_prints("three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_that_cannot_be_fetched_fail_the_job_before_any_script() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    git.only_token("glcbt-another");
    let work = on_main(&git, ["echo begun >> /witness/script"])
        .after_script(["echo begun >> /witness/script"]);
    let (job, log) = run(&host, &work).await;
    host.assert_nothing_left().await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.failure_reason.as_deref(), Some("script_failure"));
    assert_eq!(job.exit_code, Some(128));
    log.assert_says("ERROR: Job failed: exit code 128");
    assert!(host.witnessed("script").is_empty());
    host.assert_no_secret("the job's log", &job.log());
}

/// How a job with a file variable ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Success,
    Failure,
    Timeout,
    ScriptTimeout,
    SourcesTimeout,
    Cancel,
    Abort,
    Stop,
    Kill,
}

/// Ends a job that waits for the gate `go`; gives it back with what it left in the volumes that are kept.
async fn bring_about(end: End, host: &Host, id: i64, mut runner: Runner) -> (JobRecord, String) {
    match end {
        End::Success | End::Failure => host.open_gate("go"),
        End::Timeout | End::ScriptTimeout | End::SourcesTimeout => {}
        End::Cancel => host.gitlab.cancel(id),
        End::Abort => host.gitlab.abort(id),
        End::Stop => runner = host.stop_and_start(runner).await,
        End::Kill => {
            runner.kill().await;
            host.open_gate("go");
            runner = host.start();
        }
    }
    let job = host.end_of(id).await;
    host.until_removed().await;
    let text = contents_of_kept_volumes(host).await;
    host.finish(runner).await;
    (job, text)
}

#[rstest]
#[case::success(End::Success)]
#[case::failure(End::Failure)]
#[case::timeout(End::Timeout)]
#[case::timeout_of_the_script(End::ScriptTimeout)]
#[case::cancel(End::Cancel)]
#[case::abort(End::Abort)]
#[case::stop_of_the_runner(End::Stop)]
#[case::death_of_the_runner(End::Kill)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_tokens_nor_file_variables_stay_on_a_kept_volume(#[case] end: End) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let content = "content of the file variable $x 'y' \"z\" \\n";
    host.secret(content);
    let wait = gate("go");
    let script = [
        "cat \"$SETTINGS\" > /witness/settings",
        "echo $SETTINGS",
        "git fetch origin",
        "echo begun >> /witness/script",
        wait.as_str(),
        if end == End::Failure {
            "exit 3"
        } else {
            "true"
        },
    ];
    let mut work = on_main(&git, script).variable_object(json!({
        "key": "SETTINGS", "value": content, "public": false, "masked": false, "file": true, "raw": true,
    }));
    if end == End::Timeout {
        work = work.timeout(10);
    }
    if end == End::ScriptTimeout {
        work = work.variable("RUNNER_SCRIPT_TIMEOUT", "10s");
    }
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let (job, text) = bring_about(end, &host, id, runner).await;
    assert!(text.contains("README"), "nothing was kept: {text}");
    assert!(!text.contains("/SETTINGS"), "{text}");
    host.assert_no_secret("the kept volume", &text);
    let written = std::fs::read_to_string(host.witness().join("settings"));
    assert_eq!(written.expect("what the script read"), content);
    if end != End::Abort {
        JobLog::of(&job).assert_prints("/builds/acme/tools/widget.tmp/SETTINGS");
    }
}

/// The same while the helper is at work, which writes file variables, too, for the scripts around the sources.
#[rstest]
#[case::failure(End::Failure)]
#[case::timeout(End::Timeout)]
#[case::timeout_of_the_sources(End::SourcesTimeout)]
#[case::cancel(End::Cancel)]
#[case::abort(End::Abort)]
#[case::stop_of_the_runner(End::Stop)]
#[case::death_of_the_runner(End::Kill)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_stays_of_a_job_that_ends_while_its_sources_are_fetched(#[case] end: End) {
    let content = "content of the file variable";
    let code = if end == End::Failure { "false" } else { "true" };
    let hook = format!(
        "pre_get_sources_script = \"cat $SETTINGS >> /witness/hook; {}; {code}\"",
        gate("go")
    );
    let mut config = Config::new().runner(&hook);
    if end == End::SourcesTimeout {
        config = config.runner("get_sources_timeout = \"8s\"");
    }
    let Some(host) = Host::new(&config).await else {
        return;
    };
    host.secret(content);
    let git = host.git().await;
    let mut work = on_main(&git, ["cat README"]).file("SETTINGS", &format!("{content}\n"));
    if end == End::Timeout {
        work = work.timeout(8);
    }
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("hook", 1).await;
    assert_eq!(host.witnessed("hook"), [content]);
    let (job, text) = bring_about(end, &host, id, runner).await;
    assert!(text.contains("/v/"), "nothing was kept: {text}");
    assert!(!text.contains("/SETTINGS"), "{text}");
    host.assert_no_secret("the kept volume", &text);
    let (reason, says) = match end {
        End::Failure => (Some("script_failure"), "ERROR: Job failed: exit code 1"),
        End::Timeout => (
            Some("job_execution_timeout"),
            "ERROR: Job failed: execution took longer than 8s seconds",
        ),
        End::SourcesTimeout => (
            Some("job_execution_timeout"),
            "ERROR: Job failed: get sources timeout: exceeded timeout of 8s",
        ),
        End::Cancel => (Some("unknown_failure"), "ERROR: Job failed: canceled"),
        End::Success | End::Kill => (None, "Job succeeded"),
        End::ScriptTimeout | End::Abort | End::Stop => return,
    };
    assert_eq!(job.failure_reason.as_deref(), reason, "{}", job.log());
    let log = JobLog::of(&job);
    log.assert_says(says);
    assert_eq!(log.prints("three"), end == End::Kill);
}

/// Arguments of all processes of this machine are looked at over and over while a job runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_ever_an_argument_of_a_process_or_an_environment_of_the_helper() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let secret = "a-masked-value-of-the-job-4711";
    host.secret(secret);
    let noise = vec![b'x'; 3_000_000];
    let repository = git.repository("acme/big").file("noise", noise).commit("a");
    let work = job(["echo begun >> /witness/script", &gate("go")])
        .git(&repository.build(), "main")
        .masked("PASSWORD", secret)
        .file("SETTINGS", secret);
    let processes = Processes::watch();
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    for name in host.containers("-predefined").await {
        let found = host.docker.inspect(&name).await.expect("a container");
        host.assert_no_secret("docker inspect of the helper", &found.to_string());
    }
    host.open_gate("go");
    host.end_of(id).await;
    host.finish(runner).await;
    let text = processes.seen();
    assert!(text.contains("gantry-helper"), "nothing was seen:\n{text}");
    host.assert_no_secret("a process", &text);
}
