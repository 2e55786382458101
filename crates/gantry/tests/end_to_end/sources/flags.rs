//! Flags for git that jobs give, and attempts in a directory that is kept.

use super::*;

/// Three jobs of one directory: the second one finds what the first one left, by these flags.
#[rstest]
#[case::usual("", "tree: .git README run", &["Removing cache/", "Removing left"])]
#[case::nothing("none", "tree: .git README cache left run", &[])]
#[case::kept("-ffdx -e cache/", "tree: .git README cache run", &["Removing left"])]
#[case::many_blanks("  -ffdx   -e cache/\t-e left ", "tree: .git README cache left run", &[])]
#[case::quietly("-ffdxq", "tree: .git README run", &[])]
#[case::for_show("-n -dx", "tree: .git README cache left run", &["Would remove cache/", "Would remove left"])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_flags_decide_what_of_a_job_stays(
    #[case] flags: &str,
    #[case] tree: &str,
    #[case] removed: &[&str],
) {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let spoil = ["mkdir -p cache; echo x > cache/x; echo x > left; echo mine > README"];
    let look = ["echo tree: $(ls -A | sort)", "echo README: $(cat README)"];
    let with = |work: JobBuilder| work.variable("GIT_CLEAN_FLAGS", flags);
    let jobs = [with(on_main(&git, spoil)), with(on_main(&git, look))];
    let done = run_in_turn(&host, jobs).await;
    let (job, log) = &done[1];
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints(tree);
    log.assert_prints("README: three");
    let said: Vec<_> = told(log)
        .into_iter()
        .filter(|line| line.starts_with("Removing") || line.starts_with("Would"))
        .collect();
    assert_eq!(said, removed);
}

/// Words that git does not know are told with the variable they come from; those it knows and refuses it tells itself.
#[rstest]
#[case::clean(
    "GIT_CLEAN_FLAGS",
    "--nonsense",
    129,
    "git does not know what GIT_CLEAN_FLAGS says"
)]
#[case::clean_without_force("GIT_CLEAN_FLAGS", "-d", 128, "refusing to clean")]
#[case::clean_quoted("GIT_CLEAN_FLAGS", "\"-ffdx -e cache\"", 128, "refusing to clean")]
#[case::fetch(
    "GIT_FETCH_EXTRA_FLAGS",
    "--nonsense",
    129,
    "git does not know what GIT_FETCH_EXTRA_FLAGS says"
)]
#[case::fetch_value(
    "GIT_FETCH_EXTRA_FLAGS",
    "--depth=x",
    128,
    "fatal: depth x is not a positive number"
)]
#[case::fetch_quoted(
    "GIT_FETCH_EXTRA_FLAGS",
    "--depth=\"5\"",
    128,
    "fatal: depth \"5\" is not a positive number"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_that_git_refuses_are_told(
    #[case] variable: &str,
    #[case] value: &str,
    #[case] code: i32,
    #[case] says: &str,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let work = on_main(&git, ["echo never"]).raw(variable, value);
    let (job, log) = run(&host, &work).await;
    host.assert_nothing_left().await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.exit_code, Some(code.into()), "{}", log.text());
    log.assert_says(says);
    assert!(!log.prints("never"));
}

#[rstest]
#[case::none("none")]
#[case::some("--no-tags --prune --quiet --jobs 2")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetch_flags_take_the_place_of_the_usual_ones(#[case] flags: &str) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let work = on_main(&git, ["cat README"])
        .variable("GIT_FETCH_EXTRA_FLAGS", flags)
        // Only for a git that can clone a revision.
        .variable("GIT_CLONE_EXTRA_FLAGS", "--nonsense");
    let (job, log) = run(&host, &work).await;
    host.assert_nothing_left().await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    // Without --quiet git tells what it fetched.
    let tells = log.says("-> origin/main");
    assert_eq!(tells, flags == "none", "{}", log.text());
}

/// The tree is emptied whatever the flags for cleaning, and what has been fetched stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_attempt_in_a_kept_directory_begins_with_an_empty_tree() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let script = [
        "echo tree: $(ls -A | sort)",
        "echo x > left; echo mine > README; rm run; echo begun >> /witness/script",
    ];
    let work = on_main(&git, script)
        .variable("GIT_CLEAN_FLAGS", "none")
        .variable("GET_SOURCES_ATTEMPTS", "2")
        .variable("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false");
    let runner = host.start();
    let (job, log) = next(&host, &work).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());

    // Twice: git asks the server, and what fetches asks whether it is the server's fault.
    git.fail_next(2, 500);
    let (job, log) = next(&host, &work).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("tree: .git README run");
    log.assert_says("Deleting tracked and untracked files...");
    log.assert_never_says("may be damaged");
    let again = "Reinitialized existing Git repository in ";
    assert_eq!(
        log.all.iter().filter(|line| line.contains(again)).count(),
        2
    );
    let sections = log.sections();
    let order: Vec<_> = sections
        .iter()
        .filter(|name| ["get_sources", "clear_worktree"].contains(&name.as_str()))
        .collect();
    assert_eq!(order, ["get_sources", "clear_worktree", "get_sources"]);

    // A server that fails for a moment cannot be told from a repository that is damaged.
    git.fail_next(1, 500);
    let (job, log) = next(&host, &work).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("tree: .git README run");
    log.assert_says("may be damaged (git fetch exited with status 128)");
    assert!(!log.sections().iter().any(|name| name == "clear_worktree"));
    host.finish(runner).await;
}
