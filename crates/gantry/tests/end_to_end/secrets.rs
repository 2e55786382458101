//! External secrets (job-lifecycle §7 and §10, 82 to 85), from a stand-in for Vault that does wrong on demand, and from a real server.

mod openbao;

use std::path::Path;

use gantry_testkit::{Endpoint, FakeVault, JobBuilder, ServerJobState};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Config, Host, JobLog, Signal, gate, job, until};

const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqb2IifQ.c2lnbmF0dXJl";
const PASSWORD: &str = "correct-horse$HOME-battery";

async fn vault() -> FakeVault {
    let vault = FakeVault::start().await;
    vault.accept("jwt", TOKEN);
    let fields = json!({"password": PASSWORD, "port": 5432});
    vault.put_v2("ops", "prod/db", &fields);
    vault
}

fn secret(vault: &FakeVault, field: &str, file: Option<bool>) -> Value {
    json!({"file": file, "vault": {
        "server": {"url": "$VAULT_URL", "namespace": null, "auth": {
            "name": "jwt", "path": "jwt", "data": {"jwt": "${VAULT_ID_TOKEN}", "role": "deploy"}}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "prod/$STAGE", "field": field},
        "of": vault.url()})
}

/// A job with the token that its secrets are asked for with.
fn with_secrets<const N: usize>(
    vault: &FakeVault,
    script: [&str; N],
    secrets: Value,
) -> JobBuilder {
    job(script)
        .variable("VAULT_URL", vault.url())
        .variable("STAGE", "db")
        .masked("VAULT_ID_TOKEN", TOKEN)
        .set("/secrets", secrets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_has_its_secrets_as_files_and_values_and_its_log_does_not() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    host.secret(PASSWORD);
    let vault = vault().await;
    let secrets = json!({
        "PASSWORD": secret(&vault, "password", None),
        "PLAIN": secret(&vault, "password", Some(false)),
        "PORT": secret(&vault, "port", Some(false)),
        "NOBODY": {"of_tomorrow": {"name": "x"}},
    });
    let work = with_secrets(
        &vault,
        [
            "echo file $PASSWORD; cat \"$PASSWORD\" > /witness/file; cat \"$PASSWORD\"; echo",
            "printf %s \"$PLAIN\" > /witness/plain; echo plain $PLAIN; printf %s \"$PLAIN\" | base64",
            "echo url $URL; printf %s \"$URL\" > /witness/url; echo nobody ${NOBODY-unset}",
            "expr \"$PORT\" + 1 > /witness/port",
        ],
        secrets,
    )
    .after_script(["cat \"$PASSWORD\" > /witness/after; echo after $PLAIN"])
    .variable("URL", "https://u:$PLAIN@db");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    assert_eq!(host.witnessed("file"), [PASSWORD]);
    assert_eq!(host.witnessed("after"), [PASSWORD]);
    assert_eq!(host.witnessed("plain"), [PASSWORD], "not expanded");
    assert_eq!(host.witnessed("url"), [format!("https://u:{PASSWORD}@db")]);
    assert_eq!(host.witnessed("port"), ["5433"]);
    let log = JobLog::of(&done);
    assert!(!done.log().contains(PASSWORD), "{}", done.log());
    log.assert_says("plain [MASKED]");
    log.assert_says("url https://u:[MASKED]@db");
    log.assert_says("after [MASKED]");
    log.assert_prints("nobody unset");
    log.assert_says("file /builds/acme/tools/widget.tmp/PASSWORD");
    let lines = [
        "Resolving secrets",
        "Resolving secret \"NOBODY\"...",
        "WARNING: Not resolved: no resolver that can handle the secret",
        "Resolving secret \"PASSWORD\"...",
        "Using \"vault\" secret resolver...",
        "Preparing the \"docker\" executor",
    ];
    let places = lines.map(|words| {
        log.all
            .iter()
            .position(|line| line.contains(words))
            .unwrap_or_else(|| panic!("{words} in\n{}", log.text()))
    });
    assert!(places.is_sorted(), "{places:?}\n{}", log.text());
    let section = ["section_start:", ":resolve_secrets"];
    assert!(section.iter().all(|words| done.log().contains(words)));
    let info = host.gitlab.requests_to(Endpoint::RequestJob);
    assert_eq!(info[0].json()["info"]["features"]["vault_secrets"], true);
}

#[rstest]
#[case::refused(
    403,
    "runner_configuration_error",
    "api error: status code 403: no such luck"
)]
#[case::broken(
    500,
    "runner_external_dependency_failure",
    "api error: status code 500: no such luck"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_secrets_are_refused_fails_before_anything_is_made(
    #[case] status: u16,
    #[case] reason: &str,
    #[case] words: &str,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let vault = vault().await;
    vault.refuse(9, status, "no such luck");
    let secrets = json!({"PASSWORD": secret(&vault, "password", None)});
    let id = host.gitlab.enqueue(&with_secrets(
        &vault,
        ["echo begun > /witness/script"],
        secrets,
    ));
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Failed);
    assert_eq!(
        done.failure_reason.as_deref(),
        Some(reason),
        "{}",
        done.log()
    );
    let log = JobLog::of(&done);
    log.assert_says("ERROR: Job failed: resolving secrets: logging in to Vault at");
    log.assert_says(words);
    log.assert_never_says("Preparing the");
    assert!(host.witnessed("script").is_empty());
}

#[rstest]
#[case::fails(None)]
#[case::is_empty(Some("false"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_field_fails_the_job_unless_a_flag_says_otherwise(#[case] flag: Option<&str>) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let vault = vault().await;
    let secrets = json!({"PASSWORD": secret(&vault, "absent", Some(false))});
    let mut work = with_secrets(&vault, ["echo \"<$PASSWORD>\""], secrets);
    if let Some(value) = flag {
        work = work.variable("FF_SECRET_RESOLVING_FAILS_IF_MISSING", value);
    }
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    let log = JobLog::of(&done);
    if flag.is_some() {
        assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
        log.assert_prints("<>");
    } else {
        assert_eq!(
            done.failure_reason.as_deref(),
            Some("runner_system_failure")
        );
        log.assert_says(
            "Job failed (system failure): resolving secrets: secret not found: PASSWORD",
        );
    }
}

#[rstest]
#[case::time_is_over(2, None, "runner_job_timeout")]
#[case::canceled(600, Some("canceling"), "job_canceled")]
#[case::aborted(600, Some("canceled"), "job_canceled")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_holds_no_job_longer_than_it_may_take(
    #[case] timeout: i64,
    #[case] state: Option<&str>,
    #[case] case: &str,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let vault = vault().await;
    vault.hang();
    let secrets = json!({"PASSWORD": secret(&vault, "password", None)});
    let work = with_secrets(&vault, ["true"], secrets).timeout(timeout);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    until("the question", async || {
        (!vault.requests().is_empty()).then_some(())
    })
    .await;
    match state {
        Some("canceling") => host.gitlab.cancel(id),
        Some(_) => host.gitlab.abort(id),
        None => {}
    }
    let done = host.end_of(id).await;
    host.finish(runner).await;
    if case == "runner_job_timeout" {
        assert_eq!(
            done.failure_reason.as_deref(),
            Some("job_execution_timeout")
        );
        JobLog::of(&done).assert_says("Job failed: execution took longer than 2s seconds");
    } else {
        JobLog::of(&done).assert_never_says("Preparing the");
    }
}

/// Every file below a folder that has the words in it.
fn files_with(folder: &Path, words: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, words));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes
                .windows(words.len())
                .any(|window| window == words.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_killed_with_secrets_in_hand_finishes_the_job_and_has_nothing_of_them_on_the_disk()
{
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    host.secret(PASSWORD);
    let vault = vault().await;
    let secrets = json!({
        "PASSWORD": secret(&vault, "password", None),
        "PLAIN": secret(&vault, "password", Some(false)),
    });
    let wait = gate("go-on");
    let work = with_secrets(
        &vault,
        [
            "echo begun >> /witness/script; echo before $PLAIN",
            &wait,
            "echo after $PLAIN; cat \"$PASSWORD\" > /witness/file",
        ],
        secrets,
    )
    .after_script(["cat \"$PASSWORD\" > /witness/after; echo in the end $PLAIN"]);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    let state = host.folder().join(".gantry");
    assert!(state.join("key").is_file());
    assert_eq!(files_with(&state, PASSWORD), Vec::<String>::new());
    assert_eq!(
        host.journal(id)[0]["Accepted"]["origin"]["payload"]["id"],
        id
    );
    // Neither the server of secrets nor the token is there any more.
    vault.down().await;
    let runner = host.start();
    host.open_gate("go-on");
    let done = host.end_of(id).await;
    assert_eq!(files_with(&state, PASSWORD), Vec::<String>::new());
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    assert_eq!(host.witnessed("script"), ["begun"]);
    assert_eq!(host.witnessed("file"), [PASSWORD]);
    assert_eq!(host.witnessed("after"), [PASSWORD]);
    assert!(!done.log().contains(PASSWORD), "{}", done.log());
    let log = JobLog::of(&done);
    for line in ["before [MASKED]", "after [MASKED]", "in the end [MASKED]"] {
        log.assert_says(line);
    }
    let questions = log
        .all
        .iter()
        .filter(|line| line.contains("Resolving secret \""))
        .count();
    assert_eq!(questions, 2, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_killed_while_it_asks_asks_again() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let vault = vault().await;
    vault.hang();
    let secrets = json!({"PASSWORD": secret(&vault, "password", Some(false))});
    let work = with_secrets(&vault, ["printf %s \"$PASSWORD\" > /witness/file"], secrets);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    until("the question", async || {
        (!vault.requests().is_empty()).then_some(())
    })
    .await;
    runner.kill().await;
    vault.open();
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    assert_eq!(host.witnessed("file"), [PASSWORD]);
    let log = JobLog::of(&done);
    let titles = log
        .all
        .iter()
        .filter(|line| line.contains("Resolving secrets"))
        .count();
    assert_eq!(titles, 1, "{}", log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_providers_are_refused_by_name_and_may_be_ignored() {
    let config = Config::new();
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let secrets = json!({"PASSWORD": {"azure_key_vault": {"name": "db"}}});
    let work = job(["echo ${PASSWORD-unset}"]).set("/secrets", secrets);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let refused = host.end_of(id).await;
    host.configure(&config.gantry("ignore_unsupported = [\"secrets\"]"));
    runner.signal(Signal::HUP);
    until("the new configuration", async || {
        (runner.count("Configuration loaded") > 1).then_some(())
    })
    .await;
    let id = host.gitlab.enqueue(&work);
    let ignored = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(
        refused.failure_reason.as_deref(),
        Some("runner_unsupported")
    );
    let log = JobLog::of(&refused);
    log.assert_says("`secrets` (secret \"PASSWORD\" of azure_key_vault)");
    log.assert_says("`ignore_unsupported` in [gantry]");
    assert_eq!(ignored.state, ServerJobState::Success, "{}", ignored.log());
    JobLog::of(&ignored).assert_prints("unset");
}
