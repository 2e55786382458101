//! The line to the engine: what goes over it, and what happens when it breaks.

use gantry_testkit::{JobBuilder, ServerJobState};
use tempfile::TempDir;

use crate::harness::{Config, Host, JobLog, Tap, gate, job, until};

mod podman;
mod restart;

/// A host whose runner speaks to the engine through a tap; `None` without an engine on a unix socket.
async fn tapped() -> Option<(Host, Tap, TempDir)> {
    tapped_with(Config::new()).await
}

async fn tapped_with(config: Config) -> Option<(Host, Tap, TempDir)> {
    let host = Host::new(&config).await?;
    // A path of its own: socket addresses are short.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(tap) = Tap::start(folder.path(), host.docker.host()).await else {
        crate::harness::skipped("the engine is not at a unix socket");
        return None;
    };
    host.configure(&config.engine(&tap.host()));
    Some((host, tap, folder))
}

/// Prints numbered lines until its gate opens and a while longer.
fn talker() -> JobBuilder {
    let wait = gate("go");
    job([
        "echo begun >> /witness/script",
        "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; [ $((i % 10)) -ne 0 ] || sleep 0.02; done",
        &wait,
        "while [ $i -lt 400 ]; do i=$((i+1)); echo line $i; done",
        "exit 5",
    ])
}

fn assert_whole(log: &JobLog) {
    let lines = log.stdout.iter().filter(|line| line.starts_with("line "));
    let printed: Vec<_> = lines.cloned().collect();
    let expected: Vec<_> = (1..=400).map(|line| format!("line {line}")).collect();
    assert_eq!(printed, expected, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_while_the_engine_cannot_be_reached() {
    let Some((host, mut tap, _folder)) = tapped().await else {
        return;
    };
    let id = host.gitlab.enqueue(&talker());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    tap.down().await;
    runner.says("the engine does not answer").await;
    tap.up();
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(5), "{}", job.log());
    let log = JobLog::of(&job);
    assert_whole(&log);
    log.assert_says("the container engine was away");
    assert_eq!(host.witnessed("script"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_while_the_engine_cannot_be_reached_has_its_true_end() {
    let Some((host, mut tap, _folder)) = tapped().await else {
        return;
    };
    let id = host.gitlab.enqueue(&talker());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    tap.down().await;
    runner.says("the engine does not answer").await;
    host.open_gate("go");
    host.wait_container("-build", |build| build["State"]["Status"] == "exited")
        .await;
    tap.up();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(5), "{}", job.log());
    assert_whole(&JobLog::of(&job));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_starts_before_its_engine_takes_its_job_up_when_the_engine_comes() {
    let Some((host, mut tap, _folder)) = tapped().await else {
        return;
    };
    let id = host.gitlab.enqueue(&talker());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    tap.down().await;
    let runner = host.start();
    runner.says("taking up a job of an earlier process").await;
    host.open_gate("go");
    tap.up();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(5), "{}", job.log());
    assert_whole(&JobLog::of(&job));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_an_engine_is_tried_three_times_and_fails() {
    let Some((host, mut tap, _folder)) = tapped().await else {
        return;
    };
    tap.down().await;
    let id = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    let job = host.end_of(id).await;
    tap.up();
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
    JobLog::of(&job).assert_says("cannot be reached");
}

/// A trivial job costs one container, and nothing of its secrets goes where it is not needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_helper_stages_makes_one_container_and_starts_it_once_per_script() {
    let Some((host, tap, _folder)) = tapped().await else {
        return;
    };
    let work = job(["echo hello"]).after_script(["echo after"]);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success);
    let starts = tap.requests("POST /containers/");
    let starts = starts
        .iter()
        .filter(|request| request.line.contains("/start"));
    assert_eq!(starts.count(), 2);
    let created = tap.requests("POST /containers/create");
    let helpers = created
        .iter()
        .filter(|request| request.line.contains("predefined"));
    assert_eq!(helpers.count(), 0);
    assert!(tap.requests("POST /images/create").is_empty());
    let build = created
        .iter()
        .find(|request| request.line.contains("-build"))
        .expect("a build container");
    assert_eq!(build.body["OpenStdin"], true);
    assert_eq!(build.body["StdinOnce"], true);
    assert_eq!(build.body["Tty"], false);
    assert_eq!(build.body["Cmd"][0], "sh");
}

/// Whether a privileged container may start depends on the machine; what is asked for does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn privileges_are_asked_for_build_and_services_and_not_for_the_helper() {
    let config = Config::new().docker("privileged = true");
    let Some((host, tap, _folder)) = tapped_with(config).await else {
        return;
    };
    let git = host.git().await;
    let repository = git.repository("acme/widget").file("a", "a").commit("a");
    let id = host
        .gitlab
        .enqueue(&job(["true"]).git(&repository.build(), "main"));
    let runner = host.start();
    host.end_of(id).await;
    host.finish(runner).await;
    let privileged = |name: &str| {
        let created = tap.requests("POST /containers/create");
        let of_name = created.iter().find(|request| request.line.contains(name));
        let request = of_name.unwrap_or_else(|| panic!("{name} was not created: {created:?}"));
        request.body["HostConfig"]["Privileged"] == true
    };
    assert!(privileged("-build"));
    assert!(!privileged("-predefined"));
}

/// Secrets of a job are in the environment of its build container alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_but_the_build_containers_holds_a_secret() {
    let Some((host, tap, _folder)) = tapped().await else {
        return;
    };
    let git = host.git().await;
    let secret = "a-masked-value-of-the-job-0815";
    host.secret(secret);
    let repository = git.repository("acme/widget").file("a", "a").commit("a");
    let service = gantry_testkit::ServiceBuilder::new(crate::harness::BUSYBOX)
        .alias("idle")
        .command(["sleep", "1000"]);
    let work = job(["echo $PASSWORD"])
        .git(&repository.build(), "main")
        .masked("PASSWORD", secret)
        .file("SETTINGS", secret)
        .service(service);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    host.assert_no_secret("the job's log", &job.log());
    JobLog::of(&job).assert_prints("[MASKED]");
    let requests = tap.requests("");
    let helper = |line: &str| line.contains("-predefined");
    assert!(requests.iter().any(|request| helper(&request.line)));
    for request in requests {
        if request.line.starts_with("POST /containers/create") && request.line.contains("-build") {
            assert!(request.body["Env"].to_string().contains(secret));
            continue;
        }
        host.assert_no_secret("a request to the engine", &request.line);
        host.assert_no_secret(&request.line, &request.body.to_string());
    }
}

/// Many jobs that make the tools volume at once get along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_at_once_share_the_tools_volume() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let repository = git
        .repository("acme/widget")
        .file("a", "a")
        .commit("a")
        .build();
    let ids: Vec<_> = (0..4)
        .map(|_| {
            host.gitlab
                .enqueue(&job(["cat a"]).git(&repository, "main"))
        })
        .collect();
    let runner = host.start();
    for id in ids {
        let job = host.end_of(id).await;
        assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    }
    until("the last job to be removed", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    host.finish(runner).await;
}
