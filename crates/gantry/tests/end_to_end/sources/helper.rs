//! The helper container that fetches sources: its image, its user, its death.

use super::*;

#[rstest]
#[case::no_git(
    BUSYBOX,
    "there is no git in the helper image: it needs git and a shell; name another one with helper_image"
)]
#[case::entrypoint_that_does_not_run_its_command(
    "gantry.test/entrypoint-swallows:1",
    "the entrypoint of the helper image \"gantry.test/entrypoint-swallows:1\" must run the command that it is given"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_image_that_cannot_serve_is_told(#[case] image: &str, #[case] message: &str) {
    let config = Config::new().docker(&format!("helper_image = \"{image}\""));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    let (job, log) = run(&host, &on_main(&git, ["echo never"])).await;
    host.assert_nothing_left().await;
    assert_eq!(job.state, ServerJobState::Failed);
    log.assert_says(message);
    assert!(!log.prints("never"), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_image_that_a_configuration_names_is_used() {
    let config = Config::new().docker("helper_image = \"gantry.test/foreign-helper:1\"");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    let (job, log) = run(&host, &on_main(&git, ["cat README"])).await;
    host.assert_nothing_left().await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_says("Using helper image:  gantry.test/foreign-helper:1  (overridden,");
    log.assert_prints("three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_finds_its_sources_writable_whatever_its_user() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let work = job(["whoami", "echo more >> README", "touch new", "cat README"])
        .image("gantry.test/user:1")
        .git(&repository(&git), "side");
    let (job, log) = run(&host, &work).await;
    host.assert_nothing_left().await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("app");
    log.assert_prints("more");
}

/// Kills the helper of the only job.
async fn kill_helper(host: &Host) {
    let names = host.containers("-predefined").await;
    host.docker.run(&["kill", &names[0]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_is_killed_between_two_attempts_is_replaced() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    git.fail_next(1, 500);
    let work = on_main(&git, ["cat README"]).variable("GET_SOURCES_ATTEMPTS", "2");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let tries = |job: &JobRecord| job.log().contains("Retrying...");
    host.gitlab.wait_for(id, "trying again", tries).await;
    kill_helper(&host).await;
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", job.log());
    JobLog::of(&job).assert_prints("three");
}

/// A dead helper is no reason to leave a token behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_is_killed_in_its_work_is_named_and_what_it_wrote_is_cleaned_up() {
    let hook =
        "pre_get_sources_script = \"git --version; echo begun >> /witness/hook; sleep 1000\"";
    let Some(host) = Host::new(&Config::new().runner(hook)).await else {
        return;
    };
    let git = host.git().await;
    let content = "content of a file variable";
    host.secret(content);
    let work = on_main(&git, ["cat README"]).file("SETTINGS", content);
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    host.wait_witness("hook", 1).await;
    // Its first words are in the log, so it is not begun anew.
    let words = |job: &JobRecord| job.log().contains("git version");
    host.gitlab.wait_for(id, "fetching", words).await;
    kill_helper(&host).await;
    let job = host.end_of(id).await;
    let text = contents_of_kept_volumes(&host).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
    JobLog::of(&job).assert_says("the helper container was lost during get_sources");
    assert!(text.contains("/v/"), "nothing was kept: {text}");
    host.assert_no_secret("the kept volume", &text);
}
