//! What the process environment decides: proxies and the system's trust. The environment of a process is set from outside
//! only, so each test runs its second half (an ignored test of this file) as a child of its own.

use std::env;
use std::fs;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use gantry_gitlab::{Connection, JobRequestAnswer};
use gantry_testkit::{Endpoint, FakeGitLab, JobBuilder, TestCa};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::fixture::{coordinators, receive, request};

/// URL and token for the child.
const URL: &str = "GANTRY_TEST_URL";
const TOKEN: &str = "GANTRY_TEST_TOKEN";
const EXPECTED_CHAIN: &str = "GANTRY_TEST_CHAIN";
/// Set: `FF_RESOLVE_FULL_TLS_CHAIN` is on.
const FULL_CHAIN: &str = "GANTRY_TEST_FULL_CHAIN";

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
    Connection {
        full_chain: env::var_os(FULL_CHAIN).is_some(),
        ..Connection::new(env::var(URL).unwrap(), env::var(TOKEN).unwrap().into())
    }
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

/// PEM as jobs are told it.
fn told(parts: &[&str]) -> String {
    let parts = parts
        .iter()
        .map(|pem| pem.replace("\r\n", "\n").trim().to_owned());
    parts.collect::<Vec<_>>().join("\n")
}

/// Answers every request with this certificate, DER. Its URL.
async fn certificate_server(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ca.crt", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The head of a request is small and comes in one piece.
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_err() {
                continue;
            }
            let length = der.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok();
            stream.write_all(&der).await.ok();
        }
    });
    url
}

#[tokio::test]
async fn a_missing_root_is_fetched_where_its_flag_is_on_and_only_if_it_vouches_for_the_server() {
    let root = TestCa::new("Root");
    let good = certificate_server(root.pem()).await;
    // Another authority that calls itself the same.
    let bad = certificate_server(TestCa::new("Root").pem()).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    for (url, flag, complete) in [
        (&good, true, true),
        (&good, false, false),
        (&bad, true, false),
    ] {
        let middle = root.sub_authority_with_url("Middle", url);
        let leaf = middle.issue(&["127.0.0.1"]);
        // The machine trusts the one in the middle, so nobody needs the root but the job.
        fs::write(&roots, middle.pem()).unwrap();
        let whole = told(&[&leaf.certificate, middle.pem(), root.pem()]);
        let part = told(&[&leaf.certificate, middle.pem()]);
        let gitlab = FakeGitLab::builder().tls(leaf).start().await;
        gitlab.enqueue(&JobBuilder::new("one"));
        gitlab.enqueue(&JobBuilder::new("two"));
        let mut variables = vec![
            ("SSL_CERT_FILE", roots.to_str().unwrap()),
            (URL, gitlab.url()),
            (TOKEN, gitlab.runner_token()),
            (EXPECTED_CHAIN, if complete { &whole } else { &part }),
        ];
        if flag {
            variables.push((FULL_CHAIN, "1"));
        }
        child("the_job_is_told_the_expected_chain", &variables).await;
    }
}

/// A proxy that joins every `CONNECT` to one server, and keeps what it was asked.
async fn connect_proxy(server: std::net::SocketAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heads = Arc::clone(&heads);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        return;
                    };
                    head.push(byte);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                heads.lock().unwrap().push(head);
                let mut server = TcpStream::connect(server).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                copy_bidirectional(&mut stream, &mut server).await.ok();
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_server_behind_a_proxy_is_reached_by_a_tunnel_with_the_proxys_credentials() {
    let ca = TestCa::new("Acme CA");
    let gitlab = FakeGitLab::builder()
        .tls(ca.issue(&["gitlab.invalid"]))
        .start()
        .await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, ca.pem()).unwrap();
    let (address, asked) = connect_proxy(gitlab.addr()).await;
    for name in ["https_proxy", "HTTPS_PROXY"] {
        let proxy = format!("http://me:secret@{address}");
        let variables = [
            (name, proxy.as_str()),
            ("SSL_CERT_FILE", roots.to_str().unwrap()),
            (URL, "https://gitlab.invalid"),
            (TOKEN, gitlab.runner_token()),
        ];
        child("an_answer_comes", &variables).await;
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    for head in asked.iter() {
        let head = head.to_ascii_lowercase();
        assert!(
            head.starts_with("connect gitlab.invalid:443 http/1.1\r\n"),
            "{head}"
        );
        // "me:secret", and no token of the runner.
        assert!(
            head.contains("proxy-authorization: basic bwu6c2vjcmv0\r\n"),
            "{head}"
        );
        assert!(!head.contains("runner-token"), "{head}");
    }
}
