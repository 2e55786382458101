//! Secrets of a job from Vault (job-lifecycle §7): by a stand-in that does wrong on demand, and by a real server.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[path = "vault/openbao.rs"]
mod openbao;

use std::io::Write as _;
use std::time::Duration;

use gantry_job::{
    Cause, FailureReason, FeatureFlags, JobPayload, SecretRequests, Variable, Variables,
};
use gantry_testkit::{FakeVault, TestCa};
use gantry_trace::{JobTrace, TraceOptions};
use rstest::rstest;
use serde_json::{Value, json};

const JWT: &str = "eyJh.eyJz.c2ln";

/// `secrets` of a payload: `DB` is the field `password` of `prod/db` in `ops`, an engine of version 2.
fn secret(url: &str) -> Value {
    json!({"vault": {
        "server": {"url": url, "namespace": "", "auth": {
            "name": "jwt", "path": "jwt", "data": {"jwt": "$TOKEN", "role": "deploy", "more": "dropped"}}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "prod/db", "field": "password"}})
}

fn requests(secrets: &Value) -> SecretRequests {
    let payload = json!({"id": 1, "token": "t", "secrets": secrets});
    let payload = JobPayload::from_slice(payload.to_string().as_bytes()).unwrap();
    let variables: Variables = [Variable::new("TOKEN", JWT)].into_iter().collect();
    SecretRequests::of(&payload, &variables, &FeatureFlags::default())
}

struct Resolved {
    result: Result<Vec<Variable>, Cause>,
    log: String,
}

impl Resolved {
    fn value(&self, name: &str) -> &str {
        let variables = self.result.as_ref().unwrap();
        &variables.iter().find(|one| one.key == name).unwrap().value
    }

    fn cause(&self) -> &Cause {
        self.result.as_ref().unwrap_err()
    }
}

async fn resolve_with(http: &reqwest::Client, requests: &SecretRequests) -> Resolved {
    let folder = tempfile::tempdir().unwrap();
    let options = TraceOptions {
        timestamps: false,
        ..TraceOptions::default()
    };
    let trace = JobTrace::create(folder.path(), options).unwrap();
    let result = gantry_secrets::resolve(http, requests, &trace).await;
    let log = trace.read_at(0, 1 << 20).unwrap();
    Resolved {
        result,
        log: String::from_utf8(log).unwrap(),
    }
}

async fn resolve(requests: &SecretRequests) -> Resolved {
    resolve_with(&gantry_gitlab::outside_client().unwrap(), requests).await
}

async fn vault() -> FakeVault {
    let vault = FakeVault::start().await;
    vault.accept("jwt", JWT);
    vault.put_v2(
        "ops",
        "prod/db",
        &json!({"password": "s3cr3t", "port": 5432, "ratio": 0.5, "tls": true, "hosts": ["a", "b"], "none": null}),
    );
    vault.put_v1("old", "db", &json!({"password": "of version 1"}));
    vault
}

#[tokio::test]
async fn a_secret_is_a_masked_raw_file_and_the_log_says_what_is_done() {
    let vault = vault().await;
    let resolved = resolve(&requests(&json!({"DB": secret(vault.url())}))).await;
    let variables = resolved.result.as_ref().unwrap();
    let expected = Variable {
        masked: true,
        raw: true,
        file: true,
        ..Variable::new("DB", "s3cr3t")
    };
    assert_eq!(variables[..], [expected]);
    let lines: Vec<_> = resolved.log.lines().collect();
    assert_eq!(lines.len(), 4, "{}", resolved.log);
    assert!(lines[0].contains("section_start:") && lines[0].contains(":resolve_secrets"));
    assert!(lines[0].ends_with("\u{1b}[36;1mResolving secrets\u{1b}[0;m\u{1b}[0;m"));
    assert_eq!(lines[1], "\u{1b}[0KResolving secret \"DB\"...\u{1b}[0;m");
    assert_eq!(
        lines[2],
        "\u{1b}[0KUsing \"vault\" secret resolver...\u{1b}[0;m"
    );
    assert!(lines[3].contains("section_end:"), "{}", resolved.log);

    let seen = vault.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].path, "/v1/auth/jwt/login");
    assert_eq!(seen[0].body, json!({"jwt": JWT, "role": "deploy"}));
    assert_eq!(
        (&*seen[1].method, &*seen[1].path),
        ("GET", "/v1/ops/data/prod/db")
    );
    assert!(seen[1].token.is_some() && seen[0].token.is_none());
    assert!(seen.iter().all(|request| request.namespace.is_none()));
}

#[rstest]
#[case::text("password", "s3cr3t")]
#[case::number("port", "5432")]
#[case::fraction("ratio", "0.5")]
#[case::boolean("tls", "true")]
#[case::list("hosts", r#"["a","b"]"#)]
#[case::null("none", "null")]
#[tokio::test]
async fn a_field_that_is_no_text_is_json(#[case] field: &str, #[case] value: &str) {
    let vault = vault().await;
    let mut secret = secret(vault.url());
    secret["vault"]["field"] = json!(field);
    let resolved = resolve(&requests(&json!({"DB": secret}))).await;
    assert_eq!(resolved.value("DB"), value);
}

#[rstest]
#[case::version_1("kv-v1", "old", "db", "of version 1")]
#[case::generic("generic", "old", "db", "of version 1")]
#[case::slashes_around("kv-v2", "/ops/", "/prod/db/", "s3cr3t")]
#[case::a_generic_view_of_version_2("generic", "ops/data/prod", "db", "")]
#[tokio::test]
async fn the_engine_decides_on_path_and_form(
    #[case] engine: &str,
    #[case] mount: &str,
    #[case] path: &str,
    #[case] value: &str,
) {
    let vault = vault().await;
    let mut secret = secret(vault.url());
    secret["vault"]["engine"] = json!({"name": engine, "path": mount});
    secret["vault"]["path"] = json!(path);
    let resolved = resolve(&requests(&json!({"DB": secret}))).await;
    if value.is_empty() {
        let message = resolved.cause().message();
        assert!(
            message.starts_with("resolving secrets: secret not found: DB"),
            "{message}"
        );
    } else {
        assert_eq!(resolved.value("DB"), value);
    }
}

#[tokio::test]
async fn namespace_and_mounts_with_several_parts_are_sent() {
    let vault = FakeVault::start().await;
    vault.set_namespace("team/a");
    vault.accept("jwt/gitlab", JWT);
    vault.put_v2("k v/x", "ä b", &json!({"password": "found"}));
    // The names of the stand-in are those of the wire.
    vault.put_v2("k%20v/x", "%C3%A4%20b", &json!({"password": "found"}));
    let mut secret = secret(&format!("{}/", vault.url()));
    secret["vault"]["server"]["namespace"] = json!("team/a");
    secret["vault"]["server"]["auth"]["path"] = json!("jwt/gitlab");
    secret["vault"]["engine"]["path"] = json!("k v/x");
    secret["vault"]["path"] = json!("ä b");
    let resolved = resolve(&requests(&json!({"DB": secret}))).await;
    assert_eq!(resolved.value("DB"), "found");
    let seen = vault.requests();
    assert!(
        seen.iter()
            .all(|one| one.namespace.as_deref() == Some("team/a"))
    );
}

#[tokio::test]
async fn one_login_serves_the_secrets_of_a_server_and_role_in_order_of_their_names() {
    let vault = vault().await;
    let (mut other, mut plain) = (secret(vault.url()), secret(vault.url()));
    other["vault"]["server"]["auth"]["data"]["role"] = json!("other");
    plain["file"] = json!(false);
    let secrets =
        json!({"C": other, "B": plain, "A": secret(vault.url()), "D": secret(vault.url())});
    let resolved = resolve(&requests(&secrets)).await;
    let names: Vec<_> = resolved
        .result
        .as_ref()
        .unwrap()
        .iter()
        .map(|one| (&*one.key, one.file))
        .collect();
    assert_eq!(names, [("A", true), ("B", false), ("C", true), ("D", true)]);
    let logins = vault
        .requests()
        .iter()
        .filter(|one| one.path.ends_with("/login"))
        .count();
    assert_eq!(logins, 2);
}

#[rstest]
#[case::by_number_of_uses(3600, 1)]
#[case::by_time(2, 0)]
#[tokio::test]
async fn a_login_is_used_no_longer_than_it_is_good_for(#[case] seconds: u64, #[case] uses: u64) {
    let vault = vault().await;
    vault.limit_logins(seconds, uses);
    let secrets =
        json!({"A": secret(vault.url()), "B": secret(vault.url()), "C": secret(vault.url())});
    let resolved = resolve(&requests(&secrets)).await;
    assert_eq!(resolved.value("C"), "s3cr3t");
    let statuses: Vec<_> = vault.requests().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [200; 6]);
}

fn reason(cause: &Cause) -> FailureReason {
    cause.reason()
}

const PAST_RETRIES: u32 = 3;

#[rstest]
#[case(400, FailureReason::RunnerConfigurationError)]
#[case(401, FailureReason::RunnerConfigurationError)]
#[case(403, FailureReason::RunnerConfigurationError)]
#[case(404, FailureReason::RunnerConfigurationError)]
#[case(500, FailureReason::RunnerExternalDependencyFailure)]
#[case(501, FailureReason::RunnerExternalDependencyFailure)]
#[case(503, FailureReason::RunnerExternalDependencyFailure)]
#[case(418, FailureReason::RunnerSystemFailure)]
#[tokio::test]
async fn what_the_server_refuses_is_told_with_status_and_words(
    #[case] status: u16,
    #[case] expected: FailureReason,
) {
    let vault = vault().await;
    vault.refuse(PAST_RETRIES, status, "permission denied");
    let resolved = resolve(&requests(&json!({"DB": secret(vault.url())}))).await;
    let cause = resolved.cause();
    assert_eq!(reason(cause), expected);
    let message = cause.message();
    assert_eq!(
        message,
        format!(
            "resolving secrets: logging in to Vault at {} (auth/jwt/login): api error: status code {status}: permission denied",
            vault.url()
        )
    );
    assert!(resolved.log.contains("section_end:"), "{}", resolved.log);
}

#[tokio::test]
async fn a_failure_that_passes_is_waited_for() {
    let vault = vault().await;
    vault.refuse(2, 503, "Vault is sealed");
    let resolved = resolve(&requests(&json!({"DB": secret(vault.url())}))).await;
    assert_eq!(resolved.value("DB"), "s3cr3t");
}

#[tokio::test]
async fn attempts_of_the_job_come_on_top_and_are_told() {
    let vault = vault().await;
    vault.refuse(PAST_RETRIES + 1, 500, "no luck");
    let mut requests = requests(&json!({"DB": secret(vault.url())}));
    requests.attempts = 2;
    requests.waits = vec![Duration::from_millis(1)];
    let resolved = resolve(&requests).await;
    assert_eq!(resolved.value("DB"), "s3cr3t");
    let retrying = "\u{1b}[0;33mWARNING: Retrying...\u{1b}[0;m";
    assert_eq!(
        resolved.log.matches(retrying).count(),
        1,
        "{}",
        resolved.log
    );
    assert_eq!(resolved.log.matches("Resolving secret \"DB\"").count(), 2);
}

#[rstest]
#[case::field(json!({"field": "absent"}), FailureReason::RunnerSystemFailure, r#"no field "absent" in "ops/data/prod/db""#)]
#[case::secret(json!({"path": "nowhere"}), FailureReason::RunnerConfigurationError, "status code 404")]
#[tokio::test]
async fn what_is_missing_fails_the_job_or_is_empty(
    #[case] change: Value,
    #[case] expected: FailureReason,
    #[case] words: &str,
) {
    let vault = vault().await;
    let mut secret = secret(vault.url());
    for (key, value) in change.as_object().unwrap() {
        secret["vault"][key] = value.clone();
    }
    let mut requests = requests(&json!({"DB": secret}));
    let resolved = resolve(&requests).await;
    let message = resolved.cause().message();
    assert!(
        message.starts_with("resolving secrets: secret not found: DB"),
        "{message}"
    );
    assert!(message.contains(words), "{message}");
    assert_eq!(reason(resolved.cause()), expected);
    requests.fails_if_missing = false;
    assert_eq!(resolve(&requests).await.value("DB"), "");
}

#[tokio::test]
async fn a_secret_of_nobody_is_told_and_the_others_are_resolved() {
    let vault = vault().await;
    let secrets = json!({"A": {"of_tomorrow": {}}, "DB": secret(vault.url())});
    let resolved = resolve(&requests(&secrets)).await;
    assert_eq!(resolved.result.as_ref().unwrap().len(), 1);
    let line =
        "\u{1b}[0;33mWARNING: Not resolved: no resolver that can handle the secret\u{1b}[0;m";
    assert!(resolved.log.contains(line), "{}", resolved.log);
}

#[rstest]
#[case::no_url("/server/url", json!(""), "`vault:server:url` is empty", FailureReason::RunnerSystemFailure)]
#[case::no_http("/server/url", json!("ftp://vault"), "is no http or https URL", FailureReason::RunnerSystemFailure)]
#[case::other_login("/server/auth/name", json!("approle"), "the auth method \"approle\" of Vault is not known", FailureReason::RunnerSystemFailure)]
#[case::no_mount("/server/auth/path", json!("/"), "`vault:server:auth:path` is empty", FailureReason::RunnerSystemFailure)]
#[case::no_jwt("/server/auth/data", json!({"role": "x"}), "missing required key \"jwt\"", FailureReason::RunnerSystemFailure)]
#[case::jwt_of_another_type("/server/auth/data/jwt", json!(5), "is no text", FailureReason::RunnerSystemFailure)]
#[case::unset_jwt("/server/auth/data/jwt", json!("$NOT_THERE"), "JSON web token for Vault is empty", FailureReason::RunnerConfigurationError)]
#[case::other_engine("/engine/name", json!("pki"), "the secrets engine \"pki\" of Vault is not known", FailureReason::RunnerSystemFailure)]
#[case::no_engine_path("/engine/path", json!(""), "`vault:engine:path` is empty", FailureReason::RunnerSystemFailure)]
#[case::no_path("/path", json!(""), "`vault:path` is empty", FailureReason::RunnerSystemFailure)]
#[case::no_field("/field", json!(null), "`vault:field` is empty", FailureReason::RunnerSystemFailure)]
#[tokio::test]
async fn a_secret_that_cannot_be_asked_for_says_why_and_nobody_is_asked(
    #[case] place: &str,
    #[case] value: Value,
    #[case] words: &str,
    #[case] expected: FailureReason,
) {
    let vault = vault().await;
    let mut secret = secret(vault.url());
    *secret["vault"].pointer_mut(place).unwrap() = value;
    let resolved = resolve(&requests(&json!({"DB": secret}))).await;
    let message = resolved.cause().message();
    assert!(message.contains(words), "{message}");
    assert!(!message.contains(JWT), "{message}");
    assert_eq!(reason(resolved.cause()), expected);
    assert!(vault.requests().is_empty());
}

#[tokio::test]
async fn a_login_with_a_path_is_explained() {
    let vault = vault().await;
    let mut secret = secret(vault.url());
    secret["vault"]["server"]["auth"]["data"]["jwt"] = json!("/builds/p.tmp/TOKEN");
    let resolved = resolve(&requests(&json!({"DB": secret}))).await;
    let message = resolved.cause().message();
    assert!(message.contains("must not be of type file"), "{message}");
}

#[tokio::test]
async fn a_server_that_is_away_is_named_without_its_password() {
    let vault = vault().await;
    let address = vault.url().replace("http://", "http://user:hunter2@");
    vault.down().await;
    let resolved = resolve(&requests(&json!({"DB": secret(&address)}))).await;
    let message = resolved.cause().message();
    assert!(
        message.contains(&format!("logging in to Vault at {}", vault.url())),
        "{message}"
    );
    assert!(!message.contains("hunter2"), "{message}");
    assert_eq!(reason(resolved.cause()), FailureReason::RunnerSystemFailure);
}

#[tokio::test]
async fn a_standby_node_sends_to_the_active_one_and_a_ring_of_them_ends() {
    let (active, standby) = (vault().await, vault().await);
    standby.redirect_to(active.url());
    let requests = requests(&json!({"DB": secret(standby.url())}));
    assert_eq!(resolve(&requests).await.value("DB"), "s3cr3t");
    active.redirect_to(standby.url());
    let message = resolve(&requests).await.cause().message();
    assert!(message.contains("stopped after 3 redirects"), "{message}");
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let ca = TestCa::new("of the company");
    let vault = FakeVault::start_tls(&ca).await;
    vault.accept("jwt", JWT);
    vault.put_v2("ops", "prod/db", &json!({"password": "s3cr3t"}));
    let requests = requests(&json!({"DB": secret(vault.url())}));
    let message = resolve(&requests).await.cause().message();
    assert!(message.to_lowercase().contains("certificate"), "{message}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca.pem().as_bytes()).unwrap();
    let http = gantry_gitlab::outside_client_trusting(Some(file.path())).unwrap();
    assert_eq!(resolve_with(&http, &requests).await.value("DB"), "s3cr3t");
}
