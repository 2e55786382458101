//! A kept directory never fails a job that would pass in an empty one.

use super::*;

const STARTED_ANEW: &str = "The repository left by an earlier job may be damaged (";
const INDEX_IS_USELESS: &str =
    "The index left by an earlier job cannot be used. Writing all files anew...";

/// What a job finds is the commit and nothing else, and git works.
const LOOK: &str = "test \"$(cat README)\" = three && test -x run && test \"$(ls -A | sort | tr '\\n' ' ')\" = \
    '.git README run ' && test -z \"$(git status --porcelain --ignored)\" && git fsck --no-dangling --no-progress && \
    test \"$(git rev-parse HEAD)\" = \"$CI_COMMIT_SHA\" && echo all is well";

/// What jobs do to the directory, each after it has looked at it, and what the next one says of that.
const DAMAGE: [(&str, Option<&str>); 24] = [
    (": > .git/index", Some(INDEX_IS_USELESS)),
    (
        "head -c 100 .git/index > x; mv x .git/index",
        Some(INDEX_IS_USELESS),
    ),
    (
        "head -c 1000 /dev/urandom > .git/index",
        Some(INDEX_IS_USELESS),
    ),
    (
        "git update-index --skip-worktree README; echo mine > README",
        None,
    ),
    (
        "git update-index --assume-unchanged README run; rm README; echo mine > run",
        None,
    ),
    (
        "git sparse-checkout set --no-cone /run; test ! -e README",
        None,
    ),
    (
        "touch .git/index.lock .git/shallow.lock .git/HEAD.lock .git/config.lock .git/refs/heads/x.lock",
        None,
    ),
    ("echo '[[[ nonsense' > .git/config", None),
    ("rm .git/config; mkdir -p .git/config/x", None),
    (": > .git/HEAD", None),
    (
        "git checkout -q -b mine; git update-ref -d refs/remotes/origin/main; git update-ref refs/remotes/origin/main/x HEAD",
        None,
    ),
    ("git replace HEAD HEAD^", None),
    (
        "mv .git /builds/elsewhere; ln -s /builds/elsewhere .git",
        None,
    ),
    (
        "mv .git /builds/else; echo 'gitdir: /builds/else' > .git",
        None,
    ),
    ("rm -rf .git; echo mine > .git", None),
    (
        "mkdir -p .git/hooks; printf '#!/bin/sh\\necho hooked >> /witness/hooked; exit 1\\n' > .git/hooks/reference-transaction; chmod +x .git/hooks/*; cp .git/hooks/* .git/hooks/post-checkout || true",
        None,
    ),
    (
        "mkdir -p a/b; touch a/b/c; chmod 0 a/b/c a/b; chmod 500 a .; chmod 400 README .git/index",
        None,
    ),
    (
        "mkdir -p a/b; touch a/b/c; chown -R 1000:1000 README run a; chmod 700 a",
        None,
    ),
    (
        "at=$(git rev-parse HEAD | sed 's#^..#.git/objects/&/#'); rm -f $at; : > $at",
        Some(STARTED_ANEW),
    ),
    (
        "rm -f .git/objects/pack/*.pack; rm -rf .git/objects/[0-9a-f][0-9a-f]; rm README",
        None,
    ),
    (
        "printf 'garbage\\n\\n' > .git/packed-refs",
        Some(STARTED_ANEW),
    ),
    ("echo garbage > .git/shallow", Some(STARTED_ANEW)),
    (
        "rm -rf .git/objects; touch .git/objects",
        Some(STARTED_ANEW),
    ),
    (
        "echo x > .git/FETCH_HEAD.lock; rm -rf .git/refs .git/logs; rm -rf ../widget.tmp; ln -s /builds ../widget.tmp",
        None,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_job_leaves_the_next_one_finds_its_commit_and_nothing_else() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let last = ("true", None);
    let damage = DAMAGE.iter().chain([&last]);
    let jobs = damage.clone().map(|(spoil, _)| {
        // The directory may be closed, or git's own files gone.
        on_main(&git, [LOOK, spoil, "echo spoiled"])
    });
    let done = run_in_turn(&host, jobs).await;
    let before = [("nothing", None)];
    let before = before.iter().chain(DAMAGE.iter());
    for ((job, log), (spoil, says)) in done.iter().zip(before) {
        assert_eq!(
            job.state,
            ServerJobState::Success,
            "after {spoil}:\n{}",
            log.text()
        );
        log.assert_prints("all is well");
        log.assert_prints("spoiled");
        for words in [STARTED_ANEW, INDEX_IS_USELESS] {
            assert_eq!(
                log.says(words),
                *says == Some(words),
                "after {spoil}:\n{}",
                log.text()
            );
        }
    }
    assert!(host.witnessed("hooked").is_empty());
}

/// The hash of a repository may change when a project is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_may_change_its_hash() {
    let Some(host) = Host::new(&Config::new().concurrent(1)).await else {
        return;
    };
    let git = host.git().await;
    let old = repository(&git);
    let folder = old.folder().with_file_name("other.git");
    std::fs::create_dir(&folder).expect("a folder");
    let of = |arguments: &[&str]| {
        let folder = folder.display().to_string();
        let place = [
            "-C",
            &folder,
            "-c",
            "user.name=J",
            "-c",
            "user.email=j@example.com",
        ];
        on_server(&old, &[&place[..], arguments].concat())
    };
    of(&[
        "init",
        "-q",
        "--bare",
        "--object-format=sha256",
        "-b",
        "main",
        ".",
    ]);
    of(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let tree = of(&["mktree"]);
    let sha256 = of(&["commit-tree", "-m", "one", &tree]);
    of(&["update-ref", "refs/heads/main", &sha256]);
    assert_eq!(sha256.len(), 64);

    let script = [
        "git rev-parse --show-object-format HEAD",
        "git checkout -q -B mine",
    ];
    // The place of a project, whatever its address.
    let here = |work: JobBuilder| work.variable("GIT_CLONE_PATH", "$CI_BUILDS_DIR/here");
    let sha1 = || here(on_main(&git, script));
    let url = old.url().replace("widget.git", "other.git");
    let new = here(job(script).image(GIT))
        .git_at(&url, old.path(), "main", &sha256)
        .set("/git_info/repo_object_format", json!("sha256"));
    let done = run_in_turn(&host, [sha1(), new.clone(), new, sha1()]).await;
    let formats = ["sha1", "sha256", "sha256", "sha1"];
    for (n, ((job, log), format)) in done.iter().zip(formats).enumerate() {
        assert_eq!(job.state, ServerJobState::Success, "{n}:\n{}", log.text());
        log.assert_prints(format);
        let again = log.says("Reinitialized existing Git repository in ");
        assert_eq!(again, n == 2, "{}", log.text());
        log.assert_never_says(STARTED_ANEW);
    }
}
