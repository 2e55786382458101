//! The GitLab stand-in as a program: hands out jobs from a file and prints, as JSON lines, when each reached its end.
//!
//! ```text
//! gantry-testkit --jobs jobs.json
//! {"event":"listening","url":"http://127.0.0.1:38201","token":"glrt-testkitRunnerToken"}
//! {"event":"final","job":8812345,"name":"true","state":"success",…,"handed_out":1764000000.123,"final":1764000000.456,"seconds":0.333}
//! {"event":"done","jobs":40,"success":40,"seconds":11.7,"per_minute":205.1}
//! ```
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use gantry_testkit::{
    Endpoint, FakeGitLab, GitHttp, JobBuilder, JobRecord, Repository, ServiceBuilder,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A GitLab server for runners, with a fixed set of jobs.
#[derive(Parser)]
struct Arguments {
    /// File with a list of jobs: [{"count": 40, "script": ["true"], "image": "busybox", …}].
    #[arg(long)]
    jobs: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Host name or address in the URLs that runners and containers see.
    #[arg(long)]
    host: Option<String>,
    /// Runner token to accept.
    #[arg(long, default_value = "glrt-testkitRunnerToken")]
    token: String,
    /// Hold empty job requests for so many seconds; 0: answer at once.
    #[arg(long, default_value_t = 50)]
    long_poll: u64,
    /// Trace update interval to ask for, in seconds.
    #[arg(long)]
    update_interval: Option<u32>,
    /// Enqueue the jobs only when a runner has asked for the first time.
    #[arg(long)]
    wait_for_runner: bool,
    /// One job after another: the next is enqueued when the last has ended.
    #[arg(long)]
    one_by_one: bool,
    /// Address of the git server for jobs with "git": true.
    #[arg(long, default_value = "127.0.0.1:0")]
    git_listen: SocketAddr,
    /// Go on after the last job.
    #[arg(long)]
    stay: bool,
    /// Print the log of jobs that do not succeed.
    #[arg(long)]
    show_logs: bool,
}

/// One entry of the file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct JobSpec {
    name: String,
    count: Option<usize>,
    script: Vec<String>,
    after_script: Option<Vec<String>>,
    image: Option<Value>,
    services: Vec<Value>,
    variables: BTreeMap<String, String>,
    timeout: Option<i64>,
    /// Sources from a small repository on the built-in git server.
    git: bool,
    /// JSON pointer to value, set in the finished payload.
    set: BTreeMap<String, Value>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let specs = match read_jobs(&arguments.jobs) {
        Ok(specs) => specs,
        Err(error) => {
            say(&json!({"event": "error", "message": error}));
            return ExitCode::FAILURE;
        }
    };
    let mut server = FakeGitLab::builder()
        .listen(arguments.listen)
        .runner_token(&arguments.token);
    if let Some(host) = &arguments.host {
        server = server.host(host);
    }
    if arguments.long_poll > 0 {
        server = server.long_poll(Duration::from_secs(arguments.long_poll));
    }
    let gitlab = server.start().await;
    gitlab.keep_bodies(false);
    let interval = arguments.update_interval.map(|seconds| seconds.to_string());
    gitlab.set_update_interval(interval.as_deref());
    let git = if specs.iter().any(|spec| spec.git) {
        let host = arguments.host.as_deref();
        Some(GitHttp::start_on(arguments.git_listen, host).await)
    } else {
        None
    };
    let repository = git.as_ref().map(small_repository);
    say(&json!({
        "event": "listening", "url": gitlab.url(), "token": gitlab.runner_token(),
        "git": git.as_ref().map(GitHttp::url),
    }));

    if arguments.wait_for_runner {
        gitlab.wait_for_requests(Endpoint::RequestJob, 1).await;
    }
    let start = SystemTime::now();
    let mut succeeded = 0;
    let mut total = 0;
    let mut watched = JoinSet::new();
    for spec in &specs {
        for _ in 0..spec.count.unwrap_or(1) {
            total += 1;
            let id = gitlab.enqueue(&builder(spec, repository.as_ref()));
            let (gitlab, show_log) = (gitlab.clone(), arguments.show_logs);
            watched.spawn(async move { report(&gitlab, id, show_log).await });
            if arguments.one_by_one {
                succeeded += finished(&mut watched).await;
            }
        }
    }
    while !watched.is_empty() {
        succeeded += finished(&mut watched).await;
    }
    let seconds = start.elapsed().unwrap_or_default().as_secs_f64();
    say(&json!({
        "event": "done", "jobs": total, "success": succeeded, "seconds": seconds,
        "per_minute": f64::from(total) * 60.0 / seconds,
    }));
    if arguments.stay {
        std::future::pending::<()>().await;
    }
    if succeeded == total {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// 1 if the next job to end succeeds.
async fn finished(watched: &mut JoinSet<bool>) -> u32 {
    u32::from(matches!(watched.join_next().await, Some(Ok(true))))
}

async fn report(gitlab: &FakeGitLab, id: i64, show_log: bool) -> bool {
    let job = gitlab.wait_until_final_unbounded(id).await;
    say(&summary(&job));
    let success = job.state == gantry_testkit::ServerJobState::Success;
    if show_log && !success {
        say(&json!({"event": "log", "job": id, "log": job.log()}));
    }
    success
}

fn summary(job: &JobRecord) -> Value {
    let (handed_out, last) = (job.handed_out_at.map(unix), job.final_at.map(unix));
    let seconds = handed_out.zip(last).map(|(from, to)| to - from);
    json!({
        "event": "final", "job": job.id, "name": job.name, "state": job.state.as_str(),
        "failure_reason": job.failure_reason, "exit_code": job.exit_code, "trace_bytes": job.trace.len(),
        "patches": job.patches, "updates": job.updates.len(), "handed_out": handed_out,
        "running": job.running_at.map(unix), "final": last, "seconds": seconds,
    })
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

fn read_jobs(path: &PathBuf) -> Result<Vec<JobSpec>, String> {
    let text =
        std::fs::read(path).map_err(|error| format!("jobs file {}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("jobs file {}: {error}", path.display()))
}

fn builder(spec: &JobSpec, repository: Option<&Repository>) -> JobBuilder {
    let name = if spec.name.is_empty() {
        "job"
    } else {
        &spec.name
    };
    let mut job = JobBuilder::new(name).script(spec.script.iter().map(String::as_str));
    if let Some(lines) = &spec.after_script {
        job = job.after_script(lines.iter().map(String::as_str));
    }
    match &spec.image {
        Some(Value::String(name)) => job = job.image(name),
        Some(image) => job = job.image_object(image.clone()),
        None => {}
    }
    for service in &spec.services {
        job = job.service(match service {
            Value::String(name) => ServiceBuilder::new(name),
            Value::Object(fields) => fields
                .iter()
                .fold(ServiceBuilder::new(""), |service, (field, value)| {
                    service.set(field, value.clone())
                }),
            other => ServiceBuilder::new(&other.to_string()),
        });
    }
    for (key, value) in &spec.variables {
        job = job.variable(key, value);
    }
    if let Some(seconds) = spec.timeout {
        job = job.timeout(seconds);
    }
    if spec.git
        && let Some(repository) = repository
    {
        job = job.git(repository, "main");
    }
    for (pointer, value) in &spec.set {
        job = job.set(pointer, value.clone());
    }
    job
}

/// What "a small git fetch" means: three commits, twenty files.
fn small_repository(git: &GitHttp) -> Repository {
    let mut builder = git.repository("acme/tools/widget");
    for number in 0..20 {
        let content = format!("file {number}\n").repeat(50);
        builder = builder.file(&format!("src/file{number}.txt"), content);
    }
    builder
        .commit("first")
        .file("README.md", "# Widget\n")
        .commit("second")
        .executable("build.sh", "#!/bin/sh\necho built\n")
        .commit("third")
        .build()
}

fn say(event: &Value) {
    println!("{event}");
}
