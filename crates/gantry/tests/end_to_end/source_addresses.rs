//! Where sources and submodules come from, and where they go: `clone_url`, addresses of submodules, credentials, `GIT_CLONE_PATH`
//! (job-lifecycle §4.1, §4.4, §4.6).

use gantry_testkit::{GitHttp, JobBuilder, JobRecord, Repository, ServerJobState};
use rstest::rstest;

use crate::harness::{BUSYBOX, Config, Host, JobLog, Signal, gate, job};

/// An image with git in it.
const GIT: &str = concat!("gantry-helper:", env!("CARGO_PKG_VERSION"));
/// A server that nobody can reach, as GitLab names itself.
const PUBLIC: &str = "gitlab.example.com";

async fn run(host: &Host, work: &JobBuilder) -> (JobRecord, JobLog) {
    let id = host.gitlab.enqueue(work);
    let mut runner = host.start();
    let job = host.end_of(id).await;
    runner.signal(Signal::QUIT);
    assert_eq!(runner.exit_code().await, 0);
    let log = JobLog::of(&job);
    (job, log)
}

async fn succeeds(host: &Host, work: &JobBuilder) -> (JobRecord, JobLog) {
    let (job, log) = run(host, work).await;
    assert_eq!(job.state, ServerJobState::Success, "{}", log.text());
    (job, log)
}

/// A project whose submodules are named in all ways there are; all repositories lie below `folder` of the git server.
fn many_addresses(git: &GitHttp, folder: &str, public: &str, ssh_port: &str) -> Repository {
    let library = |name: &str| {
        git.repository(&format!("{folder}acme/libs/{name}"))
            .file("name", format!("of {name}\n"))
            .commit("one")
            .build()
    };
    let nested = library("nested");
    let relative = git
        .repository(&format!("{folder}acme/libs/relative"))
        .file("name", "of relative\n")
        .submodule("nested", "../nested.git", nested.sha("main"))
        .commit("one")
        .build();
    let beside = git
        .repository(&format!("{folder}acme/tools/beside"))
        .file("name", "of beside\n")
        .commit("one")
        .build();
    let absolute = library("absolute");
    let ssh = library("ssh");
    let mut project = git
        .repository(&format!("{folder}acme/tools/widget"))
        .submodule("deps/beside", "../beside.git", beside.sha("main"))
        .submodule(
            "deps/relative",
            "../../libs/relative.git",
            relative.sha("main"),
        )
        .submodule(
            "deps/absolute",
            &format!("https://{public}/acme/libs/absolute.git"),
            absolute.sha("main"),
        )
        .submodule(
            "deps/ssh",
            &format!("ssh://git@{PUBLIC}{ssh_port}/acme/libs/ssh.git"),
            ssh.sha("main"),
        );
    if ssh_port.is_empty() {
        let scp = library("scp");
        project = project.submodule(
            "deps/scp",
            &format!("git@{PUBLIC}:acme/libs/scp.git"),
            scp.sha("main"),
        );
    }
    project.commit("one").build()
}

#[rstest]
#[case::of_another_port("", PUBLIC, "")]
#[case::with_a_folder("base/", PUBLIC, "")]
#[case::with_a_folder_and_a_port_for_ssh("base/", PUBLIC, ":2222")]
#[case::of_a_server_that_has_a_folder_itself("", "gitlab.example.com/git", "")]
#[case::where_both_have_a_folder("base/", "gitlab.example.com/git", "")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn project_and_submodules_come_from_clone_url_however_they_are_named(
    #[case] folder: &str,
    #[case] public: &str,
    #[case] ssh_port: &str,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let clone_url = format!("clone_url = \"{}/{folder}\"", git.url());
    host.configure(&Config::new().runner(&clone_url));
    let project = many_addresses(&git, folder, public, ssh_port);
    let script = [
        "cat deps/*/name deps/relative/nested/name",
        "git submodule foreach --quiet --recursive 'git fetch -q origin main && echo fetched $name'",
        "git fetch -q origin && echo fetched project",
        "git submodule deinit -q -f deps/ssh && git submodule update -q --init deps/ssh && echo again",
    ];
    let work = job(script)
        .image(GIT)
        .git_at(
            &format!("https://{public}/acme/tools/widget.git"),
            "acme/tools/widget",
            "main",
            project.sha("main"),
        )
        .variable("GIT_SUBMODULE_STRATEGY", "recursive")
        .variable("GIT_SUBMODULE_FORCE_HTTPS", "true")
        .variable("CI_SERVER_HOST", PUBLIC)
        .variable("CI_SERVER_SHELL_SSH_PORT", ssh_port.trim_start_matches(':'));
    let (done, log) = succeeds(&host, &work).await;
    let mut names = vec!["beside", "relative", "absolute", "ssh"];
    if ssh_port.is_empty() {
        names.push("scp");
    }
    for name in names {
        log.assert_prints(&format!("of {name}"));
        log.assert_prints(&format!("fetched deps/{name}"));
    }
    log.assert_prints("of nested");
    log.assert_prints("fetched nested");
    log.assert_prints("fetched project");
    log.assert_prints("again");
    let begin = format!("/{folder}acme/");
    for request in git.requests() {
        assert!(request.path.starts_with(&begin), "{request:?}");
        if let Some((user, password)) = &request.credentials {
            assert_eq!((user.as_str(), password), ("gitlab-ci-token", &done.token));
        }
    }
    host.assert_nothing_left().await;
}

/// Strategy of submodules, other variables, and lines that the job prints.
type Step<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

/// What of submodules a job asks for differs from job to job; their folder is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_ask_for_other_submodules_follow_each_other_in_one_folder() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let inner = git
        .repository("acme/libs/inner")
        .file("name", "of inner\n")
        .commit("one")
        .build();
    let library = |name: &str| {
        git.repository(&format!("acme/libs/{name}"))
            .file("name", format!("of {name}\n"))
            .commit("one")
            .file("name", format!("of {name}, later\n"))
            .submodule("inner", "../inner.git", inner.sha("main"))
            .commit("two")
            .build()
    };
    let (a, b) = (library("a"), library("b"));
    let project = git
        .repository("acme/tools/widget")
        .file("README", "of widget\n")
        .submodule("deps/a", "../../libs/a.git", a.sha("main"))
        .submodule("deps/b", "../../libs/b.git", b.sha("main"))
        .commit("one")
        .build();
    let script = [
        "for it in deps/a deps/b deps/a/inner deps/b/inner; do echo $it: $(cat $it/name 2>/dev/null || echo nothing), $(git -C $it rev-parse --show-prefix); done",
        "test -z \"$(git status --porcelain)\" && echo clean",
        "git fetch -q origin && echo fetched",
        "if [ -e deps/a/.git ]; then echo commits: $(git -C deps/a rev-list --count HEAD); fi",
    ];
    let work = |strategy: &str, settings: &[(&str, &str)]| {
        let work = job(script)
            .image(GIT)
            .git(&project, "main")
            .variable("GIT_SUBMODULE_STRATEGY", strategy);
        settings
            .iter()
            .fold(work, |work, (key, value)| work.variable(key, value))
    };
    let (of_a, of_b) = ("deps/a: of a, later,", "deps/b: of b, later,");
    let (inner_a, inner_b) = ("deps/a/inner: of inner,", "deps/b/inner: of inner,");
    let none = "none";
    let steps: [Step; 7] = [
        (
            none,
            &[],
            &["deps/a: nothing, deps/a/", "deps/b: nothing, deps/b/"],
        ),
        (
            "normal",
            &[
                ("GIT_SUBMODULE_PATHS", "deps/a"),
                ("GIT_SUBMODULE_DEPTH", "1"),
            ],
            &[
                of_a,
                "deps/b: nothing, deps/b/",
                "deps/a/inner: nothing, inner/",
                "commits: 1",
            ],
        ),
        (
            "recursive",
            &[("GIT_SUBMODULE_PATHS", ":(exclude)deps/a")],
            &[of_a, of_b, inner_b],
        ),
        ("recursive", &[], &[of_a, of_b, inner_a, inner_b]),
        (none, &[], &[]),
        (
            "normal",
            &[("GIT_SUBMODULE_UPDATE_FLAGS", "--jobs 2 --progress")],
            &[of_a, of_b],
        ),
        (
            "recursive",
            &[
                ("GIT_STRATEGY", "clone"),
                ("GIT_SUBMODULE_PATHS", "deps/a deps/b :(exclude)deps/b"),
                ("GIT_SUBMODULE_DEPTH", "0"),
            ],
            &[of_a, inner_a, "deps/b: nothing, deps/b/", "commits: 2"],
        ),
    ];
    for (strategy, settings, lines) in steps {
        let (_, log) = succeeds(&host, &work(strategy, settings)).await;
        for line in lines {
            log.assert_prints(line);
        }
        log.assert_prints("clean");
        log.assert_prints("fetched");
    }
    host.assert_nothing_left().await;
}

/// Where a job may have its sources, and what is said where it may not.
#[rstest]
#[case::below("$CI_BUILDS_DIR/x/y", Ok("/builds/x/y"))]
#[case::of_its_number(
    "$CI_BUILDS_DIR/$CI_CONCURRENT_ID/$CI_PROJECT_PATH",
    Ok("/builds/0/acme/tools/widget")
)]
#[case::the_folder_itself("$CI_BUILDS_DIR", Ok("/builds"))]
#[case::by_a_detour("$CI_BUILDS_DIR/x/../y/", Ok("/builds/y"))]
#[case::elsewhere("/etc", Err(r#"the GIT_CLONE_PATH="/etc" has to be within "/builds""#))]
#[case::above(
    "$CI_BUILDS_DIR/../etc",
    Err(r#"the GIT_CLONE_PATH="/builds/../etc" has to be within "/builds""#)
)]
#[case::relative("x/y", Err(r#"the GIT_CLONE_PATH="x/y" has to be within "/builds""#))]
#[case::of_a_name_that_begins_so(
    "/builds2/x",
    Err(r#"the GIT_CLONE_PATH="/builds2/x" has to be within "/builds""#)
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_for_sources_must_lie_in_the_builds_folder(
    #[case] path: &str,
    #[case] expected: Result<&str, &str>,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let project = widget(&git);
    let work = job(["pwd", "echo $CI_PROJECT_DIR", "cat README"])
        .image(GIT)
        .git(&project, "main")
        .variable("GIT_CLONE_PATH", path);
    let (done, log) = run(&host, &work).await;
    host.assert_nothing_left().await;
    match expected {
        Ok(folder) => {
            assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
            let twice = log.stdout.iter().filter(|line| *line == folder);
            assert_eq!(twice.count(), 2, "{}", log.text());
            log.assert_prints("of widget");
        }
        Err(message) => assert_refused(&done, &log, message),
    }
}

#[rstest]
#[case::inside("$CI_BUILDS_DIR/x")]
#[case::outside("/etc")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_may_forbid_jobs_to_choose_their_folder(#[case] path: &str) {
    let config = Config::new().more("[runners.custom_build_dir]\nenabled = false\n");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let work = job(["pwd"]).variable("GIT_CLONE_PATH", path);
    let (done, log) = run(&host, &work).await;
    host.assert_nothing_left().await;
    let message = "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature";
    assert_refused(&done, &log, message);

    // Nor does it touch jobs that choose none.
    let (_, log) = succeeds(&host, &job(["pwd"])).await;
    log.assert_prints("/builds/acme/tools/widget");
    host.assert_nothing_left().await;
}

/// A mistake of whoever wrote the pipeline: told once, before anything is made, and not tried again.
fn assert_refused(done: &JobRecord, log: &JobLog, message: &str) {
    assert_eq!(done.state, ServerJobState::Failed);
    assert_eq!(
        done.failure_reason.as_deref(),
        Some("runner_configuration_error")
    );
    let last = log.all.last().map(String::as_str);
    assert_eq!(last, Some(&*format!("ERROR: Job failed: {message}")));
    assert_eq!(log.text().matches(message).count(), 1, "{}", log.text());
    log.assert_never_says("Will be retried");
    assert!(!log.says("get_sources"), "{}", log.text());
}

/// Jobs side by side in a folder of the host get a tree of their own by their number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_jobs_in_a_folder_of_the_host_work_in_the_trees_that_they_chose() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let builds = host.folder().join("builds");
    std::fs::create_dir(&builds).expect("a folder in a temporary one");
    let volumes = format!(
        "volumes = [\"{}:/builds\", \"{}:/witness\"]",
        builds.display(),
        host.witness().display()
    );
    host.configure(&Config::new().docker(&volumes));
    let git = host.git().await;
    let project = widget(&git);
    let gate = gate("go");
    let script = [
        "pwd >> /witness/folders",
        gate.as_str(),
        "ls mark-* 2>/dev/null || echo alone",
        "touch mark-$CI_JOB_ID",
        "cat README",
    ];
    let work = job(script).image(GIT).git(&project, "main").variable(
        "GIT_CLONE_PATH",
        "$CI_BUILDS_DIR/$CI_CONCURRENT_ID/$CI_PROJECT_NAME",
    );
    let ids = [host.gitlab.enqueue(&work), host.gitlab.enqueue(&work)];
    let runner = host.start();
    host.wait_witness("folders", 2).await;
    host.open_gate("go");
    for id in ids {
        let done = host.end_of(id).await;
        let log = JobLog::of(&done);
        assert_eq!(done.state, ServerJobState::Success, "{}", log.text());
        log.assert_prints("alone");
        log.assert_prints("of widget");
    }
    host.finish(runner).await;
    let mut folders = host.witnessed("folders");
    folders.sort();
    assert_eq!(folders, ["/builds/0/widget", "/builds/1/widget"]);
    // Jobs are root in their containers; the folder's owner may not be.
    let mount = format!("{}:/b", builds.display());
    let clear = [
        "run",
        "--rm",
        "-v",
        &mount,
        BUSYBOX,
        "sh",
        "-c",
        "rm -rf /b/*",
    ];
    host.docker.run(&clear).await;
}

fn widget(git: &GitHttp) -> Repository {
    git.repository("acme/tools/widget")
        .file("README", "of widget\n")
        .commit("one")
        .build()
}

/// The token is in the environment of the job and nowhere else: git asks a helper that reads it there.
#[rstest]
#[case::for_the_project("false")]
#[case::for_the_whole_server("true")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_use_the_token_by_a_helper_and_find_it_in_no_file(#[case] whole_server: &str) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let git = host.git().await;
    let lib = git
        .repository("acme/libs/lib")
        .file("name", "of lib\n")
        .commit("one")
        .build();
    let project = git
        .repository("acme/tools/widget")
        .file("README", "of widget\n")
        .submodule("lib", "../../libs/lib.git", lib.sha("main"))
        .commit("one")
        .build();
    let script = [
        "test ! -e ~/.gitconfig && echo no settings of the user",
        "git config -f ~/.gitconfig user.name Jane; git config -f ~/.gitconfig user.email jane@example.com",
        "git config user.name",
        "git commit -q --allow-empty -m more && git push -q -f origin HEAD:refs/heads/pushed && echo pushed",
        "git fetch -q origin && git -C lib fetch -q origin && echo fetched",
        "echo url=$CI_REPOSITORY_URL | sed 's/gitlab-ci-token.*@//' | git credential fill | grep -c \"password=$CI_JOB_TOKEN\"",
        "echo url=$CI_REPOSITORY_URL | git credential approve; echo url=$CI_REPOSITORY_URL | git credential reject",
        "cat ~/.gitconfig > /witness/user",
        "{ git config --list --show-origin; git remote -v; git -C lib config --list; git -C lib remote -v; } > /witness/settings",
        "find . ../widget.tmp ~ /tmp -type f ! -path '*/objects/*' -exec cat {} + > /witness/files",
    ];
    let work = job(script)
        .image(GIT)
        .git(&project, "main")
        .variable("GIT_SUBMODULE_STRATEGY", "normal")
        .variable("FF_GIT_URLS_WITHOUT_TOKENS", whole_server);
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let (done, log) = succeeds(&host, &work).await;
        for line in ["no settings of the user", "Jane", "pushed", "fetched", "1"] {
            log.assert_prints(line);
        }
        // The index of git is no text.
        let files = std::fs::read(host.witness().join("files")).expect("what the script found");
        let files = String::from_utf8_lossy(&files);
        assert!(files.contains("of widget") && files.contains("credential"));
        host.assert_no_secret("a file of the job", &files);
        host.assert_no_secret("git", &host.witnessed("settings").join("\n"));
        assert_eq!(
            host.witnessed("user"),
            ["[user]", "\tname = Jane", "\temail = jane@example.com"]
        );
        let text = crate::sources::contents_of_kept_volumes(&host).await;
        assert!(text.contains("README"), "nothing was kept: {text}");
        assert!(!text.contains("CI_JOB_TOKEN"), "{text}");
        host.assert_no_secret("the kept volume", &text);
        tokens.push(done.token);
    }
    host.assert_nothing_left().await;
    assert_ne!(tokens[0], tokens[1]);
    let requests = git.requests();
    let pushed = |token: &String| {
        requests.iter().any(|it| {
            it.path.ends_with("/git-receive-pack")
                && it
                    .credentials
                    .as_ref()
                    .is_some_and(|(_, used)| used == token)
        })
    };
    assert!(tokens.iter().all(pushed), "{requests:?}");
    let of_the_first = |it: &gantry_testkit::git::GitRequest| {
        it.credentials
            .as_ref()
            .is_some_and(|(_, used)| *used == tokens[0])
    };
    let last = requests.iter().rposition(of_the_first);
    let second = requests.iter().position(|it| {
        it.credentials
            .as_ref()
            .is_some_and(|(_, used)| *used == tokens[1])
    });
    assert!(
        last < second,
        "the first job's token was used by the second: {requests:?}"
    );
    assert!(requests.iter().all(|it| !it.path.contains("glcbt-")));
}
