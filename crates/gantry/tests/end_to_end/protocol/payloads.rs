//! Payloads that ask for what is not done yet, and payloads that are none (coordinator-api §5, §17).

use super::*;

#[rstest]
#[case::steps("/run", json!("[]"), "`run`")]
#[case::secrets("/secrets", json!({"PASSWORD": {"gcp_secret_manager": {"name": "db"}}}), "`secrets`")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_done_yet_is_refused_by_name_and_may_be_ignored(
    #[case] place: &str,
    #[case] value: Value,
    #[case] named: &str,
) {
    let config = Config::new();
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let work = job(["echo begun >> /witness/script"]).set(place, value);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let refused = host.end_of(id).await;
    let script = host.witnessed("script").len();
    let keyword = named.trim_matches('`');
    host.configure(&config.gantry(&format!("ignore_unsupported = [\"{keyword}\"]")));
    runner.signal(crate::harness::Signal::HUP);
    until("the new configuration", async || {
        (runner.count("Configuration loaded") > 1).then_some(())
    })
    .await;
    let id = host.gitlab.enqueue(&work);
    let ignored = host.end_of(id).await;
    host.finish(runner).await;

    assert_eq!(refused.state, ServerJobState::Failed);
    assert_eq!(
        refused.failure_reason.as_deref(),
        Some("runner_unsupported")
    );
    assert_eq!(script, 0);
    let log = JobLog::of(&refused);
    log.assert_says(named);
    log.assert_says("`ignore_unsupported` in [gantry]");
    log.assert_never_says("Preparing the");

    assert_eq!(ignored.state, ServerJobState::Success, "{}", ignored.log());
    JobLog::of(&ignored).assert_says(&format!("WARNING: This job runs without {named}"));
    assert_eq!(host.witnessed("script"), ["begun"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_options_of_an_executor_are_refused_in_the_peers_words() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let image = json!({"name": crate::harness::BUSYBOX, "executor_opts": {"docker": {"foo": 1}}});
    let id = host.gitlab.enqueue(&job(["true"]).image_object(image));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.exit_code, Some(3));
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
    JobLog::of(&job).assert_says(
        "Unsupported \"image\" options [foo] for \"docker executor\"; supported options are [platform user]",
    );
}

/// Fields that a server may leave empty, and ones that nobody knows yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nulls_and_unknown_fields_are_tolerated() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let fields = [
        ("/image", Value::Null),
        ("/services", Value::Null),
        ("/cache", Value::Null),
        ("/artifacts", Value::Null),
        ("/run", Value::Null),
        ("/secrets", Value::Null),
        ("/hooks", Value::Null),
        ("/inputs", Value::Null),
        ("/dependencies", Value::Null),
        ("/credentials", Value::Null),
        ("/features/failure_reasons", Value::Null),
        ("/policy_options", Value::Null),
        (
            "/variables/-",
            json!({"key": "EMPTY", "value": null, "public": true}),
        ),
        ("/of_the_future", json!({"a": [1, 2]})),
    ];
    let jobs: Vec<_> = fields
        .into_iter()
        .map(|(place, value)| (place, host.gitlab.enqueue(&job(["true"]).set(place, value))))
        .collect();
    let runner = host.start();
    for (place, id) in jobs {
        let job = host.end_of(id).await;
        assert_eq!(job.state, ServerJobState::Success, "{place}: {}", job.log());
    }
    host.finish(runner).await;
}

fn payload() -> Vec<u8> {
    let payload = job(["true"]).build(900, "glcbt-64_garbageJobToken", "http://192.0.2.1");
    serde_json::to_vec(&payload).expect("a payload")
}

fn payload_with(place: &str, value: Value) -> Vec<u8> {
    let payload =
        job(["true"])
            .set(place, value)
            .build(900, "glcbt-64_garbageJobToken", "http://192.0.2.1");
    serde_json::to_vec(&payload).expect("a payload")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_that_are_none_leave_the_runner_as_it_was() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let half = payload()[..payload().len() / 2].to_vec();
    let nested = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let not_utf8 = vec![b'{', b'"', 0xff, 0xfe, b'"', b':', b'1', b'}'];
    let garbage = [
        Vec::new(),
        b"<html><body>Welcome to GitLab</body></html>".to_vec(),
        half,
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        not_utf8,
        nested,
        payload_with("/id", json!("nine hundred")),
        payload_with("/variables", json!(5)),
        payload_with("/steps", json!("make")),
        payload_with("/steps/0/script", json!({"a": 1})),
        payload_with("/token", Value::Null),
        payload_with("/git_info", json!("x".repeat(5_000_000))),
    ];
    for (id, payload) in (900..).zip(garbage) {
        host.gitlab
            .enqueue_raw(id, "glcbt-64_garbageJobToken", payload);
    }
    let next = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    assert_eq!(host.end_of(next).await.state, ServerJobState::Success);
    // The others are objects, so that they look like jobs until the server refuses their tokens.
    let unreadable = runner.count("received a payload that cannot be read");
    assert!(unreadable >= 10, "{}", runner.log().text());
    assert_eq!(runner.count("unhealthy"), 0);
    assert_eq!(runner.count("panicked"), 0);
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_read_fails_and_its_log_names_the_place() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let payload = payload_with("/variables/2/value", json!(5));
    host.gitlab
        .enqueue_raw(900, "glcbt-64_garbageJobToken", payload);
    let runner = host.start();
    let job = host.end_of(900).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
    // No job, no timestamps: what it asks for could not be read.
    let message =
        "ERROR: Job failed (system failure): job payload has a wrong value at `variables[2].value`";
    assert!(job.log().contains(message), "{}", job.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_five_megabytes_runs() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let mut work = job(["wc -c < \"$NUMBER_49\"", "echo done"]);
    for number in 0..50 {
        work = work.file(&format!("NUMBER_{number}"), &"z".repeat(100_000));
    }
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    JobLog::of(&job).assert_prints("100000");
}
