//! TLS: who is trusted, who is shown what, and what jobs are told. Scenario 53.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use gantry_gitlab::{CallFailure, Connection, JobRequestAnswer, TlsFiles};
use gantry_testkit::{FakeGitLab, Identity, JobBuilder, TestCa};

use super::fixture::{connection, coordinators, receive, request};

const LOCALHOST: &[&str] = &["127.0.0.1", "localhost"];

fn trusting(gitlab: &FakeGitLab, ca_file: &Path) -> Connection {
    Connection {
        tls: TlsFiles {
            ca_file: Some(ca_file.to_owned()),
            ..TlsFiles::default()
        },
        ..connection(gitlab)
    }
}

async fn ask(connection: &Connection) -> JobRequestAnswer {
    let client = coordinators().get(connection).unwrap();
    client.request_job(&request()).await.answer
}

/// The reason of a refused handshake.
async fn refusal(connection: &Connection) -> String {
    match ask(connection).await {
        JobRequestAnswer::Failed(CallFailure::Transport { reason, .. }) => reason,
        other => panic!("trusted: {other:?}"),
    }
}

#[tokio::test]
async fn a_configured_authority_is_trusted_and_told_to_jobs_verbatim() {
    let ca = TestCa::new("Acme CA");
    let gitlab = FakeGitLab::builder().tls(ca.issue(LOCALHOST)).start().await;
    let reason = refusal(&connection(&gitlab)).await;
    assert!(reason.contains("UnknownIssuer"), "{reason}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let text = format!("# our authority\n{}", ca.pem());
    fs::write(&file, &text).unwrap();
    gitlab.enqueue(&JobBuilder::new("unit"));
    let client = coordinators().get(&trusting(&gitlab, &file)).unwrap();
    let tls = receive(&client).await.tls;
    assert_eq!(tls.ca_chain.as_deref(), Some(text.as_str()));
    assert!(tls.client_certificate.is_none() && tls.client_key.is_none());
}

#[tokio::test]
async fn a_configured_authority_is_none_for_the_servers_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, TestCa::new("Another CA").pem()).unwrap();
    let identity = TestCa::new("Acme CA").issue(LOCALHOST);
    let gitlab = FakeGitLab::builder().tls(identity).start().await;
    let reason = refusal(&trusting(&gitlab, &file)).await;
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}

#[tokio::test]
async fn a_trusted_authority_vouches_neither_for_another_name_nor_for_a_time_that_is_over() {
    let ca = TestCa::new("Acme CA");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, ca.pem()).unwrap();
    for (identity, problem) in [
        (ca.issue(&["gitlab.example.com"]), "not valid for name"),
        (ca.issue_expired(LOCALHOST), "expired"),
    ] {
        let gitlab = FakeGitLab::builder().tls(identity).start().await;
        let reason = refusal(&trusting(&gitlab, &file)).await;
        assert!(reason.contains(problem), "{reason}");
    }
}

#[tokio::test]
async fn a_server_that_vouches_for_itself_is_trusted_by_its_own_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("127.0.0.1.crt");
    for marked_as_ca in [true, false] {
        let identity = Identity::self_signed(LOCALHOST, marked_as_ca);
        fs::write(&file, &identity.certificate).unwrap();
        let gitlab = FakeGitLab::builder().tls(identity).start().await;
        let found = Connection {
            tls: TlsFiles::default().discover(folder.path(), "127.0.0.1"),
            ..connection(&gitlab)
        };
        let answer = ask(&found).await;
        assert!(
            matches!(answer, JobRequestAnswer::NoJob),
            "{marked_as_ca}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_pinned_leaf_of_an_unknown_authority_is_trusted_as_well() {
    let identity = TestCa::new("Unknown CA").issue(LOCALHOST);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leaf.pem");
    fs::write(&file, &identity.certificate).unwrap();
    let gitlab = FakeGitLab::builder().tls(identity).start().await;
    let answer = ask(&trusting(&gitlab, &file)).await;
    assert!(matches!(answer, JobRequestAnswer::NoJob), "{answer:?}");
}

#[tokio::test]
async fn a_pinned_certificate_of_another_name_or_out_of_date_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    for (identity, problem) in [
        (
            Identity::self_signed(&["gitlab.example.com"], true),
            "not valid for name",
        ),
        (
            Identity::self_signed(&["gitlab.example.com"], false),
            "not valid for name",
        ),
        (Identity::expired(LOCALHOST, true), "expired"),
        (Identity::expired(LOCALHOST, false), "expired"),
    ] {
        fs::write(&file, &identity.certificate).unwrap();
        let gitlab = FakeGitLab::builder().tls(identity).start().await;
        let reason = refusal(&trusting(&gitlab, &file)).await;
        assert!(reason.contains(problem), "{reason}");
    }
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, Identity::self_signed(LOCALHOST, true).certificate).unwrap();
    let gitlab = FakeGitLab::builder()
        .tls(Identity::self_signed(LOCALHOST, true))
        .start()
        .await;
    refusal(&trusting(&gitlab, &file)).await;
}

#[tokio::test]
async fn a_replaced_authority_file_is_picked_up_without_a_restart() {
    let (old, new) = (TestCa::new("Old CA"), TestCa::new("New CA"));
    let gitlab = FakeGitLab::builder()
        .tls(old.issue(LOCALHOST))
        .start()
        .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let hour = Duration::from_secs(3600);
    fs::write(&file, old.pem()).unwrap();
    // Not left to the clock of the file system: its steps may be longer than this test.
    let set_time = |time: SystemTime| {
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    set_time(SystemTime::now() - hour);
    let young = Connection {
        // Every call makes a new connection, or the old one would be reused.
        max_age: Some(Duration::from_nanos(1)),
        ..trusting(&gitlab, &file)
    };
    let client = coordinators().get(&young).unwrap();
    let answer = client.request_job(&request()).await.answer;
    assert!(matches!(answer, JobRequestAnswer::NoJob), "{answer:?}");

    gitlab.set_certificate(&new.issue(LOCALHOST));
    let answer = client.request_job(&request()).await.answer;
    assert!(matches!(answer, JobRequestAnswer::Failed(_)), "{answer:?}");
    fs::write(&file, new.pem()).unwrap();
    set_time(SystemTime::now());
    gitlab.enqueue(&JobBuilder::new("unit"));
    let received = receive(&client).await;
    assert_eq!(received.tls.ca_chain.as_deref(), Some(new.pem()));
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_demands_one_and_told_to_jobs() {
    let (servers, clients) = (TestCa::new("Servers"), TestCa::new("Clients"));
    let client = clients.issue(&["runner"]);
    let gitlab = FakeGitLab::builder()
        .mutual_tls(servers.issue(LOCALHOST), clients)
        .start()
        .await;
    gitlab.enqueue(&JobBuilder::new("unit"));
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    fs::write(certs.join("127.0.0.1.crt"), servers.pem()).unwrap();
    fs::write(certs.join("127.0.0.1.auth.crt"), &client.certificate).unwrap();
    fs::write(certs.join("127.0.0.1.auth.key"), &client.key).unwrap();

    let without = trusting(&gitlab, &certs.join("127.0.0.1.crt"));
    refusal(&without).await;
    let with = Connection {
        tls: TlsFiles::default().discover(certs, "127.0.0.1"),
        ..connection(&gitlab)
    };
    let coordinator = coordinators().get(&with).unwrap();
    let tls = receive(&coordinator).await.tls;
    assert_eq!(
        tls.client_certificate.as_deref(),
        Some(client.certificate.as_str())
    );
    let key = tls.client_key.unwrap();
    assert_eq!(key.expose(), client.key);
    assert!(!format!("{key:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_systems_trust() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.pem");
    fs::write(&broken, "no certificate").unwrap();
    let gitlab = FakeGitLab::start().await;
    for ca_file in [
        broken.as_path(),
        &folder.path().join("missing.pem"),
        folder.path(),
    ] {
        let connection = Connection {
            tls: TlsFiles {
                ca_file: Some(ca_file.to_owned()),
                cert_file: Some(broken.clone()),
                key_file: Some(broken.clone()),
            },
            ..connection(&gitlab)
        };
        let answer = ask(&connection).await;
        assert!(matches!(answer, JobRequestAnswer::NoJob), "{answer:?}");
    }
}

#[tokio::test]
async fn a_job_over_plain_http_is_told_no_certificates() {
    let gitlab = FakeGitLab::start().await;
    gitlab.enqueue(&JobBuilder::new("unit"));
    let client = coordinators().get(&connection(&gitlab)).unwrap();
    let tls = receive(&client).await.tls;
    assert!(tls.ca_chain.is_none() && tls.client_certificate.is_none());
}

#[test]
fn discovery_fills_only_what_is_not_set_and_exists() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    fs::write(certs.join("gitlab.example.com.crt"), "").unwrap();
    fs::write(certs.join("gitlab.example.com.auth.key"), "").unwrap();
    let explicit = TlsFiles {
        key_file: Some("/etc/own.key".into()),
        ..TlsFiles::default()
    };
    assert_eq!(
        explicit.discover(certs, "gitlab.example.com"),
        TlsFiles {
            ca_file: Some(certs.join("gitlab.example.com.crt")),
            cert_file: None,
            key_file: Some("/etc/own.key".into()),
        }
    );
}
