//! The commands of the peer's helper, called in containers (cli §2).

use gantry_testkit::ServerJobState;
use rstest::rstest;

use crate::harness::{Config, Host, job};

/// An image with git in it; also the helper image.
const GIT: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));

/// By its name and by its path, in a helper image that has no program of that name and in one that was made by others.
#[rstest]
#[case::the_usual_image("")]
#[case::another_image("helper_image = \"gantry.test/foreign-helper:1\"")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_around_the_sources_find_the_helper_by_the_name_of_the_peer_s(#[case] image: &str) {
    let hook = [
        "gitlab-runner-helper --version",
        "cd /tmp && mkdir -p kept && echo content > kept/file",
        "/usr/bin/gitlab-runner-helper --log-level warn cache-archiver --file c.zip --path kept",
        "rm -r kept",
        "gitlab-runner-helper cache-extractor -file=c.zip && cat kept/file",
        "gitlab-runner-helper cache-init kept && stat -c 'mode %a' kept",
        "gitlab-runner-helper proxy-exec echo run by proxy",
        "gitlab-runner-helper nothing || echo exit code $?",
    ];
    let config = Config::new()
        .runner(&format!("pre_get_sources_script = {:?}", hook.join("\n")))
        .docker(image);
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    let repository = git
        .repository("acme/widget")
        .file("README", "of widget\n")
        .commit("one")
        .build();
    let work = job(["cat README"]).image(GIT).git(&repository, "main");
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_says("(compatible with GitLab Runner ");
    log.assert_says("FATAL: Command nothing not found.");
    for line in ["content", "mode 777", "run by proxy", "exit code 1"] {
        log.assert_prints(line);
    }
    // The level that was asked for leaves it out.
    log.assert_never_says("kept: found");
}
