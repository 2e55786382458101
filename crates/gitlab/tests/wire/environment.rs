//! What the process environment decides: proxies and the system's trust. The environment of a process is set from outside
//! only, so each test runs its second half (an ignored test of this file) as a child of its own.

use std::env;
use std::fs;
use std::process::Stdio;

use gantry_gitlab::{Connection, JobRequestAnswer};
use gantry_testkit::{Endpoint, FakeGitLab, JobBuilder, TestCa};
use tokio::process::Command;

use super::fixture::{coordinators, receive, request};

/// URL and token for the child.
const URL: &str = "GANTRY_TEST_URL";
const TOKEN: &str = "GANTRY_TEST_TOKEN";
const EXPECTED_CHAIN: &str = "GANTRY_TEST_CHAIN";

/// Runs an ignored test of this file with these variables, and no proxy or trust besides.
async fn child(test: &str, variables: &[(&str, &str)]) {
    let output = Command::new(env::current_exe().unwrap())
        .args([
            &format!("wire::environment::{test}"),
            "--exact",
            "--ignored",
        ])
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 passed"), "{told}");
}

fn connection() -> Connection {
    Connection::new(env::var(URL).unwrap(), env::var(TOKEN).unwrap().into())
}

async fn answer() -> JobRequestAnswer {
    let client = coordinators().get(&connection()).unwrap();
    client.request_job(&request()).await.answer
}

#[tokio::test]
#[ignore = "half of another test"]
async fn an_answer_comes() {
    let answer = answer().await;
    assert!(matches!(answer, JobRequestAnswer::NoJob), "{answer:?}");
}

#[tokio::test]
#[ignore = "half of another test"]
async fn no_answer_comes() {
    let answer = answer().await;
    assert!(matches!(answer, JobRequestAnswer::Failed(_)), "{answer:?}");
}

#[tokio::test]
#[ignore = "half of another test"]
async fn the_job_is_told_the_expected_chain() {
    let client = coordinators().get(&connection()).unwrap();
    for _ in 0..2 {
        let chain = receive(&client).await.tls.ca_chain.unwrap();
        assert_eq!(*chain, *env::var(EXPECTED_CHAIN).unwrap());
    }
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used_unless_the_server_is_excepted_or_this_machine() {
    let proxy = FakeGitLab::start().await;
    let token = (TOKEN, proxy.runner_token());
    // Nobody resolves this name: only a proxy can answer.
    let elsewhere = (URL, "http://gitlab.invalid");
    for name in ["http_proxy", "HTTP_PROXY"] {
        child("an_answer_comes", &[(name, proxy.url()), elsewhere, token]).await;
    }
    let seen = proxy.requests_to(Endpoint::RequestJob);
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("host"), Some("gitlab.invalid"));

    let excepted = ("no_proxy", "gitlab.invalid");
    let variables = [("http_proxy", proxy.url()), excepted, elsewhere, token];
    child("no_answer_comes", &variables).await;

    let server = FakeGitLab::start().await;
    let here = (URL, server.url());
    child(
        "an_answer_comes",
        &[("http_proxy", proxy.url()), here, token],
    )
    .await;
    assert_eq!(server.requests().len(), 1);
    assert_eq!(proxy.requests().len(), 2);
}

#[tokio::test]
async fn a_job_is_told_the_presented_chain_and_its_root_from_the_systems_trust() {
    let root = TestCa::new("Root");
    let middle = root.sub_authority("Middle");
    let leaf = middle.issue(&["127.0.0.1"]);
    let chain = [leaf.certificate.as_str(), middle.pem(), root.pem()]
        .map(|pem| pem.replace("\r\n", "\n").trim().to_owned())
        .join("\n");
    let gitlab = FakeGitLab::builder()
        .tls(leaf.with_chain(&[middle.pem()]))
        .start()
        .await;
    gitlab.enqueue(&JobBuilder::new("one"));
    gitlab.enqueue(&JobBuilder::new("two"));
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, root.pem()).unwrap();
    let variables = [
        ("SSL_CERT_FILE", roots.to_str().unwrap()),
        (URL, gitlab.url()),
        (TOKEN, gitlab.runner_token()),
        (EXPECTED_CHAIN, &chain),
    ];
    child("the_job_is_told_the_expected_chain", &variables).await;
}
