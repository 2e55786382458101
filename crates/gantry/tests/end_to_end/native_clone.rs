//! What only a newer git does: native clones, bundles, credentials without being asked (job-lifecycle §4.5, feature flags
//! `FF_USE_GIT_NATIVE_CLONE`, `FF_USE_GIT_BUNDLE_URIS`, `FF_USE_GIT_PROACTIVE_AUTH`). `GANTRY_TEST_NEW_GIT` names a helper image with it.

use gantry_testkit::{GitHttp, JobBuilder, JobRecord, Repository, ServerJobState};
use rstest::rstest;

use crate::harness::{Config, Host, JobLog, job, skipped, until};

/// An image with git in it.
const GIT: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));

/// The helper image with a new git.
fn new_git() -> Option<String> {
    let image = std::env::var("GANTRY_TEST_NEW_GIT").unwrap_or_default();
    if image.is_empty() {
        skipped("GANTRY_TEST_NEW_GIT names no helper image with git 2.49 or newer");
        return None;
    }
    Some(image)
}

async fn host_with(image: &str) -> Option<Host> {
    Host::new(&Config::new().docker(&format!("helper_image = \"{image}\""))).await
}

fn widget(git: &GitHttp) -> Repository {
    let lib = git
        .repository("acme/libs/lib")
        .file("name", "of lib\n")
        .commit("one")
        .build();
    git.repository("acme/tools/widget")
        .file("README", "one\n")
        .submodule("lib", "../../libs/lib.git", lib.sha("main"))
        .commit("one")
        .file("README", "two\n")
        .commit("two")
        .build()
}

async fn succeeds(host: &Host, work: &JobBuilder) -> (JobRecord, JobLog) {
    let (job, log) = host.run(work).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    (job, log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_git_that_is_too_old_fetches_instead() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let work = job(["cat README"])
        .image(GIT)
        .git(&widget(&git), "main")
        .variable("GIT_STRATEGY", "clone")
        .variable("FF_USE_GIT_NATIVE_CLONE", "true");
    let (_, log) = succeeds(&host, &work).await;
    log.assert_says("Fetching changes with git depth set to 20...");
    log.assert_never_says("Git version at least");
    log.assert_prints("two");
}

/// Merge requests have refs that are no branches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ref_of_a_merge_request_is_cloned_with_its_submodules() {
    let Some(image) = new_git() else { return };
    let Some(host) = host_with(&image).await else {
        return;
    };
    let git = host.git().await;
    let project = widget(&git);
    let name = "refs/merge-requests/7/head";
    let made = std::process::Command::new("git")
        .args(["update-ref", name, project.sha("main")])
        .current_dir(project.folder())
        .status();
    assert!(made.expect("git").success());
    let script = ["git rev-parse HEAD", "cat README lib/name"];
    let work = job(script)
        .image(GIT)
        .git(&project, "main")
        .set("/git_info/ref", name.into())
        .variable("GIT_STRATEGY", "clone")
        .variable("GIT_SUBMODULE_STRATEGY", "recursive")
        .variable("FF_USE_GIT_NATIVE_CLONE", "true");
    let (_, log) = succeeds(&host, &work).await;
    log.assert_says("Git version at least \"2.49\"");
    log.assert_says(&format!(
        "Cloning repository for {name} with git depth set to 20..."
    ));
    log.assert_prints(project.sha("main"));
    log.assert_prints("two");
    log.assert_prints("of lib");
}

#[rstest]
#[case::by_a_fetch("fetch", "false")]
#[case::by_a_native_clone("clone", "true")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_may_be_sent_before_they_are_asked_for(
    #[case] strategy: &str,
    #[case] native: &str,
) {
    let Some(image) = new_git() else { return };
    let Some(host) = host_with(&image).await else {
        return;
    };
    let git = host.git().await;
    let work = job(["cat README"])
        .image(GIT)
        .git(&widget(&git), "main")
        .variable("GIT_STRATEGY", strategy)
        .variable("FF_USE_GIT_NATIVE_CLONE", native)
        .variable("FF_USE_GIT_PROACTIVE_AUTH", "true");
    let (_, log) = succeeds(&host, &work).await;
    log.assert_prints("two");
    let requests = git.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|it| it.status == 200), "{requests:?}");
}

/// The server names a bundle; git takes it by a request of its own and keeps its refs aside.
#[rstest]
#[case::of_the_whole_history("true", "0", "refs/bundles/heads/main")]
#[case::for_a_shallow_clone("true", "20", "refs/bundles/heads/main")]
#[case::unless_that_is_switched_off("false", "0", "no bundle")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_the_server_offers_is_taken(
    #[case] flag: &str,
    #[case] depth: &str,
    #[case] says: &str,
) {
    let Some(image) = new_git() else { return };
    let Some(host) = host_with(&image).await else {
        return;
    };
    let git = host.git().await;
    let project = widget(&git);
    let server = format!("gantry-test-bundles-{}", host.short_token());
    let label = format!("com.gitlab.gitlab-runner.runner.id={}", host.short_token());
    let mount = format!(
        "{}:/git/acme/tools/widget.git:ro",
        project.folder().display()
    );
    let serve = "mkdir /srv && git config --global safe.directory '*' && \
                 git -C /git/acme/tools/widget.git bundle create -q /srv/one.bundle main && \
                 git config --global uploadpack.advertiseBundleURIs true && git config --global bundle.version 1 && \
                 git config --global bundle.mode all && \
                 git config --global bundle.one.uri http://$(hostname -i):8080/one.bundle && \
                 httpd -p 8080 -h /srv && exec git daemon --base-path=/git --export-all --verbose";
    let arguments = [
        "run", "--detach", "--name", &server, "--label", &label, "--volume", &mount, &image, "sh",
        "-c", serve,
    ];
    host.docker.run(&arguments).await;
    let address = until("the address of the git server", async || {
        let found = host.docker.inspect(&server).await?;
        let address = found["NetworkSettings"]["IPAddress"].as_str()?.to_owned();
        // It is the last to start.
        let local = "git://127.0.0.1/acme/tools/widget.git";
        let ask = ["exec", &server, "git", "ls-remote", local];
        host.docker.attempt(&ask).await.ok().map(|_| address)
    })
    .await;
    let script = [
        "cat README",
        "git for-each-ref --format='%(refname)' refs/bundles | grep . || echo no bundle",
    ];
    let work = job(script)
        .image(GIT)
        .git(&project, "main")
        .set(
            "/git_info/repo_url",
            format!("git://{address}/acme/tools/widget.git").into(),
        )
        .variable("GIT_STRATEGY", "clone")
        .variable("FF_USE_GIT_NATIVE_CLONE", "true")
        .variable("FF_USE_GIT_BUNDLE_URIS", flag)
        .depth(depth.parse().expect("a number"));
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let done = host.end_of(id).await;
    host.docker.run(&["rm", "--force", &server]).await;
    host.finish(runner).await;
    let log = JobLog::of(&done);
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("two");
    log.assert_prints(says);
}
