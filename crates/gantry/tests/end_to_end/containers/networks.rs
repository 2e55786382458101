//! Services and how they are reached (docker-executor §5, §6).

use super::*;

/// A service that answers over HTTP with the file `/etc/passwd` of its image.
fn web() -> ServiceBuilder {
    ServiceBuilder::new(BUSYBOX).command(["httpd", "-f", "-p", "8080", "-h", "/etc"])
}

/// A script line that waits until a service answers under this name.
fn reach(name: &str) -> String {
    format!(
        "n=0; until wget -q -O - http://{name}:8080/passwd | grep -q root; do n=$((n+1)); \
         [ $n -lt 300 ] || exit 9; sleep 0.1; done; echo reached {name}"
    )
}

#[rstest]
#[case::network_of_the_job(true)]
#[case::default_network(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_are_reached_by_their_aliases(#[case] own_network: bool) {
    let flags = format!("[runners.feature_flags]\nFF_NETWORK_PER_BUILD = {own_network}");
    let Some(host) = Host::new(&Config::new().runner(&flags)).await else {
        return;
    };
    let secret = "a-secret-of-the-job-0123456789";
    host.secret(secret);
    let wait = gate("go");
    let names = ["web", "api", "other"].map(reach);
    let script = [
        names[0].as_str(),
        &names[1],
        &names[2],
        "echo begun >> /witness/script",
        &wait,
    ];
    let work = job(script)
        .service(web().alias("web"))
        .service(web().alias("api,other").variable("OF_THE_SERVICE", "yes"))
        .masked("PASSWORD", secret);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let mut services = Vec::new();
    for name in host.containers("").await {
        // Others of the job may be gone by now.
        let Some(found) = host.docker.inspect(&name).await else {
            continue;
        };
        if found["Config"]["Labels"]["com.gitlab.gitlab-runner.type"] == "service" {
            host.assert_no_secret("docker inspect of a service", &found.to_string());
            services.push(found);
        }
    }
    assert_eq!(services.len(), 2);
    let told = services.iter().filter(|service| {
        service["Config"]["Env"]
            .to_string()
            .contains("OF_THE_SERVICE=yes")
    });
    assert_eq!(told.count(), 1);
    let filter = format!("label={}", host.label());
    let list = ["network", "ls", "--quiet", "--filter", &filter];
    let networks = host.docker.lines(&list).await;
    assert_eq!(networks.len(), usize::from(own_network));
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success);
    let log = JobLog::of(&job);
    log.assert_says("Starting service gantry.test/busybox:1...");
    for name in ["web", "api", "other"] {
        log.assert_prints(&format!("reached {name}"));
    }
}

#[rstest]
#[case::network_of_the_job(true)]
#[case::default_network(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linked_services_share_their_variables_with_the_job(#[case] own_network: bool) {
    let flags = format!("[runners.feature_flags]\nFF_NETWORK_PER_BUILD = {own_network}");
    let script = [
        "env | grep ^DB_ | sed 's/^/has /' || true",
        "echo \"own $DB_NAME\"",
    ];
    let work = job(script)
        .variable("DB_NAME", "that of the job")
        .service(web().alias("db").variable("OF_THE_SERVICE", "yes"));
    let Some((_, job, log)) = run(&Config::new().runner(&flags), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    assert_eq!(log.prints("has DB_ENV_OF_THE_SERVICE=yes"), !own_network);
    log.assert_prints("own that of the job");
}

#[rstest]
#[case::network(
    "gantry-test-no-such-network",
    false,
    "network gantry-test-no-such-network not found"
)]
#[case::with_a_service(
    "gantry-test-no-such-network",
    true,
    "network gantry-test-no-such-network not found"
)]
#[case::container(
    "container:gantry-test-none",
    false,
    "No such container: gantry-test-none"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_not_there_is_a_mistake_of_the_configuration(
    #[case] mode: &str,
    #[case] service: bool,
    #[case] message: &str,
) {
    let mut work = job(["echo never"]);
    if service {
        work = work.service(web());
    }
    let config = Config::new().docker(&format!("network_mode = \"{mode}\""));
    let Some((_, job, log)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(
        job.failure_reason.as_deref(),
        Some("runner_configuration_error"),
        "{}",
        log.text()
    );
    log.assert_says(message);
    log.assert_never_says("Will be retried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_reaches_the_build_container_by_its_name() {
    let flags = "[runners.feature_flags]\nFF_NETWORK_PER_BUILD = true";
    let ask = "until wget -q -O - http://build:8081/passwd > /tmp/got; do sleep 0.1; done; touch /witness/asked; sleep 1000";
    let service = ServiceBuilder::new(BUSYBOX).command(["sh", "-c", ask]);
    let work = job([
        "httpd -p 8081 -h /etc",
        "while [ ! -e /witness/asked ]; do sleep 0.05; done",
        "echo asked",
    ])
    .service(service);
    let Some((_, job, log)) = run(&Config::new().runner(flags), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_prints("asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_one_alias_are_one_and_a_warning() {
    let work = job(["echo done"])
        .service(web().alias("web"))
        .service(web().alias("web"));
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_says("WARNING: Skipping alias \"web\" for service \"gantry.test/busybox:1\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_ends_at_once_is_told_and_the_job_goes_on() {
    let service = ServiceBuilder::new(BUSYBOX)
        .alias("short")
        .command(["sh", "-c", "exit 6"]);
    let work = job(["echo done"]).service(service);
    let Some((_, job, log)) = run(&Config::new(), &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_says("has ended with exit code 6");
    log.assert_prints("done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_image_is_not_there_fails_the_job_once() {
    let service = ServiceBuilder::new("gantry.test/absent:1");
    let Some((_, job, log)) = run(&Config::new(), &job(["true"]).service(service)).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Failed);
    log.assert_says("gantry.test/absent:1");
    log.assert_never_says("Will be retried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_network_is_used_and_kept() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let network = format!("gantry-end-to-end-{}", host.short_token());
    host.docker.run(&["network", "create", &network]).await;
    host.configure(&Config::new().docker(&format!("network_mode = \"{network}\"")));
    let line = reach("web");
    let work = job([line.as_str()]).service(web().alias("web"));
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    let kept = host.docker.inspect(&network).await;
    host.docker.run(&["network", "rm", &network]).await;
    assert!(kept.is_some());
    assert_eq!(job.state, ServerJobState::Success);
}
