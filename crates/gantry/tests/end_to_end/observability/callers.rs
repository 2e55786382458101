//! Hostile callers on the metrics port while jobs run.

use std::time::Duration;

use gantry_testkit::ServerJobState;
use rstest::rstest;
use tokio::net::UnixStream;

use super::*;
use crate::harness::{Host, job};

#[rstest]
#[case::post(
    "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
    405
)]
#[case::delete("DELETE /debug/jobs/list HTTP/1.1\r\nhost: a\r\n\r\n", 405)]
#[case::a_made_up_method("BREW /metrics HTTP/1.1\r\nhost: a\r\n\r\n", 405)]
#[case::no_page("GET /etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n", 404)]
#[case::up("GET /../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n", 404)]
#[case::the_status_is_not_for_everybody("GET /status HTTP/1.1\r\nhost: a\r\n\r\n", 404)]
#[case::profiles("GET /debug/pprof/ HTTP/1.1\r\nhost: a\r\n\r\n", 404)]
#[case::garbage("\u{1}\u{2}\u{3}\r\n\r\n", 400)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_should_ask_is_answered_in_words(#[case] request: &str, #[case] status: u16) {
    let folder = idle_host(ANY_PORT);
    let runner = Runner::start(folder.path(), &[], &[]);
    let address = metrics_address(&runner).await;
    send(address, request.as_bytes())
        .await
        .assert_status(status);
    get(address, "/metrics").await.assert_status(200);
}

/// Who speaks first in HTTP/2 waits for no words of HTTP/1.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_preface_of_http_2_ends_the_connection() {
    let folder = idle_host(ANY_PORT);
    let runner = Runner::start(folder.path(), &[], &[]);
    let address = metrics_address(&runner).await;
    let page = send(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!((page.head.as_str(), page.body.as_str()), ("", ""));
    get(address, "/metrics").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_is_refused() {
    let folder = idle_host(ANY_PORT);
    let runner = Runner::start(folder.path(), &[], &[]);
    let address = metrics_address(&runner).await;
    let head = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(200_000));
    send(address, head.as_bytes()).await.assert_status(431);
    let before = scrape(address).await;
    let memory = before.sum("process_resident_memory_bytes", &[]).unwrap();
    for _ in 0..50 {
        send(address, head.as_bytes()).await.assert_status(431);
    }
    let after = scrape(address).await;
    let grown = after.sum("process_resident_memory_bytes", &[]).unwrap() - memory;
    assert!(grown < 8e6, "{grown} bytes more");
}

/// Hundreds of connections that say nothing, half a word, or never read: jobs run on, and who asks properly is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_idle_callers_stops_neither_jobs_nor_metrics() {
    let Some(host) = Host::new(&Config::new().global(ANY_PORT)).await else {
        return;
    };
    let runner = host.start();
    let address = metrics_address(&runner).await;
    let mut crowd = Vec::new();
    for number in 0..300 {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            break;
        };
        let words: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /metrics HTTP/1.1\r\nhost",
            // Its answer is never read.
            _ => b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n",
        };
        stream.write_all(words).await.ok();
        crowd.push(stream);
    }
    let id = host.gitlab.enqueue(&job(["echo hello"]));
    assert_eq!(host.end_of(id).await.state, ServerJobState::Success);
    // As soon as those before it were sent away.
    let asked = tokio::time::timeout(Duration::from_secs(120), scrape(address));
    let found = asked.await.expect("an answer behind the crowd");
    assert_eq!(found.sum("gitlab_runner_jobs_total", &[]), Some(1.0));
    let open = found.sum("process_open_fds", &[]).unwrap();
    assert!(open < 100.0, "{open} open files");
    drop(crowd);
    host.finish(runner).await;
}

/// The same on the socket of the state folder, by a program of the same user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_on_the_status_socket_keeps_no_report_back() {
    let folder = idle_host("");
    let _runner = Runner::start(folder.path(), &[], &[]);
    super::status::report(folder.path()).await;
    let socket = folder.path().join(".gantry/status.sock");
    let mut crowd = Vec::new();
    for number in 0..100 {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let words: &[u8] = match number % 3 {
            0 => b"",
            1 => b"\x00\x01\x02 garbage\r\n\r\n",
            _ => b"GET /status HTTP/1.1\r\nhost",
        };
        stream.write_all(words).await.ok();
        crowd.push(stream);
    }
    let report = super::status::report(folder.path()).await;
    assert_eq!(report["state"], "running");
}
