//! `FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR` (docker-executor §7.4, §14 scenario 85).

use super::*;

/// Runs as `app`, 1000:1000.
const OTHER_USER: &str = "gantry.test/user:1";
const LOOK: &str = "stat -c '%a %u:%g %n' . README .git/HEAD \"$CI_PROJECT_DIR.tmp\"";

#[rstest]
#[case::a_user_of_the_image(OTHER_USER, &[
    "755 1000:1000 .", "644 1000:1000 README", "644 1000:1000 .git/HEAD",
    "755 1000:1000 /builds/acme/widget.tmp",
], true)]
#[case::root(BUSYBOX, &["755 0:0 .", "644 0:0 README", "644 0:0 .git/HEAD"], false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_have_the_helpers_umask_and_belong_to_the_user_of_the_image(
    #[case] image: &str,
    #[case] lines: &[&str],
    #[case] given: bool,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let repository = git
        .repository("acme/widget")
        .file("README", "read me")
        .commit("begin")
        .build();
    let work = job([LOOK, "echo more >> README; id -u"])
        .after_script(["echo after >> README; cat README"])
        .image(image)
        .git(&repository, "main")
        .file("SETTINGS", "of the job")
        .variable("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", "true");
    // Twice on the same volume: git must take a tree that is not root's.
    let ids = [&work, &work].map(|work| host.gitlab.enqueue(work));
    let runner = host.start();
    for id in ids {
        let done = host.end_of(id).await;
        assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
        let log = JobLog::of(&done);
        for line in lines {
            log.assert_prints(line);
        }
        let said = "Not using umask - FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR is set!";
        assert_eq!(
            log.runner.iter().filter(|line| line.contains(said)).count(),
            1
        );
        for dir in ["/builds/acme/widget", "/builds/acme/widget.tmp"] {
            let line = format!("Changing ownership of files at \"{dir}\" to 1000:1000");
            assert_eq!(log.says(&line), given, "{}", log.text());
        }
        log.assert_prints("after");
    }
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_flag_every_user_may_write() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let repository = git
        .repository("acme/widget")
        .file("README", "read me")
        .commit("begin")
        .build();
    let work = job([LOOK]).image(OTHER_USER).git(&repository, "main");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    log.assert_prints("777 0:0 .");
    log.assert_prints("666 0:0 README");
    log.assert_never_says("Changing ownership");
}
