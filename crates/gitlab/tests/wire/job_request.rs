//! Asking for jobs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_gitlab::{
    CallFailure, CallObserver, CallRecord, Connection, Coordinators, Endpoint as Call, JobRequest,
    JobRequestAnswer, Product,
};
use gantry_testkit::{Answer, Endpoint, FakeGitLab, Fault, JobBuilder, ServerJobState};
use serde_json::{Value, json};

use super::fixture::{connection, coordinator, coordinators, receive, request};

async fn ask(gitlab: &FakeGitLab) -> JobRequestAnswer {
    coordinator(gitlab).request_job(&request()).await.answer
}

fn requests(gitlab: &FakeGitLab) -> usize {
    gitlab.requests_to(Endpoint::RequestJob).len()
}

#[tokio::test]
async fn the_request_says_who_asks_and_nothing_that_is_not_there() {
    let gitlab = FakeGitLab::start().await;
    assert!(matches!(ask(&gitlab).await, JobRequestAnswer::NoJob));
    let sent = &gitlab.requests_to(Endpoint::RequestJob)[0];
    let body = sent.json();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["info", "system_id", "token"]);
    assert_eq!(body["token"], gitlab.runner_token());
    assert_eq!(body["system_id"], "s_0123456789ab");
    assert_eq!(body["info"]["name"], "gitlab-runner");
    assert_eq!(body["info"]["version"], "19.4.0");
    assert_eq!(body["info"]["executor"], "docker");
    assert_eq!(body["info"]["shell"], "bash");
    assert_eq!(body["info"]["config"], json!({"gpus": ""}));
    assert_eq!(body["info"]["features"].as_object().unwrap().len(), 31);
    assert_eq!(sent.path, "/api/v4/jobs/request");
    assert_eq!(sent.header("runner-token"), Some(gitlab.runner_token()));
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert_eq!(sent.header("accept"), Some("application/json"));
}

/// Scenario 54.
#[tokio::test]
async fn every_request_names_the_product_and_a_correlation_id_which_the_server_may_replace() {
    let gitlab = FakeGitLab::start().await;
    gitlab.enqueue(&JobBuilder::new("one"));
    gitlab.enqueue(&JobBuilder::new("two"));
    let coordinator = coordinator(&gitlab);
    let own = receive(&coordinator).await.correlation_id;
    let sent = gitlab.requests();
    assert_eq!(sent[0].header("x-request-id"), Some(own.as_str()));
    assert_eq!(own.len(), 32);
    let agent = sent[0].header("user-agent").unwrap();
    assert!(
        agent.starts_with("gitlab-runner 19.4.0 (19-4-stable; rust"),
        "{agent}"
    );

    gitlab.fault(Fault::on(Endpoint::RequestJob).add_header("x-request-id", "01SERVER"));
    assert_eq!(receive(&coordinator).await.correlation_id, "01SERVER");
}

/// Scenario 33.
#[tokio::test]
async fn the_servers_last_update_is_echoed_and_kept_when_it_is_silent() {
    let gitlab = FakeGitLab::start().await;
    let silent = || Answer::status(204);
    gitlab.fault(
        Fault::on(Endpoint::RequestJob)
            .nth(1)
            .answer(silent().header("X-GitLab-Last-Update", "abc")),
    );
    gitlab.fault(Fault::on(Endpoint::RequestJob).nth(2).answer(silent()));
    gitlab.fault(
        Fault::on(Endpoint::RequestJob)
            .nth(3)
            .answer(silent().header("X-GitLab-Last-Update", "")),
    );
    let coordinator = coordinator(&gitlab);
    let without_echo = JobRequest {
        echo_last_update: false,
        ..request()
    };
    for _ in 0..4 {
        coordinator.request_job(&request()).await;
    }
    coordinator.request_job(&without_echo).await;
    let sent: Vec<Value> = gitlab
        .requests()
        .iter()
        .map(|request| request.json()["last_update"].clone())
        .collect();
    let abc = Value::from("abc");
    assert_eq!(
        sent,
        [Value::Null, abc.clone(), abc.clone(), abc, Value::Null]
    );
}

/// Scenario 34.
#[tokio::test]
async fn a_held_request_gives_the_job_that_comes() {
    let gitlab = FakeGitLab::builder()
        .long_poll(Duration::from_secs(50))
        .start()
        .await;
    let coordinator = coordinator(&gitlab);
    coordinator.request_job(&request()).await;
    let held = tokio::spawn(async move { receive(&coordinator).await });
    gitlab.wait_for_requests(Endpoint::RequestJob, 2).await;
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    assert_eq!(held.await.unwrap().job.id, id);
}

/// Scenarios 34 and 35.
#[tokio::test]
async fn an_aborted_request_takes_no_job_and_one_under_way_is_never_confirmed() {
    let gitlab = FakeGitLab::builder()
        .long_poll(Duration::from_secs(50))
        .start()
        .await;
    let client = coordinator(&gitlab);
    client.request_job(&request()).await;
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.request_job(&request()).await }
    });
    gitlab.wait_for_requests(Endpoint::RequestJob, 2).await;
    held.abort();
    assert!(held.await.unwrap_err().is_cancelled());
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    // Whoever got it, nobody has confirmed it; at the latest the server's reclaim gives it to the next who asks.
    gitlab.reclaim(id);
    assert_eq!(receive(&client).await.job.id, id);
    assert_eq!(gitlab.job(id).state, ServerJobState::HandedOut);
    assert_eq!(gitlab.job(id).states(), [] as [&str; 0]);
}

/// Scenario 36.
#[tokio::test]
async fn a_refused_token_is_the_only_answer_that_counts_as_unhealthy() {
    let gitlab = FakeGitLab::start().await;
    gitlab.revoke_runner_token(gitlab.runner_token());
    let answer = ask(&gitlab).await;
    assert!(!answer.is_healthy());
    let JobRequestAnswer::Forbidden { message } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(message, "403 Forbidden");
    assert_eq!(requests(&gitlab), 1);
}

/// Scenarios 37 and 38.
#[tokio::test]
async fn busy_servers_are_asked_five_times_in_one_call_and_conflicts_once() {
    for (status, attempts, throttled) in [
        (503, 5, true),
        (500, 5, true),
        (429, 5, true),
        (409, 1, false),
        (400, 1, false),
        (501, 1, false),
    ] {
        let gitlab = FakeGitLab::start().await;
        gitlab.fault(
            Fault::on(Endpoint::RequestJob).answer(
                Answer::status(status)
                    .body("application/json", r#"{"message":{"runner":["is busy"]}}"#),
            ),
        );
        let reply = coordinator(&gitlab).request_job(&request()).await;
        assert_eq!(requests(&gitlab), attempts, "{status}");
        assert_eq!(reply.throttled, throttled, "{status}");
        assert!(reply.answer.is_healthy());
        match (status, reply.answer) {
            (503, JobRequestAnswer::Unavailable) => {}
            (_, JobRequestAnswer::Failed(failure)) => {
                assert_eq!(failure.status(), Some(status));
                let text = failure.to_string();
                assert!(text.starts_with("POST http://127.0.0.1:"), "{text}");
                assert!(text.ends_with("(runner: is busy)"), "{text}");
            }
            (_, other) => panic!("{status}: {other:?}"),
        }
    }
}

/// Scenario 37.
#[tokio::test]
async fn a_server_that_recovers_within_a_call_gives_its_job() {
    let gitlab = FakeGitLab::start().await;
    let id = gitlab.enqueue(&JobBuilder::new("unit"));
    gitlab.fault(Fault::on(Endpoint::RequestJob).calls(..=2).status(502));
    let reply = coordinator(&gitlab).request_job(&request()).await;
    assert!(reply.throttled);
    let JobRequestAnswer::Job(received) = reply.answer else {
        panic!("{:?}", reply.answer)
    };
    assert_eq!(received.job.id, id);
    let ids: Vec<_> = gitlab
        .requests()
        .iter()
        .map(|request| request.header("x-request-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]), "one call, one id");
}

/// Scenario 39.
#[tokio::test]
async fn an_answer_that_is_no_json_names_what_it_is() {
    let gitlab = FakeGitLab::start().await;
    gitlab.fault(
        Fault::on(Endpoint::RequestJob)
            .nth(1)
            .answer(Answer::status(201).body("text/html", "<html>login</html>")),
    );
    gitlab.fault(Fault::on(Endpoint::RequestJob).nth(2).status(201));
    for found in ["text/html", ""] {
        let answer = ask(&gitlab).await;
        assert!(answer.is_healthy());
        let JobRequestAnswer::Failed(CallFailure::ContentType { found: named, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(named, found);
    }
}

/// Scenario 39.
#[tokio::test]
async fn a_job_cut_short_on_the_wire_is_a_failed_request() {
    let gitlab = FakeGitLab::start().await;
    gitlab.enqueue(&JobBuilder::new("unit"));
    gitlab.fault(Fault::on(Endpoint::RequestJob).cut_answer(500));
    let answer = ask(&gitlab).await;
    assert!(answer.is_healthy());
    assert!(
        matches!(
            &answer,
            JobRequestAnswer::Failed(CallFailure::Transport { .. })
        ),
        "{answer:?}"
    );
}

/// Scenario 39.
#[tokio::test]
async fn a_payload_that_is_no_job_is_named_by_place_and_can_still_be_reported() {
    let gitlab = FakeGitLab::start().await;
    gitlab.enqueue_raw(5, "glcbt-5", r#"{"id": 5, "token": "glcbt-5", "steps": ["#);
    gitlab.enqueue_raw(
        6,
        "glcbt-6",
        r#"{"id": 6, "token": "glcbt-6", "steps": 17}"#,
    );
    let JobRequestAnswer::Unreadable(cut) = ask(&gitlab).await else {
        panic!("cut")
    };
    assert!(cut.credentials.is_none());
    let answer = ask(&gitlab).await;
    assert!(answer.is_healthy());
    let JobRequestAnswer::Unreadable(wrong) = answer else {
        panic!("{answer:?}")
    };
    assert!(wrong.error.contains("steps"), "{}", wrong.error);
    let (id, token) = wrong.credentials.unwrap();
    assert_eq!((id, token.expose()), (6, "glcbt-6"));
}

/// Scenario 39.
#[tokio::test]
async fn large_payloads_and_nulls_in_odd_places_are_jobs() {
    let gitlab = FakeGitLab::start().await;
    let large = JobBuilder::new("large")
        .variable("LARGE", &"x".repeat(5 * 1024 * 1024))
        .set("/run", Value::Null)
        .set("/image", Value::Null)
        .set("/cache", Value::Null)
        .set("/variables/0/value", Value::Null)
        .set("/unheard_of", json!({"a": [1]}));
    let id = gitlab.enqueue(&large);
    let received = receive(&coordinator(&gitlab)).await;
    assert_eq!(received.job.id, id);
    assert_eq!(received.payload.0, gitlab.job(id).payload, "byte for byte");
    assert!(format!("{received:?}").len() < 200_000 + 5 * 1024 * 1024);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failed_request_made_once() {
    let gitlab = FakeGitLab::start().await;
    let client = coordinator(&gitlab);
    gitlab.go_down().await;
    let reply = client.request_job(&request()).await;
    assert!(reply.answer.is_healthy());
    assert!(!reply.throttled);
    let JobRequestAnswer::Failed(failure) = reply.answer else {
        panic!("{:?}", reply.answer)
    };
    let text = failure.to_string();
    assert!(text.contains("onnection refused"), "{text}");
    gitlab.come_back().await;
    let answer = client.request_job(&request()).await.answer;
    assert!(matches!(answer, JobRequestAnswer::NoJob), "{answer:?}");
}

#[test]
fn a_url_that_cannot_be_used_is_no_client() {
    for url in ["", "gitlab.example.com", "ftp://gitlab.example.com"] {
        let connection = Connection::new(url, "glrt-x".into());
        assert!(coordinators().get(&connection).is_err(), "{url:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_place_takes_method_body_and_token_along() {
    let (old, new) = (FakeGitLab::start().await, FakeGitLab::start().await);
    let id = new.enqueue(&JobBuilder::new("moved"));
    let to = format!("{}/api/v4/jobs/request", new.url());
    old.fault(Fault::on(Endpoint::RequestJob).answer(Answer::status(307).header("location", &to)));
    assert_eq!(receive(&coordinator(&old)).await.job.id, id);

    let circle = format!("{}/api/v4/jobs/request", old.url());
    old.heal();
    old.fault(
        Fault::on(Endpoint::RequestJob).answer(Answer::status(308).header("location", &circle)),
    );
    let JobRequestAnswer::Failed(failure) = ask(&old).await else {
        panic!("an endless redirect")
    };
    let text = failure.to_string();
    assert!(text.contains("stopped after 10 redirects"), "{text}");
}

#[tokio::test]
async fn connections_are_kept_until_they_are_too_old() {
    let gitlab = FakeGitLab::start().await;
    let young = Connection {
        max_age: None,
        ..connection(&gitlab)
    };
    let old = Connection {
        max_age: Some(Duration::from_nanos(1)),
        ..connection(&gitlab)
    };
    for (connection, connections) in [(young, 1), (old, 3)] {
        let before = requests(&gitlab);
        let client = coordinators().get(&connection).unwrap();
        for _ in 0..3 {
            client.request_job(&request()).await;
        }
        let mut peers: Vec<_> = gitlab.requests()[before..]
            .iter()
            .map(|request| request.peer)
            .collect();
        peers.dedup();
        assert_eq!(peers.len(), connections, "{:?}", connection.max_age);
    }
}

#[tokio::test]
async fn entries_of_the_same_url_token_and_files_share_a_client() {
    let gitlab = FakeGitLab::start().await;
    let coordinators = coordinators();
    let first = coordinators.get(&connection(&gitlab)).unwrap();
    let same = coordinators.get(&connection(&gitlab)).unwrap();
    let other = Connection::new(gitlab.url(), "glrt-other".into());
    let other = coordinators.get(&other).unwrap();
    first.request_job(&request()).await;
    same.request_job(&request()).await;
    gitlab.add_runner_token("glrt-other");
    other.request_job(&request()).await;
    let echoed: Vec<bool> = gitlab
        .requests()
        .iter()
        .map(|request| request.json().get("last_update").is_some())
        .collect();
    assert_eq!(echoed, [false, true, false]);
}

#[tokio::test]
async fn every_call_is_told_to_the_observer_with_all_its_attempts() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<CallRecord>>);
    impl CallObserver for Seen {
        fn call_ended(&self, record: &CallRecord) {
            self.0.lock().unwrap().push(record.clone());
        }
    }
    let gitlab = FakeGitLab::start().await;
    gitlab.fault(Fault::on(Endpoint::RequestJob).calls(..=2).status(500));
    let seen = Arc::new(Seen::default());
    let coordinators = Coordinators::new(Product::default(), Some(Arc::clone(&seen) as Arc<_>));
    let connection = Connection {
        runner: "t1_short".into(),
        ..connection(&gitlab)
    };
    let client = coordinators.get(&connection).unwrap();
    client.request_job(&request()).await;
    gitlab.go_down().await;
    client.request_job(&request()).await;
    let seen = seen.0.lock().unwrap();
    let short: Vec<_> = seen
        .iter()
        .map(|record| (record.endpoint, record.status, record.attempts))
        .collect();
    assert_eq!(
        short,
        [
            (Call::RequestJob, Some(204), 3),
            (Call::RequestJob, None, 1)
        ]
    );
    assert_eq!(seen[0].endpoint.path_template(), "/api/v4/jobs/request");
    assert_eq!(&*seen[0].runner, "t1_short");
}

#[tokio::test]
async fn no_token_is_shown_by_debug_or_by_an_error() {
    let gitlab = FakeGitLab::start().await;
    gitlab.enqueue(&JobBuilder::new("unit").masked("SECRET", "s3cr3t-value"));
    let connection = connection(&gitlab);
    let client = coordinators().get(&connection).unwrap();
    let received = receive(&client).await;
    gitlab.fault(Fault::on(Endpoint::RequestJob).status(400));
    let failed = client.request_job(&request()).await;
    let shown = format!("{connection:?} {client:?} {received:?} {failed:?}");
    let token = gitlab.jobs()[0].token.clone();
    for secret in [gitlab.runner_token(), token.as_str(), "s3cr3t-value"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
