//! What changes on the server between two jobs of one kept directory, and how much of the history a job gets.

use super::*;

/// A job of this ref and commit whose refspecs are these.
fn at<const N: usize>(
    repository: &Repository,
    name: &str,
    sha: &str,
    refspecs: &[String],
    script: [&str; N],
) -> JobBuilder {
    job(script)
        .image(GIT)
        .git_at(repository.url(), repository.path(), name, sha)
        .set("/git_info/refspecs", json!(refspecs))
}

fn branch(name: &str) -> String {
    format!("+refs/heads/{name}:refs/remotes/origin/{name}")
}

fn pipeline(sha: &str) -> String {
    format!("+{sha}:refs/pipelines/120")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_may_be_forced_elsewhere_and_deleted_between_two_jobs() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let repository = repository(&git);
    let (main, side) = (repository.sha("main"), repository.sha("side"));
    let script = ["git rev-parse HEAD origin/main", "ls", "echo $(cat README)"];
    let of = |sha: &str, refspecs: &[String]| at(&repository, "main", sha, refspecs, script);
    let runner = host.start();
    let (job, log) = next(&host, &of(main, &[pipeline(main), branch("main")])).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());

    // Forced to a commit that is none of its own.
    let first = on_server(&repository, &["rev-parse", "main~2"]);
    let tree = format!("{side}^{{tree}}");
    let identity = ["-c", "user.name=J", "-c", "user.email=j@example.com"];
    let commit = ["commit-tree", "-p", &first, "-m", "forced", &tree];
    let forced = on_server(&repository, &[&identity[..], &commit].concat());
    on_server(&repository, &["update-ref", "refs/heads/main", &forced]);
    let (job, log) = next(&host, &of(&forced, &[pipeline(&forced), branch("main")])).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints(&forced);
    log.assert_prints("side");

    // A job of the commit before: the server keeps it for its pipeline.
    let (job, log) = next(&host, &of(main, &[pipeline(main), branch("main")])).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints(main);
    log.assert_prints("three");
    assert!(!log.prints("side"));

    // Without that, an empty directory does not get it, and says so once.
    let lost = of(main, &[branch("main")]).variable("GIT_STRATEGY", "clone");
    let (job, log) = next(&host, &lost).await;
    assert_eq!(job.state, ServerJobState::Failed, "{}", log.text());
    assert_eq!(job.exit_code, Some(128));
    let error = format!("fatal: reference is not a tree: {main}");
    assert_eq!(
        log.stderr.iter().filter(|line| **line == error).count(),
        1,
        "{}",
        log.text()
    );

    // Deleted: the error is told once, and what is kept stays.
    on_server(&repository, &["update-ref", "-d", "refs/heads/main"]);
    let (job, log) = next(&host, &of(&forced, &[pipeline(&forced), branch("main")])).await;
    assert_eq!(job.state, ServerJobState::Failed, "{}", log.text());
    assert_eq!(job.exit_code, Some(128));
    let error = "fatal: couldn't find remote ref refs/heads/main";
    assert_eq!(
        log.stderr.iter().filter(|line| *line == error).count(),
        1,
        "{}",
        log.text()
    );
    let (job, log) = next(&host, &of(&forced, &[pipeline(&forced)])).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_says("Reinitialized existing Git repository in ");
    host.finish(runner).await;
}

/// Git cannot keep `a` and `a/b` at once, and prunes nothing but what the refspecs name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_may_take_the_place_of_a_folder_of_branches_and_the_other_way_round() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let repository = repository(&git);
    let sha = repository.sha("main");
    let runner = host.start();
    for (name, next_name) in [("a", "a/b"), ("a/b", "a/b/c"), ("a/b/c", "a"), ("a", "")] {
        on_server(
            &repository,
            &["update-ref", &format!("refs/heads/{name}"), sha],
        );
        let script = ["git for-each-ref --format='%(refname)' refs/remotes"];
        let (job, log) = next(&host, &at(&repository, name, sha, &[branch(name)], script)).await;
        assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
        log.assert_prints(&format!("refs/remotes/origin/{name}"));
        log.assert_never_says("may be damaged");
        if !next_name.is_empty() {
            on_server(
                &repository,
                &["update-ref", "-d", &format!("refs/heads/{name}")],
            );
        }
    }
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_may_move_between_two_jobs() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let repository = repository(&git);
    let runner = host.start();
    for name in ["main", "side", "main"] {
        let sha = repository.sha(name);
        on_server(&repository, &["update-ref", "refs/tags/v1", sha]);
        for depth in [20, 0] {
            let refspecs = [pipeline(sha), "+refs/tags/v1:refs/tags/v1".to_owned()];
            let script = ["echo tag: $(git rev-parse v1) head: $(git rev-parse HEAD)"];
            let work = at(&repository, "v1", sha, &refspecs, script).depth(depth);
            let (job, log) = next(&host, &work).await;
            assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
            log.assert_prints(&format!("tag: {sha} head: {sha}"));
            log.assert_says("as detached HEAD (ref is v1)...");
        }
    }
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_refspecs_of_a_payload_are_fetched_and_no_others() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let repository = repository(&git);
    let (main, side) = (repository.sha("main"), repository.sha("side"));
    let mut refspecs = vec![pipeline(main), branch("main")];
    for n in 0..30 {
        on_server(
            &repository,
            &["update-ref", &format!("refs/heads/many/{n}"), side],
        );
        if n < 28 {
            refspecs.push(branch(&format!("many/{n}")));
        }
    }
    let script = [
        "echo refs: $(git for-each-ref refs/remotes | wc -l)",
        "echo side: $(git show origin/many/27:side)",
        "git rev-parse -q --verify origin/many/28 || echo not the others",
    ];
    let (job, log) = run(&host, &at(&repository, "main", main, &refspecs, script)).await;
    host.assert_nothing_left().await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    log.assert_prints("refs: 29");
    log.assert_prints("side: side");
    log.assert_prints("not the others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_depth_may_be_another_for_each_job_of_a_directory() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let script = [
        "echo commits: $(git rev-list --count HEAD) shallow: $(git rev-parse --is-shallow-repository)",
    ];
    let depths: [(i64, &str, &str); 8] = [
        (
            1,
            "Fetching changes with git depth set to 1...",
            "commits: 1 shallow: true",
        ),
        (
            20,
            "Fetching changes with git depth set to 20...",
            "commits: 3 shallow: false",
        ),
        (0, "Fetching changes...", "commits: 3 shallow: false"),
        (
            1,
            "Fetching changes with git depth set to 1...",
            "commits: 1 shallow: true",
        ),
        (
            2,
            "Fetching changes with git depth set to 2...",
            "commits: 2 shallow: true",
        ),
        (0, "Fetching changes...", "commits: 3 shallow: false"),
        // What is no depth is none.
        (-5, "Fetching changes...", "commits: 3 shallow: false"),
        (
            i64::MAX,
            "Fetching changes with git depth set to 2147483647...",
            "commits: 3 shallow: false",
        ),
    ];
    let jobs = depths.map(|(depth, _, _)| on_main(&git, script).depth(depth));
    let done = run_in_turn(&host, jobs).await;
    for ((job, log), (depth, says, prints)) in done.iter().zip(depths) {
        assert_eq!(
            job.state,
            ServerJobState::Success,
            "{depth}:\n{}",
            log.text()
        );
        assert_eq!(told(log).first(), Some(&says), "{depth}");
        log.assert_prints(prints);
    }
}
