//! What is measured.

use std::{
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use gantry_testkit::{
    Endpoint, FakeGitLab, GitHttp, JobBuilder, JobRecord, Repository, ServerJobState,
    ServiceBuilder,
};
use tokio::{process::Command, task::JoinSet};

use crate::{
    Arguments, Result, operator,
    runner::RunnerProcess,
    table::{Row, percentile, seconds},
};

/// 64 MB in lines of 100 bytes.
const LOG_SCRIPT: &str = "yes 012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678 | head -c 67108864 || true";
const LOG_BYTES: f64 = 67_108_864.0;

/// Port of the service that is looked at.
const PORT: &str = "8080";
/// A service that listens there at once.
const LISTEN: [&str; 5] = ["httpd", "-f", "-p", PORT, "-h/etc"];

pub(crate) struct Bench<'a> {
    pub(crate) arguments: &'a Arguments,
    command: &'a str,
    pub(crate) gitlab: FakeGitLab,
}

pub(crate) async fn all(arguments: &Arguments, command: &str) -> Result<Vec<Row>> {
    let gitlab = FakeGitLab::builder()
        .listen("0.0.0.0:0".parse()?)
        .host(&arguments.host)
        .long_poll(Duration::from_secs(50))
        .start()
        .await;
    gitlab.keep_bodies(false);
    let bench = Bench {
        arguments,
        command,
        gitlab,
    };
    let mut rows = Vec::new();
    if arguments.wants("trivial") {
        rows.push(bench.trivial().await?);
    }
    if arguments.wants("git") {
        rows.push(bench.git().await?);
    }
    if arguments.wants("service") {
        rows.push(bench.service().await?);
        rows.push(bench.service_with_port().await?);
    }
    if arguments.wants("parallel") {
        rows.push(bench.parallel().await?);
    }
    if arguments.wants("log") {
        rows.push(bench.log().await?);
    }
    if arguments.wants("memory") {
        rows.extend(bench.memory().await?);
    }
    if arguments.wants("cancel") {
        rows.push(bench.cancel().await?);
    }
    if arguments.wants("recovery") {
        rows.push(bench.recovery().await?);
    }
    if arguments.wants("cache") {
        rows.extend(bench.cache().await?);
    }
    if arguments.wants("artifacts") {
        rows.extend(bench.artifacts().await?);
    }
    if arguments.wants("sparse") {
        rows.extend(bench.sparse().await?);
    }
    if arguments.wants("submodules") {
        rows.push(bench.submodules().await?);
    }
    rows.extend(operator::all(arguments, command).await?);
    Ok(rows)
}

impl Bench<'_> {
    pub(crate) async fn runner(&self, extra: &str) -> Result<RunnerProcess> {
        self.runner_with(extra, "").await
    }

    /// `extra`: lines of `[[runners]]`; `docker`: of its `[runners.docker]`.
    pub(crate) async fn runner_with(&self, extra: &str, docker: &str) -> Result<RunnerProcess> {
        let before = self.gitlab.requests_to(Endpoint::RequestJob).len();
        let runner = RunnerProcess::start(
            self.command,
            self.gitlab.url(),
            self.gitlab.runner_token(),
            &self.arguments.image,
            extra,
            docker,
        )?;
        self.gitlab
            .wait_for_requests(Endpoint::RequestJob, before + 1)
            .await;
        Ok(runner)
    }

    async fn job(&self, job: &JobBuilder) -> Result<f64> {
        let id = self.gitlab.enqueue(job);
        let record = self.gitlab.wait_until_final_unbounded(id).await;
        if record.state != ServerJobState::Success {
            return Err(format!(
                "job {} ended as {}: {}",
                job.name(),
                record.state.as_str(),
                record.log()
            )
            .into());
        }
        Ok(span(&record))
    }

    async fn docker_run(&self, command: &[&str]) -> Result<f64> {
        let start = Instant::now();
        let image = self.arguments.image.as_str();
        docker(&[&["run", "--rm", image], command].concat()).await?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// By hand what a job with a service does: a network, the service, a look at its port until it answers, the script, the end of all.
    async fn docker_run_with_service(&self) -> Result<f64> {
        const NAME: &str = "gantry-bench-web";
        let image = self.arguments.image.as_str();
        // What a round that was broken off left.
        docker(&["rm", "-f", NAME]).await.ok();
        docker(&["network", "rm", NAME]).await.ok();
        let start = Instant::now();
        docker(&["network", "create", NAME]).await?;
        let service = ["run", "-d", "--name", NAME, "--network", NAME, image];
        docker(&[&service[..], &LISTEN].concat()).await?;
        let look = format!("until nc -w 1 {NAME} {PORT} < /dev/null; do sleep 0.05; done");
        let in_network = ["run", "--rm", "--network", NAME, image];
        docker(&[&in_network[..], &["sh", "-c", &look]].concat()).await?;
        docker(&[&in_network[..], &["true"]].concat()).await?;
        let span = start.elapsed().as_secs_f64();
        docker(&["rm", "-f", NAME]).await?;
        docker(&["network", "rm", NAME]).await?;
        Ok(span)
    }

    fn trivial_job(&self) -> JobBuilder {
        JobBuilder::new("trivial")
            .image(&self.arguments.image)
            .script(["true"])
            .variable("GIT_STRATEGY", "none")
    }

    /// Interleaves `docker run IMAGE true` with the job.
    async fn interleaved(&self, name: &'static str, aim: f64, job: &JobBuilder) -> Result<Row> {
        let by_hand = async || self.docker_run(&["true"]).await;
        self.interleaved_with(name, aim, job, by_hand).await
    }

    /// Interleaves the same done by hand with the job.
    async fn interleaved_with(
        &self,
        name: &'static str,
        aim: f64,
        job: &JobBuilder,
        by_hand: impl AsyncFn() -> Result<f64>,
    ) -> Result<Row> {
        let runner = self.runner("").await?;
        by_hand().await?;
        self.job(job).await?;
        let (mut runs, mut jobs) = (Vec::new(), Vec::new());
        for _ in 0..self.arguments.rounds {
            runs.push(by_hand().await?);
            jobs.push(self.job(job).await?);
            // What the job removes after its report must not run beside the next docker run.
            self.settle().await?;
        }
        drop(runner);
        let (run, job) = (percentile(&runs, 0.5), percentile(&jobs, 0.5));
        Ok(Row {
            name,
            p50: seconds(job),
            p95: seconds(percentile(&jobs, 0.95)),
            yardstick: seconds(run),
            ratio: Some(job / run),
            aim: format!("≤ {aim}"),
        })
    }

    /// Waits until no container of a job is left.
    pub(crate) async fn settle(&self) -> Result<()> {
        for _ in 0..200 {
            let output = Command::new("docker")
                .args([
                    "ps",
                    "-aq",
                    "--filter",
                    "label=com.gitlab.gitlab-runner.managed=true",
                ])
                .output()
                .await?;
            if output.stdout.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn trivial(&self) -> Result<Row> {
        self.interleaved("trivial job", 1.4, &self.trivial_job())
            .await
    }

    async fn git(&self) -> Result<Row> {
        let git = GitHttp::start_on("0.0.0.0:0".parse()?, Some(&self.arguments.host)).await;
        let repository = small_repository(&git);
        let job = JobBuilder::new("git")
            .image(&self.arguments.image)
            .script(["test -f README.md"])
            .git(&repository, "main");
        self.interleaved("job with a small git fetch", 2.3, &job)
            .await
    }

    async fn service(&self) -> Result<Row> {
        let job = self
            .trivial_job()
            .service(
                ServiceBuilder::new(&self.arguments.image)
                    .alias("web")
                    .command(["sleep", "600"]),
            )
            .variable("FF_NETWORK_PER_BUILD", "true");
        self.interleaved("job with a service, network per job", 3.2, &job)
            .await
    }

    /// A service with a port, which is looked at before the script.
    async fn service_with_port(&self) -> Result<Row> {
        let service = ServiceBuilder::new(&self.arguments.image)
            .alias("web")
            .command(LISTEN)
            .variable("HEALTHCHECK_TCP_PORT", PORT);
        let job = self
            .trivial_job()
            .service(service)
            .variable("FF_NETWORK_PER_BUILD", "true");
        let by_hand = async || self.docker_run_with_service().await;
        self.interleaved_with(
            "job with a service whose port is looked at",
            1.0,
            &job,
            by_hand,
        )
        .await
    }

    /// 40 jobs, 8 at a time, three rounds.
    async fn parallel(&self) -> Result<Row> {
        const JOBS: usize = 40;
        let (mut runs, mut jobs) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            runs.push(JOBS as f64 * 60.0 / self.parallel_docker_runs(JOBS).await?);
            self.settle().await?;
            let runner = self.runner("  limit = 8\n").await?;
            let start = SystemTime::now();
            let mut waiting = JoinSet::new();
            for _ in 0..JOBS {
                let id = self.gitlab.enqueue(&self.trivial_job());
                let gitlab = self.gitlab.clone();
                waiting.spawn(async move { gitlab.wait_until_final_unbounded(id).await });
            }
            while waiting.join_next().await.transpose()?.is_some() {}
            jobs.push(JOBS as f64 * 60.0 / start.elapsed()?.as_secs_f64());
            self.settle().await?;
            drop(runner);
        }
        let (run, job) = (percentile(&runs, 0.5), percentile(&jobs, 0.5));
        Ok(Row {
            name: "40 trivial jobs, 8 parallel, per minute",
            p50: format!("{job:.0}"),
            p95: String::new(),
            yardstick: format!("{run:.0}"),
            ratio: Some(job / run),
            aim: "≥ 0.6".to_owned(),
        })
    }

    async fn parallel_docker_runs(&self, count: usize) -> Result<f64> {
        let start = Instant::now();
        let mut running = JoinSet::new();
        let mut started = 0;
        while started < count || !running.is_empty() {
            while started < count && running.len() < 8 {
                started += 1;
                let image = self.arguments.image.clone();
                running.spawn(async move {
                    Command::new("docker")
                        .args(["run", "--rm", &image, "true"])
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status()
                        .await
                });
            }
            running.join_next().await.transpose()?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    async fn log(&self) -> Result<Row> {
        let runner = self.runner("").await?;
        let job = JobBuilder::new("log")
            .image(&self.arguments.image)
            .script([LOG_SCRIPT])
            .variable("GIT_STRATEGY", "none");
        let (mut runs, mut jobs) = (Vec::new(), Vec::new());
        let rounds = (self.arguments.rounds / 3).max(3);
        for _ in 0..rounds {
            runs.push(self.docker_run(&["sh", "-c", LOG_SCRIPT]).await?);
            jobs.push(self.job(&job).await?);
            self.settle().await?;
        }
        drop(runner);
        let (run, job) = (percentile(&runs, 0.5), percentile(&jobs, 0.5));
        Ok(Row {
            name: "64 MB of log in 100-byte lines",
            p50: format!("{} ({:.0} MB/s)", seconds(job), LOG_BYTES / 1e6 / job),
            p95: seconds(percentile(&jobs, 0.95)),
            yardstick: seconds(run),
            ratio: Some(job / run),
            aim: "≤ 0.8".to_owned(),
        })
    }

    async fn memory(&self) -> Result<Vec<Row>> {
        let runner = self.runner("").await?;
        self.job(&self.trivial_job()).await?;
        self.settle().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let idle = runner.memory();
        let mut ids = Vec::new();
        for _ in 0..50 {
            let job = JobBuilder::new("sleep")
                .image(&self.arguments.image)
                .script(["echo started", "sleep 40"])
                .variable("GIT_STRATEGY", "none");
            ids.push(self.gitlab.enqueue(&job));
        }
        for id in &ids {
            self.started(*id).await;
        }
        let busy = runner.memory();
        for id in &ids {
            self.gitlab.abort(*id);
        }
        self.settle().await?;
        let row = |name, value: f64, aim: &str| Row {
            name,
            p50: format!("{value:.1} MB"),
            p95: String::new(),
            yardstick: String::new(),
            ratio: None,
            aim: aim.to_owned(),
        };
        Ok(vec![
            row("resident memory, idle", idle, "≤ 12 MB"),
            row("resident memory, 50 jobs", busy, "≤ 25 MB"),
        ])
    }

    /// A silent job is canceled: until no container is left.
    async fn cancel(&self) -> Result<Row> {
        let runner = self.runner("").await?;
        let mut spans = Vec::new();
        for _ in 0..(self.arguments.rounds / 3).max(3) {
            let job = JobBuilder::new("silent")
                .image(&self.arguments.image)
                .script(["echo started", "sleep 600"])
                .variable("GIT_STRATEGY", "none");
            let id = self.gitlab.enqueue(&job);
            self.started(id).await;
            // It is silent from here on.
            tokio::time::sleep(Duration::from_secs(4)).await;
            self.gitlab.cancel(id);
            let start = Instant::now();
            self.gitlab.wait_until_final_unbounded(id).await;
            self.settle().await?;
            spans.push(start.elapsed().as_secs_f64());
        }
        drop(runner);
        Ok(Row {
            name: "canceled silent job: containers gone",
            p50: seconds(percentile(&spans, 0.5)),
            p95: seconds(percentile(&spans, 0.95)),
            yardstick: String::new(),
            ratio: None,
            aim: "≤ 5 s".to_owned(),
        })
    }

    async fn started(&self, id: i64) {
        // The last line of what is printed before the sleep; its echo comes with `$` before it.
        let printed = |job: &JobRecord| job.log().contains("O started");
        self.gitlab.wait_for(id, "printing", printed).await;
    }

    /// `kill -9` in the middle of a job that takes 3 s; how much longer it takes.
    async fn recovery(&self) -> Result<Row> {
        let mut runner = self.runner("").await?;
        let job = JobBuilder::new("three")
            .image(&self.arguments.image)
            .script(["echo started", "sleep 3"])
            .variable("GIT_STRATEGY", "none");
        let undisturbed = self.job(&job).await?;
        let mut added = Vec::new();
        for _ in 0..(self.arguments.rounds / 3).max(3) {
            let id = self.gitlab.enqueue(&job);
            self.started(id).await;
            runner.kill_and_start_again()?;
            let record = self.gitlab.wait_until_final_unbounded(id).await;
            if record.state != ServerJobState::Success {
                let log = std::fs::read_to_string(runner.log()).unwrap_or_default();
                return Err(
                    format!("a killed runner lost its job: {}\n{log}", record.log()).into(),
                );
            }
            added.push(span(&record) - undisturbed);
            self.settle().await?;
        }
        Ok(Row {
            name: "time added by a recovery",
            p50: seconds(percentile(&added, 0.5)),
            p95: seconds(percentile(&added, 0.95)),
            yardstick: String::new(),
            ratio: None,
            aim: "≤ 1 s".to_owned(),
        })
    }
}

/// Runs the Docker client, without its output.
async fn docker(arguments: &[&str]) -> Result<()> {
    let status = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("docker {}: {status}", arguments.join(" ")).into()),
    }
}

/// From handed out to final state at the server, in seconds.
fn span(record: &JobRecord) -> f64 {
    match (record.handed_out_at, record.final_at) {
        (Some(from), Some(to)) => to.duration_since(from).unwrap_or_default().as_secs_f64(),
        _ => f64::NAN,
    }
}

fn small_repository(git: &GitHttp) -> Repository {
    git.repository("acme/tools/widget")
        .file("README.md", "# widget\n")
        .file("src/main.c", "int main(void) { return 0; }\n")
        .commit("first")
        .build()
}
