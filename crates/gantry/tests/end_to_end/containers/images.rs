//! Pull policies and registries (docker-executor §3).

use std::process::{Child, Command, Stdio};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_there_and_must_not_be_pulled_fails_once() {
    let config = Config::new().pull_policy("\"never\"");
    let work = job(["true"]).image("gantry.test/absent:1");
    let Some((_, job, log)) = run(&config, &work).await else {
        return;
    };
    // The reason by which `retry:when` may send the job to another runner.
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
    log.assert_says("ERROR: Job failed (system failure): failed to pull image \"gantry.test/absent:1\" with specified policies [never]: image \"gantry.test/absent:1\" not found: the engine does not have it, and the pull policy is \"never\"; pull it there by hand");
    log.assert_never_says("Will be retried");
    log.assert_never_says("Pulling docker image");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_image_is_used_when_that_is_enough() {
    let config = Config::new().pull_policy("\"if-not-present\"");
    let Some((_, job, log)) = run(&config, &job(["true"])).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_says(&format!(
        "Using effective pull policy of [if-not-present] for container {BUSYBOX}"
    ));
    log.assert_says("Using locally found image version due to \"if-not-present\" pull policy");
    log.assert_says(&format!(" for {BUSYBOX} ..."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_policy_is_tried_when_a_pull_fails() {
    let Some(host) =
        Host::new(&Config::new().pull_policy("[\"always\", \"if-not-present\"]")).await
    else {
        return;
    };
    // Nobody listens there.
    let name = format!("127.0.0.1:1/{}:1", host.short_token());
    own_image(&host, &name).await;
    let id = host.gitlab.enqueue(&job(["true"]).image(&name));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    host.docker.run(&["rmi", &name]).await;
    assert_eq!(job.state, ServerJobState::Success);
    let log = JobLog::of(&job);
    log.assert_says("WARNING: Failed to pull image with policy \"always\":");
    log.assert_says("Attempt #2: Trying \"if-not-present\" pull policy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_image_at_all_is_a_mistake_that_is_told_once() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let text = host.render(&Config::new());
    let text: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("image ="))
        .collect();
    host.write_config(&text.join("\n"));
    let id = host.gitlab.enqueue(&job(["true"]));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Failed);
    let log = JobLog::of(&job);
    log.assert_says("no Docker image specified to run the build in");
    log.assert_never_says("Will be retried");
}

/// An image of the host's own, so that its tags and digests are no other test's: the usual one with another ID.
async fn own_image(host: &Host, name: &str) {
    let container = format!("gantry-end-to-end-image-{}", host.short_token());
    let create = ["create", "--name", &container, BUSYBOX, "true"];
    host.docker.run(&create).await;
    host.docker.run(&["commit", &container, name]).await;
    host.docker.run(&["rm", &container]).await;
}

/// A registry on this machine that wants the user `user` and the password `secret`.
struct Registry {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Registry {
    /// `None` where Debian's registry is not installed.
    async fn start() -> Option<Self> {
        // As `htpasswd -B` writes it.
        let users = "user:$2b$05$fEn4HbJrd/eHa2oFMqxfye4RieLVRkFlcWlQIa29mQEE2pC6SynqO\n";
        let folder = tempfile::tempdir().expect("a temporary folder");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let root = folder.path().display().to_string();
        std::fs::write(folder.path().join("users"), users).expect("a file");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\n\
             http: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: test, path: {root}/users}}}}\n"
        );
        std::fs::write(folder.path().join("config.yml"), config).expect("a file");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let registry = Self {
            process,
            address,
            folder,
        };
        until("the registry to listen", async || {
            tokio::net::TcpStream::connect(&registry.address).await.ok()
        })
        .await;
        Some(registry)
    }

    /// Puts the usual image there, under a name that the engine then no longer has.
    async fn push(&self, host: &Host, name: &str) -> String {
        let name = format!("{}/{name}", self.address);
        let client = self.folder.path().join("client");
        std::fs::create_dir_all(&client).expect("a folder");
        // base64 of `user:secret`
        let config = format!(
            r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#,
            self.address
        );
        std::fs::write(client.join("config.json"), config).expect("a file");
        let client = client.display().to_string();
        own_image(host, &name).await;
        host.docker
            .run(&["--config", &client, "push", "--quiet", &name])
            .await;
        host.docker.run(&["rmi", &name]).await;
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[rstest]
#[case::of_the_payload(
    true,
    "Authenticating with credentials from job payload (GitLab Registry)"
)]
#[case::of_the_job(false, "Authenticating with credentials from $DOCKER_AUTH_CONFIG")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pulled_with_credentials(#[case] payload: bool, #[case] says: &str) {
    let Some(host) = Host::new(&Config::new().pull_policy("\"always\"")).await else {
        return;
    };
    let Some(registry) = Registry::start().await else {
        crate::harness::skipped("docker-registry is not installed");
        return;
    };
    let name = registry.push(&host, "team/app:1").await;
    let work = job(["echo pulled"]).image(&name);
    let work = if payload {
        let credentials = json!([{
            "type": "registry", "url": registry.address, "username": "user", "password": "secret",
        }]);
        work.set("/credentials", credentials)
    } else {
        let config = format!(
            r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#,
            registry.address
        );
        work.variable_object(json!({
            "key": "DOCKER_AUTH_CONFIG", "value": config, "public": false, "masked": false,
        }))
    };
    let id = host.gitlab.enqueue(&work);
    let without = host.gitlab.enqueue(&job(["true"]).image(&name));
    let runner = host.start();
    let job = host.end_of(id).await;
    let refused = host.end_of(without).await;
    host.finish(runner).await;
    host.docker.run(&["rmi", &name]).await;
    let log = JobLog::of(&job);
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_says(says);
    log.assert_says(&format!("Pulling docker image {name} ..."));
    log.assert_says(" with digest ");
    log.assert_prints("pulled");
    assert_eq!(refused.state, ServerJobState::Failed);
    JobLog::of(&refused).assert_says(&format!("failed to pull image \"{name}\""));
}
