use crate::config::{Executor, PullPolicy, RunnerConfig};
use crate::{Placeholders, parse};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

fn runner() -> RunnerConfig {
    let text = r#"
        [[runners]]
        name = "host1"
        url = "https://gitlab.example.com"
        token = "glrt-hunter2"
        token_obtained_at = 1960-01-01T00:00:00Z
        executor = "docker"
        prepare_timeout = "90s"
        environment = ["A=1", "B=2"]
        labels = { env = "prod" }
        [runners.docker]
        image = "alpine"
        memory = "1g"
        pull_policy = ["if-not-present", "never"]
        wait_for_services_timeout = -1
        services = [{ name = "a" }, { name = "b", environment = ["PASSWORD=hunter4"] }]
        [runners.cache]
        Type = "s3"
        [runners.cache.s3]
        BucketName = "caches"
        AccessKey = "AKIA"
        SecretKey = "hunter3"
        DualStack = false
        PathStyle = false
    "#;
    let loaded = parse(text, Path::new("config.toml"), &Placeholders::new()).unwrap();
    RunnerConfig::clone(&loaded.config.runners[0])
}

#[test]
fn an_entry_comes_back_from_the_journal_as_it_was() {
    let before = runner();
    let stored = before.to_journal().unwrap().to_string();
    let after = RunnerConfig::from_journal(&serde_json::from_str(&stored).unwrap()).unwrap();
    let plain = |runner: &RunnerConfig| {
        format!(
            "{:?}",
            RunnerConfig {
                line: 0,
                ..runner.clone()
            }
        )
    };
    assert_eq!(plain(&after), plain(&before));
    assert_eq!(after.token.expose_secret(), "glrt-hunter2");
    let s3 = &after.cache.s3;
    assert_eq!(
        (s3.access_key.expose_secret(), s3.secret_key.expose_secret()),
        ("AKIA", "hunter3")
    );
    assert_eq!((s3.dual_stack, s3.path_style), (false, Some(false)));
    assert_eq!(after.docker, before.docker);
    assert!(!format!("{after:?}").contains("hunter4"));
    assert_eq!(
        after.environment.iter().collect::<Vec<_>>(),
        [("A", "1"), ("B", "2")]
    );
}

#[test]
fn an_entry_of_an_older_version_gets_defaults() {
    let after = RunnerConfig::from_journal(
        &json!({"runner": {"name": "host1", "docker": {"image": "alpine"}}}),
    )
    .unwrap();
    assert_eq!(
        (after.name.as_str(), after.docker.image.as_deref()),
        ("host1", Some("alpine"))
    );
    assert_eq!(
        (
            after.request_concurrency,
            after.builds_dir.as_str(),
            after.executor
        ),
        (1, "/builds", Executor::Docker)
    );
    assert_eq!(
        after.docker.wait_for_services_timeout,
        Some(Duration::from_secs(30))
    );
}

#[test]
fn what_a_newer_version_added_is_ignored() {
    let mut stored = runner().to_journal().unwrap();
    stored["new_secrets"] = json!({"a": 1});
    stored["runner"]["new_key"] = json!([1, 2]);
    stored["runner"]["docker"]["new_key"] = json!("x");
    stored["runner"]["docker"]["pull_policy"] = json!(["on-tuesdays", "never"]);
    let after = RunnerConfig::from_journal(&stored).unwrap();
    assert_eq!(after.docker.pull_policy, [PullPolicy::Never]);
    assert_eq!(after.name, "host1");
}

#[test]
fn a_snapshot_that_is_none_is_an_error_without_its_content() {
    for stored in [
        Value::Null,
        json!("glrt-hunter2"),
        json!({"token": "glrt-hunter2"}),
        json!({"runner": {}, "token": ["glrt-hunter2"]}),
    ] {
        let error = RunnerConfig::from_journal(&stored).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
