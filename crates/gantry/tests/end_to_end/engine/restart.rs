//! An engine that restarts under a running job. It is one of the test's own, in a network namespace of its own: a second daemon in
//! the first one's namespace may delete the first one's bridge (engine-mechanics §h).

use std::path::PathBuf;
use std::process::Stdio;

use rstest::rstest;
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};

use super::*;
use gantry_testkit::Endpoint;

use crate::harness::{BUSYBOX, Docker, Signal, skipped};

/// A Docker daemon of its own. Ends with the test.
struct Daemon {
    folder: TempDir,
    live_restore: bool,
    process: Option<Child>,
    docker: Docker,
}

impl Daemon {
    /// `None` where there is no engine to test on, or a daemon cannot be started (no root, no `dockerd`).
    async fn start(live_restore: bool) -> Option<Self> {
        let Some(engine) = Docker::of_environment() else {
            skipped("GANTRY_TEST_ENGINE names no engine");
            return None;
        };
        let folder = tempfile::Builder::new()
            .prefix("gantry-end-to-end-daemon-")
            .tempdir()
            .expect("a temporary folder");
        let socket = folder.path().join("docker.sock");
        let mut daemon = Self {
            docker: Docker::at(format!("unix://{}", socket.display())),
            folder,
            live_restore,
            process: None,
        };
        if !rustix::process::geteuid().is_root() || !daemon.up().await {
            skipped("a Docker daemon of one's own cannot be started here");
            return None;
        }
        let image = daemon.path("image.tar").display().to_string();
        engine.run(&["save", "--output", &image, BUSYBOX]).await;
        daemon.docker.run(&["load", "--input", &image]).await;
        Some(daemon)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the daemon; says whether it answers.
    async fn up(&mut self) -> bool {
        let path = |name: &str| self.path(name).display().to_string();
        // A killed daemon leaves them, and other processes may have the numbers by now.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            std::fs::remove_file(self.path(file)).ok();
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"));
        let log = log.map_or(Stdio::null(), Stdio::from);
        let started = Command::new("unshare")
            .args(["--net", "dockerd", "--bridge", "none", "--iptables=false"])
            .args(["--storage-driver", "vfs"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("pid")])
            .args(["--host", self.docker.host()])
            .arg(format!("--live-restore={}", self.live_restore))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let Ok(mut process) = started else {
            return false;
        };
        let answers = until("the daemon to answer or end", async || {
            if process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return Some(false);
            }
            let version = self.docker.attempt(&["version"]).await;
            version.is_ok().then_some(true)
        })
        .await;
        self.process = Some(process);
        answers
    }

    /// Ends the daemon by this signal; returns when it is gone.
    async fn down(&mut self, signal: Signal) {
        let mut process = self.process.take().expect("a daemon that runs");
        let id = process.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a process to signal");
        process.wait().await.expect("a child");
    }
}

impl Daemon {
    /// Sends a signal that does not end it.
    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a daemon that runs");
        let id = process.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a process to signal");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            let lines: Vec<_> = log
                .lines()
                .filter(|line| !line.contains("level=info"))
                .collect();
            crate::harness::tell(&format!("--- log of the daemon ---\n{}", lines.join("\n")));
        }
        if let Some(mut process) = self.process.take() {
            let id = process.id().and_then(|id| i32::try_from(id).ok());
            if let Some(pid) = id.and_then(Pid::from_raw) {
                kill_process(pid, Signal::TERM).ok();
            }
            // A daemon ends its containers first.
            let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while std::time::Instant::now() < end && matches!(process.try_wait(), Ok(None)) {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            process.start_kill().ok();
        }
        // It mounts its own folder.
        std::process::Command::new("umount")
            .arg(self.path("data"))
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

/// A host on a daemon of its own. Its jobs have no network.
async fn host_on(daemon: &Daemon) -> Host {
    let docker = Docker::at(daemon.docker.host().to_owned());
    let long_poll = std::time::Duration::from_secs(20);
    let make = |gitlab: gantry_testkit::FakeGitLabBuilder| gitlab.long_poll(long_poll);
    Host::on(docker, "127.0.0.1".to_owned(), &Config::new(), make).await
}

#[rstest]
#[case::ended_well(Signal::TERM)]
#[case::killed(Signal::KILL)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_over_a_restart_of_an_engine_that_keeps_containers(#[case] signal: Signal) {
    let Some(mut daemon) = Daemon::start(true).await else {
        return;
    };
    let host = host_on(&daemon).await;
    let id = host.gitlab.enqueue(&talker());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    daemon.down(signal).await;
    runner.says("the engine does not answer").await;
    assert!(daemon.up().await);
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(5), "{}", job.log());
    assert_whole(&JobLog::of(&job));
    assert_eq!(host.witnessed("script"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_when_engine_and_runner_are_restarted() {
    let Some(mut daemon) = Daemon::start(true).await else {
        return;
    };
    let host = host_on(&daemon).await;
    let id = host.gitlab.enqueue(&talker());
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    daemon.down(Signal::TERM).await;
    let runner = host.start();
    runner.says("taking up a job of an earlier process").await;
    assert!(daemon.up().await);
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(5), "{}", job.log());
    assert_whole(&JobLog::of(&job));
}

/// The daemon ends the containers: no fault of the script.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_the_engine_ends_with_itself_is_told_so() {
    let Some(mut daemon) = Daemon::start(false).await else {
        return;
    };
    let host = host_on(&daemon).await;
    let work = job(["echo begun >> /witness/script", "sleep 1000"])
        .after_script(["echo begun >> /witness/after"]);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    daemon.down(Signal::TERM).await;
    runner.says("the engine").await;
    assert!(daemon.up().await);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(
        job.failure_reason.as_deref(),
        Some("runner_system_failure"),
        "{}",
        job.log()
    );
    JobLog::of(&job).assert_says("the container engine stopped while step_script ran");
    assert_eq!(host.witnessed("script"), ["begun"]);
}

/// An engine that takes connections and does not answer: nothing is known of the container, so nothing is done about it.
#[rstest]
#[case::in_mid_job(false)]
#[case::and_the_runner_dies_meanwhile(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_when_its_engine_hangs_for_a_while(#[case] killed: bool) {
    let Some(daemon) = Daemon::start(true).await else {
        return;
    };
    let host = host_on(&daemon).await;
    let id = host.gitlab.enqueue(&talker());
    let mut runner = host.start();
    host.wait_witness("script", 1).await;
    daemon.signal(Signal::STOP);
    if killed {
        runner.kill().await;
        runner = host.start();
        runner.says("taking up a job of an earlier process").await;
    }
    host.open_gate("go");
    // What asks the engine for nothing goes on.
    let asked = host.gitlab.requests_to(Endpoint::UpdateJob).len();
    until("the server to be told that the job runs", async || {
        (host.gitlab.requests_to(Endpoint::UpdateJob).len() > asked).then_some(())
    })
    .await;
    assert_eq!(host.gitlab.job(id).state, ServerJobState::Running);
    daemon.signal(Signal::CONT);
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(5), "{}", job.log());
    assert_whole(&JobLog::of(&job));
    assert_eq!(host.witnessed("script"), ["begun"]);
}
