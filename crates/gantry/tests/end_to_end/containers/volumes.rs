//! What outlives a job and what does not (docker-executor §4).

use super::*;

/// Runs two jobs, one after the other, and looks at what the second one finds.
async fn second_job_finds(host: &Host, look: &str) -> JobLog {
    let write = host.gitlab.enqueue(&job([
        "echo kept > /cache/file",
        "echo kept > /builds/file",
    ]));
    let runner = host.start();
    assert_eq!(host.end_of(write).await.state, ServerJobState::Success);
    // The first job's number is free only when it is removed.
    until("the first job to be removed", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    let read = host.gitlab.enqueue(&job([look]));
    let job = host.end_of(read).await;
    assert_eq!(job.state, ServerJobState::Success);
    assert_eq!(runner.count("Removed job from processing list"), 1);
    let volumes = host.kept_volumes().await;
    for volume in &volumes {
        let labels = &volume["Labels"];
        assert_eq!(labels["com.gitlab.gitlab-runner.type"], "cache");
        assert_eq!(labels["com.gitlab.gitlab-runner.managed"], "true");
    }
    host.finish(runner).await;
    JobLog::of(&job)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_volume_is_kept_for_the_next_job_and_the_builds_of_a_job_without_sources_are_not() {
    let Some(host) = Host::new(&Config::new().docker("volumes = [\"/cache\"]")).await else {
        return;
    };
    let log = second_job_finds(
        &host,
        "echo cache: $(cat /cache/file) builds: $(cat /builds/file 2>&1 | grep -c kept)",
    )
    .await;
    log.assert_prints("cache: kept builds: 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_where_the_cache_is_disabled() {
    let config = Config::new()
        .docker("volumes = [\"/cache\"]")
        .docker("disable_cache = true");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let log = second_job_finds(&host, "ls /cache | wc -l").await;
    log.assert_prints("0");
    assert!(host.kept_volumes().await.is_empty());
}

/// `cache_dir` in `[runners.docker]`: nobody but the engine makes the folders, and any user may write there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cache_volumes_can_be_folders_of_the_host() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let caches = host.folder().join("caches");
    host.configure(
        &Config::new()
            .docker("volumes = [\"/cache\"]")
            .docker("user = \"1000\"")
            .docker(&format!("cache_dir = \"{}\"", caches.display())),
    );
    let write = host.gitlab.enqueue(&job(["echo kept > /cache/file"]));
    let runner = host.start();
    let ended = host.end_of(write).await;
    let log = JobLog::of(&ended);
    assert_eq!(ended.state, ServerJobState::Success, "{}", log.text());
    let folders: Vec<_> = std::fs::read_dir(&caches)
        .expect("the engine made it")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let [folder] = &folders[..] else {
        panic!("one of the project: {folders:?}");
    };
    // The MD5 of "/cache"; the ref is protected.
    let file = folder.join("3c3f060a0374fc8bc39395164f415a70-protected/file");
    assert_eq!(
        std::fs::read_to_string(&file).ok().as_deref(),
        Some("kept\n")
    );
    until("the first job to be removed", async || {
        host.job_folders().is_empty().then_some(())
    })
    .await;
    let read = host
        .gitlab
        .enqueue(&job(["cat /cache/file; echo more > /cache/file"]));
    JobLog::of(&host.end_of(read).await).assert_prints("kept");
    assert!(host.kept_volumes().await.is_empty());
    host.finish(runner).await;
    assert_eq!(
        std::fs::read_to_string(&file).ok().as_deref(),
        Some("more\n")
    );
    std::fs::remove_dir_all(&caches).expect("nobody else uses them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_folder_as_builds_folder_gets_a_folder_per_runner_and_slot() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let builds = host.folder().join("builds");
    std::fs::create_dir(&builds).expect("a folder");
    let volumes = format!("volumes = [\"{}:/builds\"]", builds.display());
    host.configure(&Config::new().docker(&volumes));
    let work = job(["pwd", "echo x > file"]).file("SETTINGS", "a secret of the job");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let job = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(job.state, ServerJobState::Success);
    // The page: the first 8 letters of the token.
    let slot = format!("{}/0/acme/tools/widget", &host.short_token()[..8]);
    JobLog::of(&job).assert_prints(&format!("/builds/{slot}"));
    assert!(builds.join(&slot).join("file").exists());
    // File variables do not stay on the host.
    let settings = builds.join(format!("{slot}.tmp/SETTINGS"));
    assert!(!settings.exists());
}

#[rstest]
#[case::form("/a:/b:T", "invalid volume specification")]
#[case::twice(
    "/a:/x\", \"/b:/x/",
    "volume for container path \\\"/x\\\" is already defined"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_volume_fails_once_and_is_named(#[case] volumes: &str, #[case] says: &str) {
    let config = Config::new().docker(&format!("volumes = [\"{volumes}\"]"));
    let Some((_, job, log)) = run(&config, &job(["true"])).await else {
        return;
    };
    assert_eq!(job.state, ServerJobState::Failed);
    log.assert_says(&says.replace('\\', ""));
    log.assert_never_says("Will be retried");
}

/// Two jobs of one project at once must not share volumes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_at_once_have_volumes_of_their_own() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let volumes = format!(
        "volumes = [\"/cache\", \"{}:/witness\"]",
        host.witness().display()
    );
    host.configure(&Config::new().docker(&volumes));
    let gated = |name: &str| {
        let mine = format!("echo {name} > /cache/mine; echo {name} >> /witness/begun");
        let wait = gate("go");
        job([
            mine.as_str(),
            wait.as_str(),
            "echo mine: $(cat /cache/mine)",
        ])
    };
    let ids = ["a", "b"].map(|name| (name, host.gitlab.enqueue(&gated(name))));
    let runner = host.start();
    host.wait_witness("begun", 2).await;
    host.open_gate("go");
    for (name, id) in ids {
        let job = host.end_of(id).await;
        JobLog::of(&job).assert_prints(&format!("mine: {name}"));
    }
    assert_eq!(host.kept_volumes().await.len(), 2);
    host.finish(runner).await;
}

/// By a setting, the jobs of a project that run at once have one local cache; their builds and other volumes stay apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_at_once_can_share_the_local_cache() {
    let setting = Config::new().gantry("shared_local_cache = true");
    let Some(host) = Host::new(&setting).await else {
        return;
    };
    let volumes = format!(
        "volumes = [\"/cache\", \"/mine\", \"{}:/witness\"]",
        host.witness().display()
    );
    host.configure(&setting.docker(&volumes));
    let runner = host.start();
    let cache = serde_json::json!([{"key": "k", "paths": ["vendor/"], "policy": "pull-push"}]);
    let saves = |name: &str| {
        let fills = format!(
            "mkdir -p vendor; rm -f vendor/*; for i in 1 2 3; do echo {name} > vendor/$i; done"
        );
        let begun = format!("echo {name} > /mine/name; echo {name} >> /witness/begun");
        job([
            fills.as_str(),
            begun.as_str(),
            gate("go").as_str(),
            "echo mine: $(cat /mine/name)",
        ])
        .set("/cache", cache.clone())
    };
    // While this one runs, another one of the project saves a cache, and a third one finds it.
    let waits = host.gitlab.enqueue(&saves("long"));
    host.wait_witness("begun", 1).await;
    let fills = job(["mkdir vendor; echo gem > vendor/1"]).set("/cache", cache.clone());
    let first = host.end_of(host.gitlab.enqueue(&fills)).await;
    assert_eq!(first.state, ServerJobState::Success);
    let finds = job(["echo found: $(cat vendor/1)"]).set("/cache", cache.clone());
    let second = host.end_of(host.gitlab.enqueue(&finds)).await;
    JobLog::of(&second).assert_prints("found: gem");
    // Two save at once: one of them is the last.
    let other = host.gitlab.enqueue(&saves("short"));
    host.wait_witness("begun", 2).await;
    host.open_gate("go");
    for (name, id) in [("long", waits), ("short", other)] {
        let job = host.end_of(id).await;
        let log = JobLog::of(&job);
        log.assert_prints(&format!("mine: {name}"));
        log.assert_says("Created cache");
    }
    let looks =
        job(["echo found: $(cat vendor/* | sort | uniq -c | tr -s ' ')"]).set("/cache", cache);
    let last = host.end_of(host.gitlab.enqueue(&looks)).await;
    let log = JobLog::of(&last);
    assert!(
        log.prints("found: 3 long") || log.prints("found: 3 short"),
        "{}",
        log.text()
    );
    let volumes = host.kept_volumes().await;
    let at = |destination: &str| {
        let label = "com.gitlab.gitlab-runner.destination";
        let found = volumes
            .iter()
            .filter(|volume| volume["Labels"][label] == destination);
        found.count()
    };
    assert_eq!(at("/cache"), 1, "{volumes:?}");
    assert!(at("/mine") > 1, "{volumes:?}");
    host.finish(runner).await;
}
