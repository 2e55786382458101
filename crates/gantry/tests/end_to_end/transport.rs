//! Sources, artifacts and caches over TLS and through proxies, by whole jobs (job-lifecycle §4.3, §4.4; config-toml §4).

use std::net::SocketAddr;

use gantry_testkit::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use gantry_testkit::{
    FakeGitLabBuilder, GitHttp, Identity, JobBuilder, JobRecord, Proxy, Repository, ServerJobState,
    TestCa,
};
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use crate::archives::{downloads, end};
use crate::harness::{Config, Docker, Host, JobLog, job, skipped};

/// An image with git in it.
const GIT: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// The bridge's address, if there is an engine.
async fn bridge() -> Option<String> {
    let Some(docker) = Docker::of_environment() else {
        skipped("GANTRY_TEST_ENGINE names no engine");
        return None;
    };
    Some(docker.bridge().await)
}

/// Files of certificates, as a configuration names them.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Self(folder)
    }

    /// A line that names one.
    fn line(&self, key: &str, name: &str) -> String {
        format!("{key} = \"{}\"", self.0.path().join(name).display())
    }
}

fn repository(git: &GitHttp) -> Repository {
    git.repository("acme/tools/widget")
        .file("README", "of widget\n")
        .commit("one")
        .build()
}

/// A job with sources that uploads `dist/`.
fn builds<const N: usize>(git: &GitHttp, script: [&str; N]) -> JobBuilder {
    let lines = ["cat README", "mkdir dist; cp README dist/copy"];
    JobBuilder::new("unit")
        .script(lines.into_iter().chain(script))
        .image(GIT)
        .git(&repository(git), "main")
        .set(
            "/artifacts",
            json!([{
                "name": "dist", "paths": ["dist/"], "when": "always",
                "artifact_type": "archive", "artifact_format": "zip",
            }]),
        )
}

async fn succeeds(host: &Host, work: &JobBuilder) -> (JobRecord, JobLog) {
    let (job, log) = end(host, work).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    (job, log)
}

#[rstest]
#[case::servers_certificate(false)]
#[case::certificates_of_both(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_and_artifacts_are_exchanged_with_a_server_that_only_a_file_vouches_for(
    #[case] mutual: bool,
) {
    let Some(bridge) = bridge().await else {
        return;
    };
    let ca = TestCa::new("an authority of one's own");
    let clients = TestCa::new("an authority for runners");
    let identity = ca.issue(&[&bridge]);
    let client = clients.issue(&["runner"]);
    let files = Files::new(&[
        ("ca.pem", ca.pem()),
        ("cert.pem", &client.certificate),
        ("key.pem", &client.key),
    ]);
    let mut config = Config::new().runner(&files.line("tls-ca-file", "ca.pem"));
    if mutual {
        config = config
            .runner(&files.line("tls-cert-file", "cert.pem"))
            .runner(&files.line("tls-key-file", "key.pem"));
    }

    let (served, wanted) = (identity.clone(), mutual.then_some(&clients));
    let git = GitHttp::start_tls(ANY, Some(&bridge), &identity, wanted).await;
    let make = |gitlab: FakeGitLabBuilder| {
        if mutual {
            gitlab.mutual_tls(served, clients)
        } else {
            gitlab.tls(served)
        }
    };
    let Some(host) = Host::with(&config, make).await else {
        return;
    };
    let secret = client.key.lines().nth(1).expect("a line of the key");
    host.secret(secret);
    let runner = host.start();
    let own = "export GIT_SSL_CAINFO=\"$CI_SERVER_TLS_CA_FILE\"";
    let keys = "if [ -n \"$CI_SERVER_TLS_KEY_FILE\" ]; then export GIT_SSL_CERT=\"$CI_SERVER_TLS_CERT_FILE\" GIT_SSL_KEY=\"$CI_SERVER_TLS_KEY_FILE\"; fi";
    let work = builds(&git, [own, keys, "git fetch origin && echo fetched"]);
    let (first, log) = succeeds(&host, &work).await;
    log.assert_prints("of widget");
    log.assert_prints("fetched");
    assert_eq!(first.artifacts.len(), 1);
    host.assert_no_secret("the job's log", &first.log());
    let (_, log) = succeeds(&host, &downloads(&first, ["cat dist/copy"])).await;
    log.assert_prints("of widget");
    // Neither the key nor a setting that names it stays with the sources.
    for volume in host.kept_volumes().await {
        let mount = format!("{}:/v", volume["Name"].as_str().expect("a name"));
        let look = "find /v -type f -exec cat {} +";
        let arguments = [
            "run",
            "--rm",
            "-v",
            &mount,
            crate::harness::BUSYBOX,
            "sh",
            "-c",
            look,
        ];
        let text = host.docker.run(&arguments).await;
        host.assert_no_secret("the kept volume", &text);
    }
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_of_a_server_that_nobody_vouches_for_fail_the_job_which_says_what_to_do() {
    let Some(bridge) = bridge().await else {
        return;
    };
    let identity = TestCa::new("an authority of one's own").issue(&[&bridge]);
    let git = GitHttp::start_tls(ANY, Some(&bridge), &identity, None).await;
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let runner = host.start();
    let (job, log) = end(&host, &builds(&git, [])).await;
    assert_eq!(job.state, ServerJobState::Failed, "{}", log.text());
    assert_eq!(job.exit_code, Some(128));
    log.assert_says("certificate verification failed");
    log.assert_says(&format!(
        "The helper container does not trust the certificate of {bridge}:{}. If GitLab is there, name a file with its authority as \
         tls-ca-file in [[runners]]; else add the authority to the helper image.",
        git.addr().port()
    ));
    assert!(git.requests().is_empty());
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_of_a_server_that_wants_a_certificate_fail_a_job_without_one() {
    let Some(bridge) = bridge().await else {
        return;
    };
    let ca = TestCa::new("an authority of one's own");
    let clients = TestCa::new("an authority for runners");
    let identity = ca.issue(&[&bridge]);
    let git = GitHttp::start_tls(ANY, Some(&bridge), &identity, Some(&clients)).await;
    let files = Files::new(&[("ca.pem", ca.pem())]);
    let config = Config::new().runner(&files.line("tls-ca-file", "ca.pem"));
    let Some(host) = Host::with(&config, |gitlab| gitlab.tls(identity)).await else {
        return;
    };
    let runner = host.start();
    let (job, log) = end(&host, &builds(&git, [])).await;
    assert_eq!(job.state, ServerJobState::Failed, "{}", log.text());
    assert_eq!(job.exit_code, Some(128));
    // Whether git gets to read why the server hangs up is a matter of chance.
    log.assert_says("fatal: unable to access");
    log.assert_never_says("does not trust");
    assert!(git.requests().is_empty());
    host.finish(runner).await;
}

/// `environment` of a runner whose jobs reach the world by this proxy, but for these places.
fn by_proxy(bridge: &str, proxy: &Proxy, but: &str) -> String {
    let place = format!("http://{bridge}:{}", proxy.addr().port());
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"];
    let proxies = names.map(|name| format!("\"{name}={place}\"")).join(", ");
    format!("environment = [{proxies}, \"no_proxy={but}\", \"NO_PROXY={but}\"]")
}

#[rstest]
#[case::plain_sources(false)]
#[case::sources_over_tls(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_and_artifacts_go_through_the_proxy_of_the_jobs_environment(
    #[case] tls: bool,
    #[values(false, true)] artifacts_direct: bool,
) {
    const NAME: &str = "git.gantry.test";
    let Some(bridge) = bridge().await else {
        return;
    };
    let ca = TestCa::new("an authority of one's own");
    let identity: Identity = ca.issue(&[NAME, &bridge]);
    // A name that nobody else can resolve.
    let git = if tls {
        GitHttp::start_tls(ANY, Some(NAME), &identity, None).await
    } else {
        GitHttp::start_on(ANY, Some(NAME)).await
    };
    let port = git.addr().port();
    let names = [(
        &*format!("{NAME}:{port}"),
        SocketAddr::from(([127, 0, 0, 1], port)),
    )];
    let proxy = Proxy::start(ANY, &names).await;
    let files = Files::new(&[("ca.pem", ca.pem())]);
    let but = if artifacts_direct {
        bridge.as_str()
    } else {
        "localhost"
    };
    let config = Config::new()
        .runner(&files.line("tls-ca-file", "ca.pem"))
        .runner(&by_proxy(&bridge, &proxy, but));
    // The authority of a file is that of the server, and goes to jobs if the server speaks TLS.
    let make = |gitlab: FakeGitLabBuilder| if tls { gitlab.tls(identity) } else { gitlab };
    let Some(host) = Host::with(&config, make).await else {
        return;
    };
    let runner = host.start();
    let (first, log) = succeeds(&host, &builds(&git, [])).await;
    log.assert_prints("of widget");
    let (_, log) = succeeds(&host, &downloads(&first, ["cat dist/copy"])).await;
    log.assert_prints("of widget");
    let asked = proxy.asked();
    let of_git = |line: &&String| {
        if tls {
            line.starts_with(&format!("CONNECT {NAME}:{port} "))
        } else {
            line.contains(&format!(" http://{NAME}:{port}/acme/tools/widget.git/"))
        }
    };
    assert!(asked.iter().any(|line| of_git(&line)), "{asked:?}");
    let (_, gitlab) = host.gitlab.url().split_once("://").expect("a URL");
    let transfers = asked.iter().filter(|line| line.contains(gitlab)).count();
    assert_eq!(transfers, if artifacts_direct { 0 } else { 2 }, "{asked:?}");
    let tunnels = asked.iter().any(|line| line.starts_with("CONNECT "));
    assert_eq!(tunnels, tls, "{asked:?}");
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_go_through_the_proxy_of_the_jobs_environment() {
    const NAME: &str = "s3.gantry.test";
    let Some(bridge) = bridge().await else {
        return;
    };
    let server = S3Server::start_on(ANY, NAME).await;
    let place = server.address().to_owned();
    let port = place.rsplit(':').next().and_then(|port| port.parse().ok());
    let port: u16 = port.expect("a port");
    let names = [(&*place, SocketAddr::from(([127, 0, 0, 1], port)))];
    let proxy = Proxy::start(ANY, &names).await;
    let config = Config::new()
        .runner(&by_proxy(&bridge, &proxy, &bridge))
        .more(&format!(
            "[runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nServerAddress = \"{place}\"\nInsecure = true\nBucketName = \"caches\"\nAccessKey = \"{ACCESS_KEY}\"\nSecretKey = \"{SECRET_KEY}\"\n"
        ));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let runner = host.start();
    let work = job([
        "cat vendor/gem || echo none",
        "mkdir -p vendor; echo gem > vendor/gem",
    ])
    .set("/cache", json!([{"key": "gems", "paths": ["vendor"]}]));
    succeeds(&host, &work).await;
    let (_, log) = succeeds(&host, &work).await;
    log.assert_prints("gem");
    assert!(!proxy.asked().is_empty());
    let whole = format!(" http://{place}/");
    assert!(proxy.asked().iter().all(|line| line.contains(&whole)));
    host.finish(runner).await;
}
