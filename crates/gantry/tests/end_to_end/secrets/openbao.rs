//! A whole job with secrets of a real server, and everywhere that they must not be seen.

use std::io::Write as _;

use gantry_testkit::{OpenBao, ServerJobState, ServiceBuilder, TestCa};
use serde_json::{Value, json};

use super::files_with;
use crate::harness::{Config, Host, JobLog, Processes, gate, job, skipped};

const PASSWORD: &str = "correct-horse-battery$HOME-staple";
const CERTIFICATE: &str = "-----BEGIN THING-----\nbGluZSBvbmUgb2YgdGhlIHRoaW5n\nbGluZSB0d28gb2YgdGhlIHRoaW5n\n-----END THING-----\n";

/// A server over TLS with two secrets and a role for the project's protected branch.
async fn openbao(ca: &TestCa) -> Option<OpenBao> {
    let started = OpenBao::start(Some(&ca.issue(&["localhost"]))).await;
    let bao = started.inspect_err(|why| skipped(why)).ok()?;
    let engine = json!({"type": "kv", "options": {"version": "2"}});
    bao.write("", "sys/mounts/ops", &engine).await;
    bao.enable_login("", "jwt").await;
    let policy = "path \"ops/data/prod/*\" { capabilities = [\"read\"] }";
    bao.write("", "sys/policies/acl/ci", &json!({"policy": policy}))
        .await;
    let role = json!({
        "role_type": "jwt", "user_claim": "project_path", "bound_audiences": ["https://vault.example.com"],
        "bound_claims": {"project_path": "acme/tools/widget", "ref_protected": "true"}, "token_policies": ["ci"], "token_ttl": "5m",
    });
    bao.write("", "auth/jwt/role/deploy", &role).await;
    let fields = json!({"data": {"password": PASSWORD, "certificate": CERTIFICATE}});
    bao.write("", "ops/data/prod/db", &fields).await;
    Some(bao)
}

fn secret(bao: &OpenBao, field: &str, file: Option<bool>) -> Value {
    json!({"file": file, "vault": {
        "server": {"url": bao.tls_url(), "namespace": null, "auth": {
            "name": "jwt", "path": "jwt", "data": {"jwt": "$VAULT_ID_TOKEN", "role": "deploy"}}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "prod/db", "field": field}})
}

/// The certificate of the server's authority in a file.
fn trusting(ca: &TestCa) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca.pem().as_bytes()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_a_real_server_reach_the_job_and_nobody_else() {
    let ca = TestCa::new("of the company");
    let Some(bao) = openbao(&ca).await else {
        return;
    };
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let token = bao.token(&json!({}));
    let secrets = [PASSWORD, "bGluZSBvbmUgb2YgdGhlIHRoaW5n", &token];
    for secret in secrets {
        host.secret(secret);
    }
    let wait = gate("go-on");
    let work = job([
        "printf %s \"$PLAIN\" > /witness/plain; echo plain $PLAIN; echo file $PASSWORD; cat \"$PASSWORD\"; echo",
        "cp \"$CERTIFICATE\" /witness/certificate; cat \"$CERTIFICATE\"",
        "env > /dev/null; echo begun >> /witness/script",
        &wait,
        "cat \"$PASSWORD\" > /witness/file",
    ])
    .service(ServiceBuilder::new("gantry.test/busybox:1").alias("db").command(["sleep", "600"]))
    .after_script(["cat \"$PASSWORD\" > /witness/after; echo after $PLAIN"])
    .masked("VAULT_ID_TOKEN", &token)
    .set(
        "/secrets",
        json!({
            "PASSWORD": secret(&bao, "password", None),
            "PLAIN": secret(&bao, "password", Some(false)),
            "CERTIFICATE": secret(&bao, "certificate", Some(true)),
        }),
    );
    let processes = Processes::watch();
    let id = host.gitlab.enqueue(&work);
    let authority = trusting(&ca);
    let runner = host.start_in(&[("VAULT_CACERT", &authority.path().display().to_string())]);
    host.wait_witness("script", 1).await;
    let state = host.folder().join(".gantry");
    // The token is a variable of the job, as GitLab sends it, and not sealed.
    for secret in &secrets[..2] {
        assert_eq!(files_with(&state, secret), Vec::<String>::new());
    }
    let mut services = 0;
    let mut containers = host.containers("").await;
    // The job itself has its variables there.
    containers.retain(|name| !name.ends_with("-build"));
    for name in containers {
        let found = host.docker.inspect(&name).await.expect("a container");
        host.assert_no_secret(&format!("docker inspect {name}"), &found.to_string());
        services += usize::from(name.contains("busybox"));
    }
    assert_eq!(services, 1);
    host.open_gate("go-on");
    let done = host.end_of(id).await;
    host.finish(runner).await;
    host.assert_no_secret("a process", &processes.seen());
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    for file in ["plain", "file", "after"] {
        assert_eq!(host.witnessed(file), [PASSWORD], "{file}");
    }
    let certificate = std::fs::read_to_string(host.witness().join("certificate"));
    assert_eq!(certificate.unwrap(), CERTIFICATE);
    host.assert_no_secret("the job's log", &done.log());
    let log = JobLog::of(&done);
    log.assert_says("plain [MASKED]");
    log.assert_says("after [MASKED]");
    log.assert_says("file /builds/acme/tools/widget.tmp/PASSWORD");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_gives_nothing_to_a_job_of_another_branch_and_the_log_says_why() {
    let ca = TestCa::new("of the company");
    let Some(bao) = openbao(&ca).await else {
        return;
    };
    // Not of Vault alone: the authority of the runner's GitLab.
    let authority = trusting(&ca);
    let line = format!("tls-ca-file = \"{}\"", authority.path().display());
    let Some(host) = Host::new(&Config::new().runner(&line)).await else {
        return;
    };
    let token = bao.token(&json!({"ref": "side", "ref_protected": "false"}));
    host.secret(&token);
    let work = job(["echo begun > /witness/script"])
        .masked("VAULT_ID_TOKEN", &token)
        .set(
            "/secrets",
            json!({"PASSWORD": secret(&bao, "password", None)}),
        );
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let done = host.end_of(id).await;
    host.until_removed().await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Failed);
    assert_eq!(
        done.failure_reason.as_deref(),
        Some("runner_configuration_error"),
        "{}",
        done.log()
    );
    let log = JobLog::of(&done);
    log.assert_says(
        "ERROR: Job failed: resolving secrets: logging in to Vault at https://localhost:",
    );
    log.assert_says("api error: status code 400: error validating claims: claim \"ref_protected\" does not match");
    host.assert_no_secret("the job's log", &done.log());
    assert!(host.witnessed("script").is_empty());
}
