//! `GIT_STRATEGY`, which may be another for each job of one directory (job-lifecycle §4.2), and `GIT_CHECKOUT`.

use super::*;

/// A host whose builds folder is a folder of this machine, which jobs of all strategies keep.
async fn with_one_folder() -> Option<Host> {
    let host = Host::new(&Config::new()).await?;
    let builds = host.folder().join("builds");
    std::fs::create_dir(&builds).expect("a folder");
    let (builds, witness) = (builds.display(), host.witness());
    let volumes = format!(
        "volumes = [\"{builds}:/builds\", \"{}:/witness\"]",
        witness.display()
    );
    host.configure(&Config::new().concurrent(1).docker(&volumes));
    Some(host)
}

/// Files, and what the tracked ones say; then leaves things for the next job.
const LOOK_AND_SPOIL: [&str; 4] = [
    "echo tree: $(ls -A | sort)",
    "echo README: $(cat README 2>&1 | head -n 1)",
    "echo mine > README; echo x > left; mkdir -p deep/er; echo x > deep/er/left; rm -f run",
    "echo head: $(git rev-parse --abbrev-ref HEAD 2>/dev/null)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_strategy_may_be_another_for_each_job_of_a_directory() {
    let Some(host) = with_one_folder().await else {
        return;
    };
    let git = host.git().await;
    let sha = repository(&git).sha("main")[..8].to_owned();
    let dir = format!("/builds/{}/0/acme/tools/widget", &host.short_token()[..8]);
    let strategies = ["clone", "fetch", "none", "empty", "fetch", "clone"];
    let jobs = strategies.map(|it| on_main(&git, LOOK_AND_SPOIL).variable("GIT_STRATEGY", it));
    let fetching = "Fetching changes with git depth set to 20...".to_owned();
    let fresh = "Created fresh repository.".to_owned();
    let checkout = format!("Checking out {sha} as detached HEAD (ref is main)...");
    let [no_checkout, no_submodules] = [
        "Skipping Git checkout".to_owned(),
        "Skipping Git submodules setup".to_owned(),
    ];
    let again = format!("Reinitialized existing Git repository in {dir}/.git/");
    let removing = ["Removing deep/".to_owned(), "Removing left".to_owned()];
    let cloned = [
        fetching.clone(),
        format!("Initialized empty Git repository in {dir}/.git/"),
        fresh.clone(),
        checkout.clone(),
        no_submodules.clone(),
    ];
    let [deep, left] = removing;
    let fetched = [
        fetching,
        again,
        fresh,
        checkout,
        deep,
        left,
        no_submodules.clone(),
    ];
    let none = [
        "Skipping Git repository setup".to_owned(),
        no_checkout.clone(),
        no_submodules.clone(),
    ];
    let empty = [
        "Skipping Git repository setup and creating an empty build directory".to_owned(),
        no_checkout,
        no_submodules,
    ];
    let whole = ["tree: .git README run", "README: three"];
    let spoiled = ["tree: .git README deep left", "README: mine"];
    let nothing = [
        "tree:",
        "README: cat: can't open 'README': No such file or directory",
    ];
    let expected: [(&[String], [&str; 2]); 6] = [
        (&cloned, whole),
        (&fetched, whole),
        (&none, spoiled),
        (&empty, nothing),
        (&fetched, whole),
        (&cloned, whole),
    ];
    let done = run_in_turn(&host, jobs).await;
    for ((strategy, (job, log)), (lines, printed)) in strategies.iter().zip(&done).zip(expected) {
        assert_eq!(
            job.state,
            ServerJobState::Success,
            "{strategy}:\n{}",
            log.text()
        );
        assert_eq!(told(log), lines, "{strategy}");
        for line in printed {
            log.assert_prints(line);
        }
        let head = if *strategy == "empty" {
            "head:"
        } else {
            "head: HEAD"
        };
        log.assert_prints(head);
    }
}

/// The tree of the last job stays for a job that checks nothing out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_checkout_only_the_repository_is_brought_up_to_date() {
    let Some(host) = with_one_folder().await else {
        return;
    };
    let git = host.git().await;
    let strategies = ["clone", "fetch", "none", "empty"];
    let jobs = strategies.map(|it| {
        let work = on_main(&git, LOOK_AND_SPOIL);
        work.variable("GIT_STRATEGY", it)
            .variable("GIT_CHECKOUT", "false")
    });
    let whole = on_main(&git, LOOK_AND_SPOIL);
    let [cloned, fetched, none, empty] = jobs;
    let done = run_in_turn(&host, [cloned, whole, fetched, none, empty]).await;
    let trees = [
        "tree: .git",
        "tree: .git README run",
        "tree: .git README deep left",
        "tree: .git README deep left",
        "tree:",
    ];
    for (n, ((job, log), tree)) in done.iter().zip(trees).enumerate() {
        assert_eq!(job.state, ServerJobState::Success, "{n}:\n{}", log.text());
        log.assert_prints(tree);
        assert_eq!(log.says("Skipping Git checkout"), n != 1, "{}", log.text());
        let fetches = told(log).iter().any(|line| line.starts_with("Fetching"));
        assert_eq!(fetches, n < 3, "{}", log.text());
    }
}

/// Jobs without sources have volumes of their own: what is kept for fetching is not theirs to spoil.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_jobs_that_fetch_share_the_kept_volume() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let script = ["ls left 2>/dev/null || echo nothing left", "echo x > left"];
    let strategies = ["fetch", "clone", "none", "empty", "fetch"];
    let jobs = strategies.map(|it| {
        let work = on_main(&git, script).variable("GIT_STRATEGY", it);
        work.variable("GIT_CLEAN_FLAGS", "none")
    });
    let done = run_in_turn(&host, jobs).await;
    for (n, (job, log)) in done.iter().enumerate() {
        assert_eq!(job.state, ServerJobState::Success, "{n}:\n{}", log.text());
        assert_eq!(log.prints("left"), n == 4, "{n}: {}", log.text());
        assert_eq!(log.prints("nothing left"), n != 4, "{n}: {}", log.text());
    }
}
