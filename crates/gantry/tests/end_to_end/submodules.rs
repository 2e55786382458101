//! Sources beyond the fetch: submodules, scripts around it, other places (job-lifecycle §4).

use gantry_testkit::{GitHttp, Repository, ServerJobState};
use rstest::rstest;
use serde_json::json;

use crate::harness::{Config, Host, job};

/// An image with git in it.
const GIT: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));

/// A project with a submodule that has one itself.
fn repository(git: &GitHttp) -> Repository {
    let inner = git
        .repository("acme/libs/inner")
        .file("inner", "of inner\n")
        .commit("one")
        .build();
    let lib = git
        .repository("acme/libs/lib")
        .file("lib", "of lib\n")
        .submodule("inner", "../inner.git", inner.sha("main"))
        .commit("one")
        .build();
    git.repository("acme/tools/widget")
        .file("README", "of widget\n")
        .submodule("deps/lib", "../../libs/lib.git", lib.sha("main"))
        .commit("one")
        .build()
}

#[rstest]
#[case::normal("normal", "no inner")]
#[case::recursive("recursive", "of inner")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submodules_are_there_and_scripts_can_fetch_in_them(
    #[case] strategy: &str,
    #[case] inner: &str,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let script = [
        "cat deps/lib/lib",
        "cat deps/lib/inner/inner 2>/dev/null || echo no inner",
        "cd deps/lib && git fetch -q origin main && echo fetched",
    ];
    let work = job(script)
        .image(GIT)
        .git(&repository(&git), "main")
        .variable("GIT_SUBMODULE_STRATEGY", strategy);
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    let recursively = if strategy == "recursive" {
        " recursively"
    } else {
        ""
    };
    log.assert_says(&format!(
        "Updating/initializing submodules{recursively} with git depth set to 20..."
    ));
    log.assert_says("Updated submodules");
    log.assert_prints("of lib");
    log.assert_prints(inner);
    log.assert_prints("fetched");
    host.assert_no_secret("the job's log", &done.log());
    // Every request had the token, and none in its address.
    let requests = git.requests();
    assert!(
        requests
            .iter()
            .any(|request| request.path.contains("lib.git"))
    );
    host.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_job_finds_the_submodules_of_the_first() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let script = [
        "cat deps/lib/inner/inner",
        "ls deps/lib/left 2>/dev/null || echo clean",
        "touch deps/lib/left",
        "printf '#!/bin/sh\\necho hooked >> /witness/hooked\\n' > /tmp/evil; chmod +x /tmp/evil",
        "mkdir -p .git/modules/deps/lib/hooks; cp /tmp/evil .git/modules/deps/lib/hooks/post-checkout",
        "git -C deps/lib config core.fsmonitor /witness/evil",
        "rm deps/lib/inner/.git; git init -q deps/lib/inner; mkdir -p deps/lib/inner/.git/hooks; cp /tmp/evil deps/lib/inner/.git/hooks/post-checkout",
        "git -C deps/lib/inner config core.fsmonitor 'echo hooked >> /witness/hooked'",
    ];
    let work = job(script)
        .image(GIT)
        .git(&repository(&git), "main")
        .variable("GIT_SUBMODULE_STRATEGY", "recursive");
    for _ in 0..2 {
        let (done, log) = host.run(&work).await;
        assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
        log.assert_prints("of inner");
        log.assert_prints("clean");
    }
    assert!(host.witnessed("hooked").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strategy_that_is_none_fails_the_job_by_its_name() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let work = job(["true"])
        .image(GIT)
        .git(&repository(&git), "main")
        .variable("GIT_SUBMODULE_STRATEGY", "all");
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Failed);
    log.assert_says("unknown GIT_SUBMODULE_STRATEGY");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_of_runner_and_job_run_around_the_fetch() {
    let config = Config::new()
        .runner("pre_get_sources_script = \"echo of runner before; ls -A | wc -l\"")
        .runner("post_get_sources_script = \"echo of runner after; cat README\"");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    let hooks = json!([
        {"name": "post_get_sources_script", "script": ["echo of job after", "pwd"]},
        {"name": "pre_get_sources_script", "script": ["echo of job before", "echo \"FROM_HOOK=hello there\" >> $GITLAB_ENV"]},
    ]);
    let work = job(["echo \"then $FROM_HOOK\""])
        .image(GIT)
        .git(&repository(&git), "main")
        .set("/hooks", hooks.clone());
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    let lines: Vec<_> = log
        .stdout
        .iter()
        .filter_map(|line| {
            if line.contains("Checking out") {
                return Some("the checkout");
            }
            (line.starts_with("of ") || line.starts_with("then ")).then_some(line.as_str())
        })
        .collect();
    assert_eq!(
        lines,
        [
            "of runner before",
            "of job before",
            "the checkout",
            "of job after",
            "of runner after",
            "of widget",
            "then hello there"
        ]
    );
    log.assert_says("$ echo of job before");

    let without = job(["echo ran"])
        .image(GIT)
        .git(&repository(&git), "main")
        .variable("GIT_STRATEGY", "none")
        .set("/hooks", hooks);
    let (done, log) = host.run(&without).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_never_says("of job before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_may_serve_the_whole_server_without_standing_in_a_url() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let widget = repository(&git);
    let other = format!("{}/acme/libs/inner.git", git.url());
    let work = job([
        &format!("cd /tmp && git clone -q {other} && cat inner/inner"),
        "git config --list | grep -c glcbt- || echo no token",
    ])
    .image(GIT)
    .git(&widget, "main")
    .variable("FF_GIT_URLS_WITHOUT_TOKENS", "true");
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("of inner");
    log.assert_prints("no token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debugging_shows_the_commands_of_every_stage_and_tells_the_server() {
    let config = Config::new();
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let git = host.git().await;
    let work = job(["echo $((20 + 22))"])
        .image(GIT)
        .git(&repository(&git), "main")
        .masked("PASSWORD", "hush-hush-hush")
        .variable("CI_DEBUG_TRACE", "true");
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    assert!(
        log.stderr
            .iter()
            .any(|line| line.trim_start_matches('+') == " echo 42"),
        "{}",
        log.text()
    );
    assert!(
        log.stderr
            .iter()
            .any(|line| line.starts_with("+ git -c ") && line.contains(" fetch origin ")),
        "{}",
        log.text()
    );
    assert!(
        log.stderr
            .iter()
            .any(|line| line == "+ export 'PASSWORD=[MASKED]'"
                || line == "+ export PASSWORD=[MASKED]")
    );
    log.assert_never_says("hush-hush-hush");

    host.configure(&config.runner("debug_trace_disabled = true"));
    let (done, log) = host.run(&work).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
    log.assert_says("CI_DEBUG_TRACE: usage is disabled on this Runner");
    assert!(!log.stderr.iter().any(|line| line.starts_with("+ ")));
}
