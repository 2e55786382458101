//! Whether services answer before the script, and what they print (docker-executor §6.5, §6.6).

use std::time::Duration;

use super::*;

/// A service that answers over HTTP after some time.
fn late(seconds: &str, port: &str) -> ServiceBuilder {
    let command =
        format!("echo booting; sleep {seconds}; echo up; exec httpd -f -p {port} -h /etc");
    ServiceBuilder::new(BUSYBOX)
        .alias("web")
        .command(["sh", "-c", &command])
        .variable("HEALTHCHECK_TCP_PORT", port)
}

/// A script line that asks a service once.
fn ask(host: &str, port: &str) -> String {
    format!("wget -q -O - http://{host}:{port}/passwd | grep -q root && echo answered")
}

#[rstest]
#[case::network_of_the_job("", true, "web")]
#[case::default_network("", false, "web")]
#[case::network_of_the_host("network_mode = \"host\"", false, "127.0.0.1")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_begins_once_a_service_answers(
    #[case] mode: &str,
    #[case] own_network: bool,
    #[case] name: &str,
) {
    let flags = format!("[runners.feature_flags]\nFF_NETWORK_PER_BUILD = {own_network}");
    let port = "38471";
    let config = Config::new().docker(mode).runner(&flags);
    let work = job([ask(name, port).as_str()]).service(late("2", port));
    let Some((_, job, log)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("answered");
    log.assert_says("Waiting for services to be up and running (timeout 30 seconds)...");
    log.assert_never_says("probably didn't start properly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ports_that_an_image_exposes_are_looked_at() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let image = format!("gantry.test/exposes-{}:1", host.short_token());
    let made = host.docker.run(&["create", BUSYBOX]).await;
    let change = ["EXPOSE 8080", "EXPOSE 8081", "EXPOSE 53/udp"];
    let mut commit = vec!["commit"];
    for change in &change {
        commit.extend(["--change", change]);
    }
    commit.extend([made.trim(), &image]);
    host.docker.run(&commit).await;
    host.docker.run(&["rm", made.trim()]).await;
    // One of the ports is enough: that of the other form of a service may be shut for good.
    let service = ServiceBuilder::new(&image).alias("web").command([
        "sh",
        "-c",
        "sleep 1; exec httpd -f -p 8081 -h /etc",
    ]);
    let id = host
        .gitlab
        .enqueue(&job([ask("web", "8081").as_str()]).service(service));
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    host.docker.run(&["rmi", &image]).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    JobLog::of(&job).assert_never_says("probably didn't start properly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_never_answers_is_told_with_its_log_and_the_job_goes_on() {
    let config = Config::new().docker("wait_for_services_timeout = 2");
    let work = job(["echo done"]).service(late("1000", "8080"));
    let Some((_, job, log)) = run(&config, &work).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_prints("done");
    for text in [
        "Waiting for services to be up and running (timeout 2 seconds)...",
        "*** WARNING: Service runner-",
        "probably didn't start properly.",
        "-wait-for-service\" timeout",
        "Connection refused",
        "Z booting",
    ] {
        log.assert_says(text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_is_told_at_once_with_its_log() {
    let command = "sleep 0.5; echo 'the password of the superuser is missing' >&2; exit 6";
    let service = ServiceBuilder::new(BUSYBOX)
        .alias("db")
        .command(["sh", "-c", command])
        .variable("HEALTHCHECK_TCP_PORT", "5432");
    let config = Config::new().docker("wait_for_services_timeout = 300");
    let Some((_, job, log)) = run(&config, &job(["echo done"]).service(service)).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Success);
    log.assert_prints("done");
    log.assert_says("has ended with exit code 6; its log says why");
    log.assert_says("Z the password of the superuser is missing");
    log.assert_never_says("timeout\n");
}

/// It answered before the script began, so that nothing else speaks of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_job_names_the_service_that_ended_before_it_did() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    // The first connection is the check's, the second one ends it.
    let command = "nc -l -p 5432 < /dev/null; nc -l -p 5433 < /dev/null; exit 7";
    let service = ServiceBuilder::new(BUSYBOX)
        .alias("db")
        .command(["sh", "-c", command])
        .variable("HEALTHCHECK_TCP_PORT", "5432");
    let lasting = late("0", "8080");
    let script = [
        "until nc db 5433 < /dev/null; do sleep 0.1; done",
        "while ping -c 1 -W 1 db > /dev/null; do sleep 0.1; done",
        "exit 3",
    ];
    let work = job(script).service(service).service(lasting);
    let (job, log) = host.run(&work).await;
    assert_eq!(job.exit_code, Some(3), "{}", log.text());
    log.assert_never_says("probably didn't start properly");
    log.assert_says(&format!(
        "WARNING: service \"db\" ({BUSYBOX}) ended before the job did, with exit code 7; what it printed last says why \
         (CI_DEBUG_SERVICES: \"true\" shows it)"
    ));
    assert_eq!(log.text().matches(" ended before the job did").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_killed_while_it_waits_for_services_goes_on() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = "while [ ! -e /witness/go ]; do sleep 0.05; done; exec httpd -f -p 8080 -h /etc";
    let service = ServiceBuilder::new(BUSYBOX)
        .alias("web")
        .command(["sh", "-c", wait])
        .variable("HEALTHCHECK_TCP_PORT", "8080");
    let ask = ask("web", "8080");
    let work = job([ask.as_str(), "echo once >> /witness/ran"]).service(service);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    until("the check", async || {
        let found = host.containers("-wait-for-services").await;
        (!found.is_empty()).then_some(())
    })
    .await;
    runner.kill().await;
    let runner = host.start();
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    assert_eq!(host.witnessed("ran").len(), 1);
    let text = JobLog::of(&job).text();
    assert_eq!(text.matches("Waiting for services").count(), 1, "{text}");
}

#[rstest]
#[case::the_job_says_so(true)]
#[case::it_does_not(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_services_print_is_in_the_log_if_the_job_asks_for_it(#[case] asked: bool) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let secret = "a-secret-of-the-job-0123456789";
    host.secret(secret);
    let talk =
        "n=0; while [ $n -lt 2000 ]; do echo tick $n $OF_THE_JOB; n=$((n+1)); sleep 0.02; done";
    let service = ServiceBuilder::new(BUSYBOX)
        .alias("a,b")
        .command(["sh", "-c", talk])
        .variable("OF_THE_JOB", "$PASSWORD");
    let wait = gate("go");
    let work = job(["echo begun >> /witness/script", &wait, "sleep 0.5"])
        .service(service)
        .masked("PASSWORD", secret)
        .variable("CI_DEBUG_SERVICES", &asked.to_string());
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let runner = host.start();
    host.open_gate("go");
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    let ticks = JobLog::of(&job).services;
    assert_eq!(!ticks.is_empty(), asked, "{}", job.log());
    for (number, line) in ticks.iter().enumerate() {
        let begin = "[service:gantry.test__busybox-gantry.test-busybox-a-b] 20";
        let end = format!("Z tick {number} [MASKED]");
        let good = line.starts_with(begin) && line.ends_with(&end);
        assert!(good, "{line} instead of {begin}…{end}");
    }
    if asked {
        assert!(ticks.len() > 20, "{}", ticks.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_the_runner_is_started_with_its_limits() {
    let config = Config::new().docker(&format!(
        "service_memory = \"64m\"\nservice_memory_swap = \"96m\"\nservice_memory_reservation = \"32m\"\nservice_cpus = \"0.5\"\n\
         service_cpu_shares = 512\nservice_cpuset_cpus = \"0\"\nservices_tmpfs = {{ \"/scratch\" = \"rw,noexec\" }}\nservices_limit = 1\n\
         services = [{{ name = \"{BUSYBOX}\", alias = \"$NAME\", command = [\"sh\", \"-c\", \"touch /scratch/x && exec httpd -f -p 8080 -h /etc\"], \
         environment = [\"HEALTHCHECK_TCP_PORT=8080\", \"GREETING=to $NAME\"] }}]"
    ));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let wait = gate("go");
    let ask = ask("web", "8080");
    let work = job([ask.as_str(), "echo begun >> /witness/script", &wait]).variable("NAME", "web");
    let id = host.gitlab.enqueue(&work);
    let too_many = work.service(late("0", "8081"));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let name = host.containers("-0").await.remove(0);
    let service = host.docker.inspect(&name).await.unwrap();
    host.open_gate("go");
    let job = host.end_of(id).await;
    let refused = host.end_of(host.gitlab.enqueue(&too_many)).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    let limits = &service["HostConfig"];
    let found = ["Memory", "MemorySwap", "MemoryReservation", "NanoCpus"].map(|key| &limits[key]);
    let mib = |count: u64| json!(count << 20);
    assert_eq!(found, [&mib(64), &mib(96), &mib(32), &json!(500_000_000)]);
    assert_eq!(limits["CpuShares"], 512);
    assert_eq!(limits["CpusetCpus"], "0");
    assert_eq!(limits["Tmpfs"], json!({"/scratch": "rw,noexec"}));
    let env = service["Config"]["Env"].to_string();
    assert!(env.contains("GREETING=to web"), "{env}");
    assert_eq!(refused.state, ServerJobState::Failed);
    JobLog::of(&refused).assert_says("too many services requested: 2, only 1 allowed");
}
