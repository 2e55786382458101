//! The same with OpenBao, where `./dev servers` could get it: what its login and engines really answer.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::io::Write as _;

use gantry_job::FailureReason;
use gantry_testkit::{OpenBao, TestCa};
use serde_json::{Value, json};

use super::{Resolved, reason, requests, resolve, resolve_with};

/// A server with secrets and a role for the protected branch `main` of one project. Without the program: `None`, and a word on it.
async fn openbao(identity: Option<&gantry_testkit::Identity>) -> Option<OpenBao> {
    let bao = match OpenBao::start(identity).await {
        Ok(bao) => bao,
        Err(why) => {
            eprintln!("skipped: {why}");
            return None;
        }
    };
    fill(&bao, "").await;
    Some(bao)
}

/// Engines, a policy, the login and its roles, in a namespace.
async fn fill(bao: &OpenBao, namespace: &str) {
    let write = async |path: &str, data: Value| bao.write(namespace, path, &data).await;
    let of_version = |version: &str| json!({"type": "kv", "options": {"version": version}});
    write("sys/mounts/teams/ops", of_version("2")).await;
    write("sys/mounts/old", of_version("1")).await;
    let policy = "path \"teams/ops/data/prod/*\" { capabilities = [\"read\"] } path \"old/*\" { capabilities = [\"read\"] }";
    write("sys/policies/acl/deploy", json!({"policy": policy})).await;
    bao.enable_login(namespace, "gitlab/jwt").await;
    let role = json!({
        "role_type": "jwt", "user_claim": "project_path", "bound_audiences": ["https://vault.example.com"],
        "bound_claims": {"project_path": "acme/tools/widget", "ref_protected": "true"},
        "token_policies": ["deploy"], "token_ttl": "5m",
    });
    write("auth/gitlab/jwt/role/deploy", role.clone()).await;
    let mut once = role;
    once["token_num_uses"] = json!(1);
    write("auth/gitlab/jwt/role/once", once).await;
    let place = if namespace.is_empty() {
        "root"
    } else {
        namespace
    };
    let fields = json!({"password": format!("s3cr3t of {place}"), "port": 5432, "hosts": ["a"], "lines": "one\ntwo\n", "nothing": null});
    write("teams/ops/data/prod/db", json!({"data": fields})).await;
    write("teams/ops/data/prod/ä b", json!({"data": fields})).await;
    write("teams/ops/data/other/db", json!({"data": fields})).await;
    write("old/db", json!({"password": "of version 1", "port": 1})).await;
}

/// A field of `prod/db`, asked for with a token.
fn secret(url: &str, token: &str, field: &str) -> Value {
    json!({"vault": {
        "server": {"url": url, "namespace": null, "auth": {
            "name": "jwt", "path": "gitlab/jwt", "data": {"jwt": token, "role": "deploy"}}},
        "engine": {"name": "kv-v2", "path": "teams/ops"}, "path": "prod/db", "field": field}})
}

/// The secret with other values at these places.
fn with(mut secret: Value, changes: &[(&str, Value)]) -> Value {
    for (place, value) in changes {
        *secret["vault"].pointer_mut(place).unwrap() = value.clone();
    }
    secret
}

async fn one(secret: Value) -> Resolved {
    resolve(&requests(&json!({"X": secret}))).await
}

#[tokio::test]
async fn all_engines_and_kinds_of_values_are_read() {
    let Some(bao) = openbao(None).await else {
        return;
    };
    let (url, token) = (bao.url(), bao.token(&json!({})));
    let field = |field: &str| secret(&url, &token, field);
    let old = |engine: &str, field: &str| {
        let engine = json!({"name": engine, "path": "old"});
        with(
            self::secret(&url, &token, field),
            &[("/engine", engine), ("/path", json!("db"))],
        )
    };
    let view = json!({"name": "generic", "path": "teams/ops/data"});
    let resolved = resolve(&requests(&json!({
        "A": field("password"), "B": field("port"), "C": field("hosts"), "D": field("lines"), "E": field("nothing"),
        "F": old("kv-v1", "password"), "G": old("generic", "port"),
        "H": with(field("password"), &[("/path", json!("/prod/ä b/"))]),
        // `generic` reads what lies at the path: of version 2, an envelope.
        "I": with(field("data"), &[("/engine", view), ("/path", json!("prod/db"))]),
    })))
    .await;
    for (name, value) in [
        ("A", "s3cr3t of root"),
        ("B", "5432"),
        ("C", "[\"a\"]"),
        ("D", "one\ntwo\n"),
        ("E", "null"),
        ("F", "of version 1"),
        ("G", "1"),
        ("H", "s3cr3t of root"),
    ] {
        assert_eq!(resolved.value(name), value, "{name}");
    }
    let envelope: Value = serde_json::from_str(resolved.value("I")).unwrap();
    assert_eq!(envelope["password"], "s3cr3t of root");
}

#[tokio::test]
async fn a_token_that_a_role_is_not_for_is_refused_with_the_servers_words() {
    let Some(bao) = openbao(None).await else {
        return;
    };
    let old = json!({"exp": 1_700_000_300, "nbf": 1_700_000_000, "iat": 1_700_000_000});
    let elsewhere = "https://elsewhere.example.com";
    for (claims, role, words) in [
        (
            json!({"ref": "side", "ref_protected": "false"}),
            "deploy",
            "claim \"ref_protected\" does not match",
        ),
        (
            json!({"project_path": "acme/tools/other"}),
            "deploy",
            "claim \"project_path\" does not match",
        ),
        (json!({"aud": elsewhere}), "deploy", "invalid audience"),
        (json!({"iss": elsewhere}), "deploy", "invalid issuer"),
        (old, "deploy", "token is expired"),
        (json!({}), "nobody", "role \"nobody\" could not be found"),
    ] {
        let token = bao.token(&claims);
        let secret = with(
            secret(&bao.url(), &token, "password"),
            &[("/server/auth/data/role", json!(role))],
        );
        let refused = one(secret).await;
        let message = refused.cause().message();
        assert!(
            message.contains("(auth/gitlab/jwt/login): api error: status code 400")
                && message.contains(words),
            "{claims} {role}: {message}"
        );
        assert_eq!(
            reason(refused.cause()),
            FailureReason::RunnerConfigurationError
        );
        assert!(!message.contains(&token) && !refused.log.contains(&token));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    use FailureReason::{RunnerConfigurationError, RunnerSystemFailure};
    let Some(bao) = openbao(None).await else {
        return;
    };
    let gone = "teams/ops/data/prod/gone";
    bao.write("", gone, &json!({"data": {"password": "old"}}))
        .await;
    bao.delete(gone).await;
    let forged = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";
    for (place, value, words, expected) in [
        // A path, and an engine, that the policy lacks.
        (
            "/path",
            "other/db",
            "status code 403",
            RunnerConfigurationError,
        ),
        (
            "/engine/path",
            "nowhere",
            "status code 403",
            RunnerConfigurationError,
        ),
        (
            "/path",
            "prod/nothing",
            "secret not found: X",
            RunnerConfigurationError,
        ),
        // The server still knows of it, and says when it was deleted.
        (
            "/path",
            "prod/gone",
            "secret not found: X",
            RunnerConfigurationError,
        ),
        (
            "/field",
            "absent",
            "secret not found: X",
            RunnerSystemFailure,
        ),
        (
            "/server/auth/path",
            "jwt",
            "(auth/jwt/login): api error: status code 403",
            RunnerConfigurationError,
        ),
        (
            "/server/auth/data/jwt",
            forged,
            "status code 400",
            RunnerConfigurationError,
        ),
        (
            "/server/namespace",
            "nowhere",
            "api error: status code",
            RunnerConfigurationError,
        ),
    ] {
        let token = bao.token(&json!({}));
        let secret = secret(&bao.url(), &token, "password");
        let refused = one(with(secret, &[(place, json!(value))])).await;
        let message = refused.cause().message();
        assert!(message.contains(words), "{place} {value}: {message}");
        assert_eq!(reason(refused.cause()), expected, "{message}");
        assert!(!message.contains(&token), "{message}");
    }
}

#[tokio::test]
async fn a_login_that_is_good_for_one_request_is_made_again() {
    let Some(bao) = openbao(None).await else {
        return;
    };
    let token = bao.token(&json!({}));
    let field = |field: &str| {
        with(
            secret(&bao.url(), &token, field),
            &[("/server/auth/data/role", json!("once"))],
        )
    };
    let secrets = json!({"A": field("password"), "B": field("port"), "C": field("hosts")});
    let resolved = resolve(&requests(&secrets)).await;
    assert_eq!(resolved.value("A"), "s3cr3t of root");
    assert_eq!(resolved.value("C"), "[\"a\"]");
}

#[tokio::test]
async fn each_namespace_has_its_own_login_and_secrets() {
    let Some(bao) = openbao(None).await else {
        return;
    };
    bao.write("", "sys/namespaces/team", &json!({})).await;
    bao.write("team", "sys/namespaces/a", &json!({})).await;
    fill(&bao, "team/a").await;
    let token = bao.token(&json!({}));
    let below = |namespace: &str| {
        with(
            secret(&bao.url(), &token, "password"),
            &[("/server/namespace", json!(namespace))],
        )
    };
    let secrets = json!({"A": below("team/a"), "B": below(""), "C": below("team/a/")});
    let resolved = resolve(&requests(&secrets)).await;
    assert_eq!(resolved.value("A"), "s3cr3t of team/a");
    assert_eq!(resolved.value("B"), "s3cr3t of root");
    assert_eq!(resolved.value("C"), "s3cr3t of team/a");
}

#[tokio::test]
async fn a_sealed_server_is_an_outage_and_no_mistake_of_the_job() {
    let Some(bao) = openbao(None).await else {
        return;
    };
    bao.seal().await;
    let refused = one(secret(&bao.url(), &bao.token(&json!({})), "password")).await;
    let message = refused.cause().message();
    assert!(
        message.contains("api error: status code 503") && message.contains("sealed"),
        "{message}"
    );
    assert_eq!(
        reason(refused.cause()),
        FailureReason::RunnerExternalDependencyFailure
    );
}

#[tokio::test]
async fn over_tls_its_authority_must_be_known() {
    let ca = TestCa::new("of the company");
    let Some(bao) = openbao(Some(&ca.issue(&["localhost"]))).await else {
        return;
    };
    let secret = secret(&bao.tls_url(), &bao.token(&json!({})), "password");
    let requests = requests(&json!({"X": secret}));
    let message = resolve(&requests).await.cause().message();
    assert!(message.to_lowercase().contains("certificate"), "{message}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca.pem().as_bytes()).unwrap();
    let http = gantry_gitlab::outside_client_trusting(Some(file.path())).unwrap();
    assert_eq!(
        resolve_with(&http, &requests).await.value("X"),
        "s3cr3t of root"
    );
}
