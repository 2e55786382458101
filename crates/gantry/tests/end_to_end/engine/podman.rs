//! Whole jobs on Podman, on a service of the test's own (docker-executor §11).

use std::ops::Deref;

use gantry_testkit::{Podman, ServiceBuilder};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::archives::{downloads, end};
use crate::harness::{BUSYBOX, Docker, Signal, skipped};
use crate::terminal::client::Session;

/// An image with git in it; also the helper image.
const GIT: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));

/// A host with a Podman of its own. Fields end in this order.
struct OnPodman {
    host: Host,
    podman: Podman,
}

impl Deref for OnPodman {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// A host on Podman with these images; `None`, and a word on stderr, where there is none.
async fn on_podman(config: &Config, images: &[&str]) -> Option<OnPodman> {
    let Some(engine) = Docker::of_environment() else {
        skipped("GANTRY_TEST_ENGINE names no engine that has the images");
        return None;
    };
    let podman = match Podman::start().await {
        Ok(podman) => podman,
        Err(why) => {
            skipped(&why);
            return None;
        }
    };
    let docker = Docker::at(podman.host());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("images.tar").display().to_string();
    engine
        .run(&[&["save", "--output", &path], images].concat())
        .await;
    docker.run(&["load", "--input", &path]).await;
    // The bridge, and so this machine's address on it, is there while a container is.
    let hold = [
        "run", "--detach", "--name", "hold", BUSYBOX, "sleep", "10000",
    ];
    docker.run(&hold).await;
    let long_poll = std::time::Duration::from_secs(20);
    let make = |gitlab: gantry_testkit::FakeGitLabBuilder| gitlab.long_poll(long_poll);
    let host = Host::on(docker, Podman::GATEWAY.to_owned(), config, make).await;
    Some(OnPodman { host, podman })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_runs_a_job_with_its_exit_code_and_after_script() {
    let Some(host) = on_podman(&Config::new(), &[BUSYBOX]).await else {
        return;
    };
    let work = job([
        "echo on stdout",
        "echo on stderr >&2",
        "touch here",
        "exit 3",
    ])
    .after_script(["ls", "echo status $CI_JOB_STATUS"]);
    let good = host.gitlab.enqueue(&job(["echo fine"]));
    let bad = host.gitlab.enqueue(&work);
    let runner = host.start();
    let (good, bad) = (host.end_of(good).await, host.end_of(bad).await);
    host.finish(runner).await;
    assert_eq!(good.state, ServerJobState::Success, "{}", good.log());
    JobLog::of(&good).assert_prints("fine");
    let log = JobLog::of(&bad);
    assert_eq!(bad.state, ServerJobState::Failed);
    assert_eq!(bad.failure_reason.as_deref(), Some("script_failure"));
    assert_eq!(bad.exit_code, Some(3), "{}", log.text());
    for line in ["on stdout", "here", "status failed"] {
        log.assert_prints(line);
    }
    assert!(log.stderr.iter().any(|line| line == "on stderr"));
}

/// The volume of the sources has its owner and mode although Podman resets them at a first start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_fetches_sources_and_fetches_again_into_the_same_volume() {
    let Some(host) = on_podman(&Config::new(), &[BUSYBOX, GIT]).await else {
        return;
    };
    let git = host.git().await;
    let repository = git
        .repository("acme/widget")
        .file("README", "one\n")
        .commit("one")
        .file("README", "two\n")
        .commit("two")
        .build();
    let script = [
        "cat README",
        "stat -c 'mode %a' .",
        "ls -a kept || echo no kept file",
        "touch kept",
    ];
    let work = job(script)
        .variable("GIT_CLEAN_FLAGS", "none")
        .git(&repository, "main");
    let runner = host.start();
    let first = host.end_of(host.gitlab.enqueue(&work)).await;
    host.until_removed().await;
    let second = host.end_of(host.gitlab.enqueue(&work)).await;
    host.finish(runner).await;
    for (job, kept) in [(&first, "no kept file"), (&second, "kept")] {
        let log = JobLog::of(job);
        assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
        for line in ["two", "mode 777", kept] {
            log.assert_prints(line);
        }
    }
}

#[rstest]
#[case::network_of_the_job(true)]
#[case::default_network(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_runs_services_that_the_job_reaches(#[case] own_network: bool) {
    let flags = format!("[runners.feature_flags]\nFF_NETWORK_PER_BUILD = {own_network}");
    let config = Config::new().runner(&flags);
    let Some(host) = on_podman(&config, &[BUSYBOX, GIT]).await else {
        return;
    };
    // By address: the test image's static wget crashes when it resolves a name of a search domain itself.
    let reach = |name: &str| {
        format!(
            "n=0; until a=$(ping -c 1 {name} | sed -n '1s/.*(\\(.*\\)).*/\\1/p') && wget -q -O - http://$a:8080/passwd \
             | grep -q root; do n=$((n+1)); [ $n -lt 100 ] || exit 9; sleep 0.1; done; echo reached {name}"
        )
    };
    let web = || ServiceBuilder::new(BUSYBOX).command(["httpd", "-f", "-p", "8080", "-h", "/etc"]);
    let (first, second) = (reach("web"), reach("other"));
    let work = job([first.as_str(), &second])
        .service(web().alias("web"))
        .service(
            web()
                .alias("api,other")
                .variable("HEALTHCHECK_TCP_PORT", "8080"),
        );
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let log = JobLog::of(&job);
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("reached web");
    log.assert_prints("reached other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_ends_a_canceled_script_and_runs_after_script() {
    let Some(host) = on_podman(&Config::new(), &[BUSYBOX]).await else {
        return;
    };
    let work = job([
        "echo begun >> /witness/script",
        "sleep 1000",
        "echo not reached",
    ])
    .after_script(["echo status $CI_JOB_STATUS"]);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.gitlab.cancel(id);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let log = JobLog::of(&job);
    assert_eq!(job.state, ServerJobState::Canceled);
    log.assert_says("ERROR: Job failed: canceled");
    log.assert_prints("status canceled");
    log.assert_never_says("not reached");
}

/// The runner is killed; Podman's service as well, or not: it is no daemon, its containers run on without it.
#[rstest]
#[case::the_runner(false)]
#[case::runner_and_service(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_on_podman_outlives(#[case] service_too: bool) {
    let Some(OnPodman { host, mut podman }) = on_podman(&Config::new(), &[BUSYBOX]).await else {
        return;
    };
    let id = host.gitlab.enqueue(&talker());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    if service_too {
        podman.down();
        podman.up().await.expect("a service that starts again");
    }
    let runner = host.start();
    runner.says("taking up a job of an earlier process").await;
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(5), "{}", job.log());
    assert_whole(&JobLog::of(&job));
    assert_eq!(host.witnessed("script"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_on_podman_stops_its_jobs_when_told_to() {
    let Some(host) = on_podman(&Config::new(), &[BUSYBOX]).await else {
        return;
    };
    let id = host
        .gitlab
        .enqueue(&job(["echo begun >> /witness/script", "sleep 1000"]));
    let mut runner = host.start();
    host.wait_witness("script", 1).await;
    runner.signal(Signal::TERM);
    assert_eq!(runner.exit_code().await, 0);
    let job = host.end_of(id).await;
    host.assert_nothing_left().await;
    assert_eq!(
        job.failure_reason.as_deref(),
        Some("runner_interrupted"),
        "{}",
        job.log()
    );
}

/// Everything that a pipeline of two jobs asks for, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_runs_whole_jobs_with_cache_artifacts_services_and_file_variables() {
    let config = Config::new().docker("volumes = [\"/cache\"]");
    let Some(host) = on_podman(&config, &[BUSYBOX, GIT]).await else {
        return;
    };
    let git = host.git().await;
    let repository = git
        .repository("acme/widget")
        .file("README", "of widget\n")
        .commit("one")
        .build();
    let secret = "content-of-a-file-0123456789";
    host.secret(secret);
    let service = ServiceBuilder::new(BUSYBOX)
        .alias("web")
        .command(["httpd", "-f", "-p", "8080", "-h", "/etc"])
        .variable("HEALTHCHECK_TCP_PORT", "8080");
    // By address, as above.
    let reach = "a=$(ping -c 1 web | sed -n '1s/.*(\\(.*\\)).*/\\1/p'); wget -q -O - http://$a:8080/passwd | grep -q root && echo reached";
    let build = job([
        "cat README",
        "wc -c < $SETTINGS",
        reach,
        "mkdir -p vendor dist; echo gem > vendor/gem; echo built > dist/app; chmod 755 dist/app",
    ])
    .git(&repository, "main")
    .file("SETTINGS", secret)
    .service(service)
    .after_script(["echo after $CI_JOB_STATUS"])
    .variable("FF_NETWORK_PER_BUILD", "true")
    .set(
        "/cache",
        json!([{"key": "gems", "paths": ["vendor/"], "policy": "pull-push", "when": "on_success"}]),
    )
    .set(
        "/artifacts",
        json!([{
            "name": "dist", "paths": ["dist/"], "when": "always", "artifact_type": "archive", "artifact_format": "zip",
        }]),
    );
    let runner = host.start();
    let (built, log) = end(&host, &build).await;
    assert_eq!(built.state, ServerJobState::Success, "{}", log.text());
    for line in ["of widget", "28", "reached", "after success"] {
        log.assert_prints(line);
    }
    log.assert_never_says("probably didn't start properly");
    assert_eq!(built.artifacts.len(), 1);
    let test = downloads(
        &built,
        ["cat dist/app; stat -c %a dist/app", "cat vendor/gem"],
    )
    .git(&repository, "main")
    .set(
        "/cache",
        json!([{"key": "gems", "paths": ["vendor/"], "policy": "pull"}]),
    );
    let (tested, log) = end(&host, &test).await;
    assert_eq!(tested.state, ServerJobState::Success, "{}", log.text());
    for line in ["built", "755", "gem"] {
        log.assert_prints(line);
    }
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_on_podman_is_a_shell_beside_the_script() {
    let config = Config::new().more("[session_server]\nlisten_address = \"127.0.0.1:0\"\n");
    let Some(host) = on_podman(&config, &[BUSYBOX]).await else {
        return;
    };
    let id = host.gitlab.enqueue(&job([
        "echo from the script > /tmp/here",
        "echo x >> /witness/begun",
        &gate("end"),
        "cat /tmp/there",
    ]));
    let runner = host.start();
    let session = Session::of_job(&host, 0).await;
    host.wait_witness("begun", 1).await;
    let mut terminal = session.open().await.expect("a terminal");
    terminal
        .types("tty; stty size; cat /tmp/here; echo TERM=$TERM")
        .await;
    let text = terminal.shows("TERM=xterm\r\n").await;
    for shown in ["/dev/pts/", "24 80\r\n", "from the script\r\n"] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    terminal
        .types("echo from the terminal > /tmp/there; echo do''ne")
        .await;
    terminal.shows("done\r\n").await;
    assert_eq!(session.open().await.err(), Some(423));
    host.open_gate("end");
    let (code, reason, _) = terminal.end().await;
    assert_eq!((code, reason.as_str()), (1000, "build container exited"));
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    JobLog::of(&job).assert_prints("from the terminal");
}
