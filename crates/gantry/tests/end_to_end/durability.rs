//! The runner is killed with `kill -9` and started again: the job ends with its true state, its log is whole and there once, the
//! user's code ran once, nothing is left. (What may happen at every record is swept on a scripted engine in the executor's tests;
//! here it is the real program, real processes and a real engine.)

use std::time::Duration;

use gantry_testkit::{
    Endpoint, Fault, GitHttp, JobBuilder, JobRecord, ServerJobState, ServiceBuilder,
};
use rstest::rstest;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::harness::{BUSYBOX, Config, Host, JobLog, Runner, Signal, gate, job, until};

mod detached;
mod kill_points;
mod state_folder;

/// Lines that the script prints to each stream.
const LINES: usize = 120;

/// A job whose every step leaves a mark: lines on both streams, one far above the 16 KiB in which engines keep lines, an end
/// without a newline, an exit code of its own, an `after_script` in the same container.
fn talkative() -> JobBuilder {
    let talk = format!(
        "i=0\nwhile [ $i -lt {LINES} ]; do\n  i=$((i+1)); echo out $i; echo err $i >&2; echo $i >> /witness/progress\n  \
         [ $((i % 10)) -ne 0 ] || sleep 0.05\ndone"
    );
    job([
        "echo begun >> /witness/script",
        &talk,
        "head -c 40000 /dev/zero | tr '\\0' x; echo",
        "printf 'the end, without a newline'",
        "exit 7",
    ])
    .after_script([
        "echo begun >> /witness/after",
        "for i in 1 2 3 4 5 6 7 8 9 10; do echo after $i; echo $i >> /witness/after-progress; sleep 0.02; done",
    ])
}

/// The same with sources to fetch and a file variable to clean up.
fn talkative_with_sources(git: &GitHttp) -> JobBuilder {
    // Enough that a fetch takes its time.
    let noise: Vec<u8> = (0..2_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let repository = git
        .repository("acme/widget")
        .file("noise", noise)
        .commit("noise")
        .build();
    talkative()
        .git(&repository, "main")
        .file("SETTINGS", "of the job")
}

/// The same with two services, reached before and after the script's lines.
fn talkative_with_services() -> JobBuilder {
    let web = |alias: &str| {
        ServiceBuilder::new(BUSYBOX)
            .alias(alias)
            .command(["httpd", "-f", "-p", "8080", "-h", "/etc"])
    };
    let reach = |name: &str| {
        format!("until wget -q -O - http://{name}:8080/passwd > /dev/null; do sleep 0.1; done")
    };
    let (first, second) = (reach("web"), reach("api"));
    talkative()
        .service(web("web"))
        .service(web("api"))
        .after_script([
            "echo begun >> /witness/after",
            &first,
            "for i in 1 2 3 4 5 6 7 8 9 10; do echo after $i; echo $i >> /witness/after-progress; sleep 0.02; done",
            &second,
        ])
}

/// What must be true of the job however often the runner died.
fn assert_ended_as_if_nothing_had_happened(host: &Host, job: &JobRecord, reference: &JobLog) {
    assert_same_end(host, job, &comparable(host, job), reference);
}

fn assert_same_end(host: &Host, job: &JobRecord, log: &JobLog, reference: &JobLog) {
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.failure_reason.as_deref(), Some("script_failure"));
    assert_eq!(job.exit_code, Some(7));
    host.gitlab.assert_patches(job.id);
    // In parts: a difference is easier to find.
    let numbered = |word: &str| -> Vec<String> {
        let number = |n| format!("{word} {n}");
        (1..=LINES).map(number).collect()
    };
    let with = |lines: &[String], word: &str| -> Vec<String> {
        let lines = lines.iter().filter(|line| line.starts_with(word));
        lines.cloned().collect()
    };
    assert_eq!(with(&log.stdout, "out "), numbered("out"));
    assert_eq!(with(&log.stderr, "err "), numbered("err"));
    assert_eq!(log.stderr, reference.stderr);
    assert_eq!(log.stdout, reference.stdout);
    assert_eq!(log.runner, reference.runner);
    assert_eq!(host.witnessed("script"), ["begun"]);
    assert_eq!(host.witnessed("after"), ["begun"]);
    assert_eq!(host.witnessed("progress").len(), LINES);
    assert_eq!(host.witnessed("after-progress").len(), 10);
}

fn comparable(host: &Host, job: &JobRecord) -> JobLog {
    let replace = [(host.short_token(), "TOKEN")];
    JobLog::of(job).comparable(&replace)
}

/// The log of an undisturbed run.
async fn reference() -> &'static JobLog {
    static REFERENCE: OnceCell<JobLog> = OnceCell::const_new();
    REFERENCE
        .get_or_init(|| async { undisturbed(|_| talkative()).await })
        .await
}

/// The same with sources.
async fn reference_with_sources() -> &'static JobLog {
    static REFERENCE: OnceCell<JobLog> = OnceCell::const_new();
    REFERENCE
        .get_or_init(|| async { undisturbed(talkative_with_sources).await })
        .await
}

/// The same with services.
async fn reference_with_services() -> &'static JobLog {
    static REFERENCE: OnceCell<JobLog> = OnceCell::const_new();
    REFERENCE
        .get_or_init(|| async { undisturbed(|_| talkative_with_services()).await })
        .await
}

async fn undisturbed(make: impl Fn(&GitHttp) -> JobBuilder) -> JobLog {
    let host = Host::new(&Config::new()).await.expect("an engine");
    let git = host.git().await;
    let id = host.gitlab.enqueue(&make(&git));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    comparable(&host, &job)
}

/// Whether a journal record is this step of some stage.
fn is_step(record: &Value, name: &str) -> bool {
    let step = &record["Stage"]["step"];
    step.as_str() == Some(name) || step.get(name).is_some()
}
