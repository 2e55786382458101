//! The stand-in itself, spoken to by hand over a socket.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

mod artifacts;

struct Spoken {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Spoken {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// `None` when the connection ends without an answer.
async fn speak(
    gitlab: &FakeGitLab,
    request_line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Spoken> {
    let mut stream = TcpStream::connect(gitlab.addr()).await.unwrap();
    let mut head = format!("{request_line} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "content-length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that hangs up early may refuse the body.
    let _sent = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _read = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    Some(Spoken {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head,
        body: answer[end + 4..].to_vec(),
    })
}

async fn ask(gitlab: &FakeGitLab, last_update: Option<&str>) -> Spoken {
    let token = gitlab.runner_token();
    let body = json!({
        "token": token, "last_update": last_update,
        "info": {"features": {"two_phase_job_commit": true}},
    });
    let headers = [
        ("runner-token", token),
        ("content-type", "application/json"),
    ];
    speak(
        gitlab,
        "POST /api/v4/jobs/request",
        &headers,
        body.to_string().as_bytes(),
    )
    .await
    .unwrap()
}

async fn update(gitlab: &FakeGitLab, id: i64, mut body: Value) -> Spoken {
    let token = gitlab.job(id).token;
    body["token"] = token.as_str().into();
    let headers = [
        ("job-token", token.as_str()),
        ("content-type", "application/json"),
    ];
    speak(
        gitlab,
        &format!("PUT /api/v4/jobs/{id}"),
        &headers,
        body.to_string().as_bytes(),
    )
    .await
    .unwrap()
}

async fn patch(gitlab: &FakeGitLab, id: i64, start: usize, bytes: &[u8]) -> Option<Spoken> {
    let token = gitlab.job(id).token;
    let range = format!("{start}-{}", start + bytes.len() - 1);
    let headers = [
        ("job-token", token.as_str()),
        ("content-type", "text/plain"),
        ("content-range", range.as_str()),
    ];
    speak(
        gitlab,
        &format!("PATCH /api/v4/jobs/{id}/trace"),
        &headers,
        bytes,
    )
    .await
}

fn output(bytes: &[u8]) -> Value {
    json!({"checksum": format!("crc32:{:08x}", crc32fast::hash(bytes)), "bytesize": bytes.len()})
}

#[tokio::test]
async fn a_job_goes_from_the_queue_to_its_final_state() {
    let gitlab = FakeGitLab::start().await;
    let id = gitlab.enqueue(&JobBuilder::new("unit").script(["true"]));
    let answer = ask(&gitlab, None).await;
    assert_eq!(answer.status, 201);
    let payload: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(payload["id"], id);
    assert_eq!(gitlab.job(id).state, ServerJobState::HandedOut);
    assert_eq!(patch(&gitlab, id, 0, b"hello").await.unwrap().status, 403);

    assert_eq!(
        update(&gitlab, id, json!({"state": "running"}))
            .await
            .status,
        200
    );
    assert_eq!(patch(&gitlab, id, 0, b"hello ").await.unwrap().status, 202);
    let gap = patch(&gitlab, id, 7, b"orld").await.unwrap();
    assert_eq!((gap.status, gap.header("range")), (416, Some("0-6")));
    assert_eq!(patch(&gitlab, id, 6, b"world").await.unwrap().status, 202);

    let done = json!({"state": "success", "output": output(b"hello world")});
    let answer = update(&gitlab, id, done.clone()).await;
    assert_eq!(
        (answer.status, answer.header("job-status")),
        (200, Some("success"))
    );
    assert_eq!(update(&gitlab, id, done).await.status, 403);
    let job = gitlab.wait_until_final(id).await;
    assert_eq!(job.states(), ["running", "success", "success"]);
    gitlab.assert_trace(id, b"hello world");
}

#[tokio::test]
async fn a_log_that_does_not_validate_is_forgotten_and_asked_for_again() {
    let gitlab = FakeGitLab::start().await;
    gitlab.accept_final_updates(1);
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    ask(&gitlab, None).await;
    update(&gitlab, id, json!({"state": "running"})).await;
    patch(&gitlab, id, 0, b"abc").await.unwrap();
    let wrong = json!({"state": "failed", "failure_reason": "script_failure", "exit_code": 3, "output": output(b"abd")});
    assert_eq!(update(&gitlab, id, wrong).await.status, 412);
    assert_eq!(patch(&gitlab, id, 0, b"abc").await.unwrap().status, 202);
    let right = json!({"state": "failed", "failure_reason": "script_failure", "exit_code": 3, "output": output(b"abc")});
    assert_eq!(update(&gitlab, id, right.clone()).await.status, 202);
    assert_eq!(update(&gitlab, id, right).await.status, 200);
    let job = gitlab.job(id);
    assert_eq!(
        (job.state, job.resets, job.exit_code),
        (ServerJobState::Failed, 1, Some(3))
    );
}

#[tokio::test]
async fn a_canceled_job_says_so_until_the_runner_has_finished() {
    let gitlab = FakeGitLab::start().await;
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    ask(&gitlab, None).await;
    update(&gitlab, id, json!({"state": "running"})).await;
    gitlab.cancel(id);
    let answer = patch(&gitlab, id, 0, b"x").await.unwrap();
    assert_eq!(
        (answer.status, answer.header("job-status")),
        (202, Some("canceling"))
    );
    let last = json!({"state": "failed", "output": output(b"x")});
    let answer = update(&gitlab, id, last).await;
    assert_eq!(
        (answer.status, answer.header("job-status")),
        (200, Some("canceled"))
    );

    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    ask(&gitlab, None).await;
    gitlab.abort(id);
    let answer = update(&gitlab, id, json!({"state": "running"})).await;
    assert_eq!(
        (answer.status, answer.header("job-status")),
        (403, Some("canceled"))
    );
    gitlab.delete(id);
    let unknown = speak(&gitlab, &format!("PUT /api/v4/jobs/{id}"), &[], b"{}")
        .await
        .unwrap();
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_request_that_knows_the_queue_is_held_until_a_job_comes() {
    let gitlab = FakeGitLab::builder()
        .long_poll(Duration::from_secs(50))
        .start()
        .await;
    let first = ask(&gitlab, None).await;
    assert_eq!(first.status, 204);
    let seen = first.header("x-gitlab-last-update").unwrap().to_owned();
    let held = tokio::spawn({
        let gitlab = gitlab.clone();
        async move { ask(&gitlab, Some(&seen)).await }
    });
    gitlab.wait_for_requests(Endpoint::RequestJob, 2).await;
    gitlab.enqueue(&JobBuilder::new("unit"));
    assert_eq!(held.await.unwrap().status, 201);
}

#[tokio::test]
async fn a_wrong_runner_token_is_refused() {
    let gitlab = FakeGitLab::start().await;
    gitlab.enqueue(&JobBuilder::new("unit"));
    gitlab.revoke_runner_token(gitlab.runner_token());
    assert_eq!(ask(&gitlab, None).await.status, 403);
    gitlab.add_runner_token(gitlab.runner_token());
    assert_eq!(ask(&gitlab, None).await.status, 201);
}

#[tokio::test]
async fn faults_hit_the_calls_they_name() {
    let gitlab = FakeGitLab::start().await;
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    ask(&gitlab, None).await;
    update(&gitlab, id, json!({"state": "running"})).await;
    gitlab.fault(Fault::on(Endpoint::PatchTrace).nth(1).drop_before_body());
    gitlab.fault(Fault::on(Endpoint::PatchTrace).nth(2).drop_unhandled());
    gitlab.fault(Fault::on(Endpoint::PatchTrace).nth(3).lose_answer());
    gitlab.fault(Fault::on(Endpoint::PatchTrace).nth(4).status(500));
    gitlab.fault(
        Fault::on(Endpoint::UpdateJob)
            .state("final")
            .answer(Answer::status(502).body("text/html", "<html>")),
    );
    for length in [0, 0, 3] {
        assert!(patch(&gitlab, id, 0, b"abc").await.is_none());
        assert_eq!(gitlab.job(id).trace.len(), length);
    }
    assert_eq!(patch(&gitlab, id, 3, b"def").await.unwrap().status, 500);
    assert_eq!(patch(&gitlab, id, 3, b"def").await.unwrap().status, 202);
    assert_eq!(
        update(&gitlab, id, json!({"state": "running"}))
            .await
            .status,
        200
    );
    let last = json!({"state": "success"});
    assert_eq!(update(&gitlab, id, last.clone()).await.body, b"<html>");
    gitlab.heal();
    assert_eq!(update(&gitlab, id, last).await.status, 200);
    gitlab.assert_trace(id, b"abcdef");
}

#[tokio::test]
async fn an_answer_can_be_cut_short() {
    let gitlab = FakeGitLab::start().await;
    gitlab.enqueue(&JobBuilder::new("unit"));
    gitlab.fault(Fault::on(Endpoint::RequestJob).cut_answer(100));
    let answer = ask(&gitlab, None).await;
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert_eq!(answer.body.len(), 100);
    assert!(length > 100);
}

#[tokio::test]
async fn a_server_that_is_down_refuses_connections_and_can_come_back() {
    let gitlab = FakeGitLab::start().await;
    gitlab.go_down().await;
    assert!(TcpStream::connect(gitlab.addr()).await.is_err());
    gitlab.come_back().await;
    assert_eq!(ask(&gitlab, None).await.status, 204);
}

#[tokio::test]
#[should_panic(expected = "differs from byte 2")]
async fn a_log_with_another_byte_is_found() {
    let gitlab = FakeGitLab::start().await;
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    ask(&gitlab, None).await;
    update(&gitlab, id, json!({"state": "running"})).await;
    patch(&gitlab, id, 0, b"abc").await;
    gitlab.assert_trace(id, b"abd");
}

#[tokio::test]
#[should_panic(expected = "byte 1 differs from what is stored")]
async fn a_patch_that_contradicts_the_log_is_found() {
    let gitlab = FakeGitLab::start().await;
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    ask(&gitlab, None).await;
    update(&gitlab, id, json!({"state": "running"})).await;
    patch(&gitlab, id, 0, b"abc").await;
    patch(&gitlab, id, 1, b"xc").await;
    gitlab.assert_trace(id, b"abc");
}
