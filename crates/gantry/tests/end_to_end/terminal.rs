//! Interactive web terminals (cli §9, docker-executor §7.7).

pub(crate) mod client;

use std::time::Duration;

use gantry_testkit::{Endpoint, JobBuilder, ServerJobState};
use rstest::rstest;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{Config, Host, JobLog, Runner, Signal, gate, job, until};
use client::Session;

/// A session server on an address that nobody else has.
const SERVER: &str = "[session_server]\nlisten_address = \"127.0.0.1:0\"\n";
const BEGUN: &str = "echo x >> /witness/begun";

fn config() -> Config {
    Config::new().more(SERVER)
}

/// A job that has begun ([`BEGUN`]), the runner it runs on, and where its terminal is to be had.
async fn begun(host: &Host, work: &JobBuilder) -> (i64, Runner, Session) {
    let id = host.gitlab.enqueue(work);
    let runner = host.start();
    let session = Session::of_job(host, 0).await;
    host.wait_witness("begun", 1).await;
    (id, runner, session)
}

/// Scenario 87 of the reference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_a_shell_beside_the_script_and_ends_with_it() {
    let Some(host) = Host::new(&config()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&job([
        "echo from the script > /tmp/here",
        BEGUN,
        &gate("end"),
        "cat /tmp/there",
    ]));
    let runner = host.start();
    let session = Session::of_job(&host, 0).await;
    host.secret(&session.token);
    assert!(
        session
            .certificate
            .starts_with("-----BEGIN CERTIFICATE-----")
    );
    host.wait_witness("begun", 1).await;
    let mut terminal = session.open().await.unwrap();
    terminal
        .types("tty; stty size; cat /tmp/here; echo TERM=$TERM")
        .await;
    let text = terminal.shows("TERM=xterm\r\n").await;
    assert!(text.contains("/dev/pts/"), "{text}");
    assert!(text.contains("24 80\r\n"), "{text}");
    assert!(text.contains("from the script\r\n"), "{text}");
    // What it does is seen by the script.
    terminal
        .types("echo from the terminal > /tmp/there; echo do''ne")
        .await;
    terminal.shows("done\r\n").await;
    let report = crate::observability::report(host.folder()).await;
    assert_eq!(report["jobs"][0]["terminal"], true);
    assert_eq!(session.open().await.err(), Some(423));
    assert_eq!(session.ask("/exec", "wrong").await, Ok(401));
    assert_eq!(session.ask("/exec", &session.token).await, Ok(405));
    assert_eq!(session.ask("/proxy/a/80/", &session.token).await, Ok(404));
    host.open_gate("end");
    let (code, reason, text) = terminal.end().await;
    assert_eq!((code, reason.as_str()), (1000, "build container exited"));
    assert!(text.ends_with("\r\nbuild container exited\r\n"), "{text:?}");
    let job = host.end_of(id).await;
    assert_eq!(job.state, ServerJobState::Success);
    let log = JobLog::of(&job);
    log.assert_prints("from the terminal");
    assert!(!job.log().contains("Terminal"));
    until("the session to be closed", async || {
        (session.ask("/exec", &session.token).await == Ok(404)).then_some(())
    })
    .await;
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_offers_another_session_and_the_features_say_so() {
    let Some(host) = Host::new(&config()).await else {
        return;
    };
    let ids = [(); 2].map(|()| host.gitlab.enqueue(&job(["true"])));
    let runner = host.start();
    for id in ids {
        host.end_of(id).await;
    }
    let requests = host.gitlab.requests_to(Endpoint::RequestJob);
    let mut urls: Vec<_> = requests
        .iter()
        .map(|call| call.json()["session"]["url"].clone())
        .collect();
    let asked = urls.len();
    urls.sort_by_key(ToString::to_string);
    urls.dedup();
    assert_eq!(urls.len(), asked);
    let features = requests[0].json()["info"]["features"].clone();
    assert_eq!(
        (&features["session"], &features["terminal"]),
        (&true.into(), &true.into())
    );
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_session_server_no_session_is_offered() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    runner
        .says("[session_server].listen_address not defined, session endpoints disabled")
        .await;
    host.end_of(id).await;
    let request = host.gitlab.requests_to(Endpoint::RequestJob)[0].json();
    assert!(request.get("session").is_none());
    // What the executor can do, as the peer says it.
    assert_eq!(request["info"]["features"]["terminal"], true);
    host.finish(runner).await;
}

/// The peer's ends with the stage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_goes_on_in_after_script() {
    let Some(host) = Host::new(&config()).await else {
        return;
    };
    let (id, runner, session) = begun(
        &host,
        &job([BEGUN, &gate("end"), "exit 3"])
            .after_script(["echo x >> /witness/after", &gate("after-end")]),
    )
    .await;
    let mut terminal = session.open().await.unwrap();
    terminal.types("echo o''ne").await;
    terminal.shows("one\r\n").await;
    host.open_gate("end");
    terminal.shows("build container exited\r\n").await;
    host.wait_witness("after", 1).await;
    terminal.types("echo tw''o").await;
    terminal.shows("two\r\n").await;
    host.open_gate("after-end");
    assert_eq!(terminal.end().await.1, "build container exited");
    assert_eq!(host.end_of(id).await.exit_code, Some(3));
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_terminal_began_is_told_when_its_user_leaves() {
    let Some(host) = Host::new(&config()).await else {
        return;
    };
    let count = "ps -o args | grep -c '[s]leep 7654' >> /witness/left || true";
    let (id, runner, session) =
        begun(&host, &job([BEGUN, &gate("look"), count, &gate("end")])).await;
    let mut terminal = session.open().await.unwrap();
    terminal.types("sleep 7654 & echo o''k; sleep 7654").await;
    terminal.shows("ok\r\n").await;
    terminal.leave().await;
    // Its place is free only when the shell is told.
    until("the terminal to be free", async || {
        match session.open().await {
            Ok(terminal) => {
                terminal.leave().await;
                Some(())
            }
            Err(status) => {
                assert_eq!(status, 423);
                None
            }
        }
    })
    .await;
    host.open_gate("look");
    host.wait_witness("left", 1).await;
    assert_eq!(host.witnessed("left"), ["0"]);
    host.open_gate("end");
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_asked_for_a_terminal_keeps_the_container_of_a_failed_job() {
    let Some(host) = Host::new(&config().gantry("terminal_after_script = true")).await else {
        return;
    };
    let (id, runner, session) = begun(
        &host,
        &job(["echo evidence > /tmp/here", BEGUN, &gate("end"), "exit 3"]),
    )
    .await;
    let mut terminal = session.open().await.unwrap();
    terminal.types("echo o''ne").await;
    terminal.shows("one\r\n").await;
    host.open_gate("end");
    terminal.shows("build container exited\r\n").await;
    // What is typed before there is a shell again goes nowhere.
    terminal.shows("# ").await;
    terminal.types("cat /tmp/here").await;
    terminal.shows("evidence\r\n").await;
    assert!(!host.gitlab.job(id).state.is_final());
    // The shell's end is the terminal's.
    terminal.types("exit").await;
    assert_eq!(terminal.end().await.1, "the shell exited");
    let job = host.end_of(id).await;
    assert_eq!(job.exit_code, Some(3));
    let log = JobLog::of(&job);
    log.assert_says("Terminal is connected, will time out in 30m0s...");
    log.assert_says("Terminal disconnected");
    assert_eq!(host.witnessed("begun").len(), 1, "the script ran once");
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_session_timeout_counts_at_once() {
    let keeps = |config: Config| config.gantry("terminal_after_script = true");
    let Some(host) = Host::new(&keeps(config())).await else {
        return;
    };
    let (id, runner, session) = begun(&host, &job([BEGUN, &gate("end")])).await;
    let mut terminal = session.open().await.unwrap();
    let short = keeps(Config::new()).more(&format!("{SERVER}session_timeout = 1\n"));
    host.configure(&short);
    until("the new configuration", async || {
        (runner.count("Configuration loaded") > 1).then_some(())
    })
    .await;
    assert_eq!(runner.count("takes effect at the next start"), 0);
    host.open_gate("end");
    let reason = "terminal session timed out (maximum time allowed - 1s)";
    assert_eq!(terminal.end().await.1, reason);
    let job = host.end_of(id).await;
    assert_eq!(job.state, ServerJobState::Success);
    JobLog::of(&job).assert_says(reason);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_ends_the_terminal_with_the_script() {
    let Some(host) = Host::new(&config().gantry("terminal_after_script = true")).await else {
        return;
    };
    let (id, runner, session) = begun(&host, &job([BEGUN, "sleep 1000"])).await;
    let mut terminal = session.open().await.unwrap();
    terminal.types("echo o''ne").await;
    terminal.shows("one\r\n").await;
    host.gitlab.cancel(id);
    assert_eq!(terminal.end().await.0, 1000);
    assert_eq!(host.end_of(id).await.state, ServerJobState::Canceled);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_runner_keeps_terminals_and_a_stopped_one_ends_them() {
    let Some(host) = Host::new(&config()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&job([BEGUN, "sleep 1000"]));
    let mut runner = host.start();
    let session = Session::of_job(&host, 0).await;
    host.wait_witness("begun", 1).await;
    let mut terminal = session.open().await.unwrap();
    runner.signal(Signal::QUIT);
    runner.says("Starting graceful shutdown").await;
    terminal.types("echo o''ne").await;
    terminal.shows("one\r\n").await;
    assert!(terminal.stays(Duration::from_millis(200)).await);
    runner.signal(Signal::TERM);
    assert_eq!(terminal.end().await.0, 1000);
    let job = host.end_of(id).await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(runner.exit_code().await, 0);
    host.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_job_goes_on_and_its_terminal_is_gone() {
    let Some(host) = Host::new(&config()).await else {
        return;
    };
    let (id, runner, session) = begun(&host, &job([BEGUN, &gate("end"), "echo the end"])).await;
    let mut terminal = session.open().await.unwrap();
    terminal.types("echo o''ne").await;
    terminal.shows("one\r\n").await;
    runner.kill().await;
    assert_eq!(terminal.end().await.0, 1006);
    let runner = host.start();
    runner
        .says("the job has no terminal any more: its session ended with the process that opened it")
        .await;
    // Another address, another certificate: nothing answers as the old session did.
    assert!(session.ask("/exec", &session.token).await.is_err());
    host.open_gate("end");
    let job = host.end_of(id).await;
    assert_eq!(job.state, ServerJobState::Success);
    let log = JobLog::of(&job);
    log.assert_says("WARNING: The interactive terminal of this job is not available any more: the runner was restarted");
    log.assert_prints("the end");
    // The next job has one again.
    let next = host.gitlab.enqueue(
        &gantry_testkit::JobBuilder::new("next")
            .script(["echo x >> /witness/next", &gate("next-end")]),
    );
    let session = Session::of_job(&host, 1).await;
    host.wait_witness("next", 1).await;
    session.open().await.unwrap().leave().await;
    host.open_gate("next-end");
    host.end_of(next).await;
    host.finish(runner).await;
}

/// Callers that say nothing, speak no TLS, or know no session: jobs run, and who may is let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_strangers_stops_neither_jobs_nor_terminals() {
    let Some(host) = Host::new(&config()).await else {
        return;
    };
    let first = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    let session = Session::of_job(&host, 0).await;
    host.end_of(first).await;
    let mut crowd = Vec::new();
    for number in 0..200 {
        let Ok(mut stream) = TcpStream::connect(session.address()).await else {
            break;
        };
        let words: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET / HTTP/1.1\r\n\r\n",
            2 => b"\x16\x03\x01\x02\x00\x01",
            _ => b"\x00\xff\x00\xff garbage",
        };
        stream.write_all(words).await.ok();
        crowd.push(stream);
    }
    let id = host.gitlab.enqueue(&job([BEGUN, &gate("end")]));
    let session = Session::of_job(&host, 1).await;
    host.wait_witness("begun", 1).await;
    let mut terminal = session.open().await.unwrap();
    terminal.types("echo o''ne").await;
    terminal.shows("one\r\n").await;
    host.open_gate("end");
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    drop(crowd);
    host.finish(runner).await;
}

#[rstest]
#[case::a_scheme(
    "listen_address = \"127.0.0.1:0\"\nadvertise_address = \"https://ci.example.com\"",
    "has a scheme"
)]
#[case::no_host("listen_address = \":0\"", "set session_server.advertise_address")]
#[case::not_of_this_machine(
    "listen_address = \"203.0.113.1:8093\"",
    "listen on 203.0.113.1:8093 for terminals"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_none_ends_the_start(#[case] lines: &str, #[case] words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[session_server]\n{lines}\n");
    std::fs::write(folder.path().join("config.toml"), text).unwrap();
    let mut runner = Runner::start(folder.path(), &[], &[]);
    assert_eq!(runner.exit_code().await, 1);
    runner.says(words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_address_waits_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, SERVER).unwrap();
    let runner = Runner::start(folder.path(), &[], &[]);
    runner.says("Session server listening").await;
    std::fs::write(
        &path,
        format!("{SERVER}advertise_address = \"ci.example.com:8093\"\n"),
    )
    .unwrap();
    runner.signal(Signal::HUP);
    runner
        .says("changed, but takes effect at the next start")
        .await;
    assert!(
        runner
            .log()
            .text()
            .contains("session_server.advertise_address")
    );
}
