//! What jobs hand on: artifacts and dotenv reports to later jobs, caches to later runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Repository, engine};

/// Folder of the artifacts, which the last line names.
fn artifacts(stdout: &str) -> PathBuf {
    let line = stdout
        .lines()
        .rfind(|line| line.starts_with("Artifacts of "));
    let line = line.unwrap_or_else(|| panic!("no artifacts in {stdout}"));
    PathBuf::from(line.split_once(": /").unwrap().1)
        .iter()
        .fold(PathBuf::from("/"), |path, part| path.join(part))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn artifacts_go_to_later_stages_with_modes_and_links_and_not_to_the_working_copy() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [build, test, deploy]
default: {image: 'gantry.test/busybox:1'}
build:
  stage: build
  script:
    - mkdir -p out/deep 'with blank'
    - echo program > out/program; chmod 750 out/program
    - echo log > out/deep/a.log; echo text > out/deep/a.txt
    - ln -s program out/link
    - echo changed > tracked
    - echo .hidden > out/.hidden
    - echo x > 'with blank/f'
  artifacts:
    paths: [out/, 'with blank', '$WHAT']
    exclude: ['out/**/*.log']
    expire_in: 1 hour
test:
  stage: test
  script:
    - test \"$(stat -c %a out/program)\" = 750
    - test \"$(readlink out/link)\" = program
    - cat out/deep/a.txt 'with blank/f' out/.hidden tracked
    - test ! -e out/deep/a.log
none: {stage: test, script: ['test ! -e out'], dependencies: []}
other: {stage: test, script: ['test ! -e out'], needs: [{job: build, artifacts: false}]}
alone: {stage: test, script: ['test ! -e out'], needs: []}
still: {stage: deploy, script: [cat out/deep/a.txt]}
";
    let repository = Repository::new(
        &file.replace("default:", "variables: {WHAT: trac*}\ndefault:"),
        Some(&engine),
    );
    repository.write("tracked", "as committed\n");
    repository.commit();
    let before = repository.listing();
    let done = repository.exec(&["-v"]);
    done.assert(
        0,
        &[
            "build | out/: found 6 matching artifact files and directories",
            "build | Keeping artifacts as \"archive\"... ok",
            "test  | Downloading artifacts for build (1)...",
            "test  | Unpacking artifacts... ok",
            "test  | text\ntest  | x\ntest  | .hidden\ntest  | changed\n",
            "still | text\n",
        ],
    );
    assert_eq!(before, repository.listing());
    let folder = artifacts(&done.stdout).join("build");
    assert_eq!(read(&folder.join("out/deep/a.txt")), "text\n");
    assert!(!folder.join("out/deep/a.log").exists());
    assert_eq!(
        fs::read_link(folder.join("out/link")).unwrap(),
        Path::new("program")
    );
    let mode = fs::metadata(folder.join("out/program"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o750);
    repository.assert_nothing_left();
}

#[test]
fn dotenv_reports_become_variables_of_later_jobs_their_images_too() {
    let Some(engine) = engine() else { return };
    let file = r#"
stages: [build, test]
default: {image: 'gantry.test/busybox:1'}
variables: {V: global}
first:
  stage: build
  script:
    - echo V=first > a.env
    - echo 'ONLY="kept"' >> a.env
  artifacts: {reports: {dotenv: a.env}}
second:
  stage: build
  script:
    - echo V=second > b.env
    - echo IMAGE=gantry.test/bash:1 >> b.env
    - echo GIVEN=reported >> b.env
  artifacts: {reports: {dotenv: [b.env, none.env]}}
later:
  stage: test
  image: $IMAGE
  variables: {V: job}
  script:
    - echo "$V, $ONLY, $GIVEN"
    - test -n "$BASH_VERSION"
    - test ! -e a.env
one: {stage: test, needs: [first], script: ['echo "one $V"']}
without: {stage: test, needs: [{job: first, artifacts: false}], script: ['echo "without $V"']}
"#;
    let repository = Repository::new(file, Some(&engine));
    let done = repository.exec(&["-e", "GIVEN=run"]);
    done.assert(
        0,
        &[
            "later   | second, \"kept\", run\n",
            "one     | one first\n",
            "without | without global\n",
        ],
    );
    repository.assert_nothing_left();
}

#[test]
fn a_dotenv_report_that_is_none_fails_its_job_by_its_line() {
    let Some(engine) = engine() else { return };
    let file = "
a:
  image: gantry.test/busybox:1
  script: ['printf \"A=1\\n\\nB=2\\n\" > x.env']
  artifacts: {reports: {dotenv: x.env}}
";
    let repository = Repository::new(file, Some(&engine));
    repository.exec(&[]).assert(
        1,
        &["failed: dotenv report x.env: line 2 is empty, so none of it can be used\n"],
    );
    repository.assert_nothing_left();
}

#[test]
fn what_is_kept_of_a_failed_job_is_what_it_says_and_its_reports() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [build, test]
default: {image: 'gantry.test/busybox:1', script: [x]}
well: {stage: build, script: [&make 'echo x > f; echo y > junit.xml', exit 1], artifacts: {paths: [f]}}
badly: {stage: build, script: [*make, exit 1], artifacts: {paths: [f], when: on_failure, reports: {junit: junit.xml}}}
always: {stage: build, script: [*make, exit 1], artifacts: {paths: [f], when: always}}
fine: {stage: build, script: [*make], artifacts: {paths: [f], when: on_failure}}
nothing: {stage: build, script: [*make], artifacts: {paths: [none, 'no/**/*']}}
rescue: {stage: test, when: on_failure, script: ['echo rescued; cat f']}
never: {stage: test, script: ['echo never']}
last: {stage: .post, when: always, script: ['echo last']}
";
    let file = file.replace(", script: [x]}", "}");
    let repository = Repository::new(&file, Some(&engine));
    let done = repository.exec(&[]);
    done.assert(
        1,
        &[
            "Artifacts of badly, always: /",
            "rescue  | rescued\nrescue  | x\n",
            "last    | last\n",
            "nothing | WARNING: none: no matching files",
        ],
    );
    assert!(!done.stdout.contains("| never"), "{done:#?}");
    let folder = artifacts(&done.stdout);
    assert_eq!(read(&folder.join("badly/junit.xml")), "y\n");
    assert_eq!(read(&folder.join("badly/f")), "x\n");
    for job in ["well", "fine", "nothing"] {
        assert!(!folder.join(job).exists(), "{job}");
    }
    repository.assert_nothing_left();
}

#[test]
fn untracked_files_parallel_jobs_and_names_of_a_folder() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [build, test]
default: {image: 'gantry.test/busybox:1'}
build:
  stage: build
  parallel: {matrix: [{OS: [lin, win]}]}
  script: ['echo $OS > $OS.txt', 'echo $CI_NODE_INDEX/$CI_NODE_TOTAL >> $OS.txt', 'mkdir ign && echo i > ign/o.red']
  artifacts: {untracked: true, exclude: ['ign/**/*']}
all: {stage: test, script: ['cat lin.txt win.txt; cat mine']}
one: {stage: test, needs: [{job: build, parallel: {matrix: [{OS: win}]}}], script: ['cat win.txt; test ! -e lin.txt']}
";
    let repository = Repository::new(file, Some(&engine));
    repository.write(".gitignore", "*.red\n");
    repository.write("tracked", "x");
    repository.commit();
    repository.write("mine", "untracked before\n");
    let folder = repository.root().join("look/here");
    let done = repository.exec(&["--artifacts-dir", "look/here"]);
    done.assert(
        0,
        &[
            "all          | lin\nall          | 1/2\nall          | win\nall          | 2/2\nall          | untracked before\n",
            "one          | win\none          | 2/2\n",
        ],
    );
    assert_eq!(artifacts(&done.stdout), folder);
    assert_eq!(read(&folder.join("build: [win]/win.txt")), "win\n2/2\n");
    assert!(!folder.join("build: [win]/tracked").exists());
    // The folder is not part of the working copy, and is used again.
    let status = Command::new("git")
        .args(["status", "--porcelain"])
        .current_dir(repository.root())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "?? mine\n");
    repository
        .exec(&["--artifacts-dir", "look/here", "one"])
        .assert(0, &["`one` gets the artifacts that `build: [win]` left "]);
    repository.write("full/own", "x");
    let refused = repository.exec(&["--artifacts-dir", "full"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("did not make it"), "{refused:#?}");
    repository.assert_nothing_left();
}

#[test]
fn a_job_alone_gets_what_earlier_runs_left_until_that_is_cleared() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [build, test]
default: {image: 'gantry.test/busybox:1'}
build: {stage: build, script: ['echo $N > f; echo E=$N > e'], artifacts: {paths: [f], reports: {dotenv: e}}}
test: {stage: test, script: ['if test -e f; then cat f; else echo none; fi; echo \"E is $E\"']}
";
    let repository = Repository::new(file, Some(&engine));
    repository
        .exec(&["test"])
        .assert(0, &["test | none\ntest | E is \n"]);
    repository.exec(&["-e", "N=1", "build"]).assert(0, &[]);
    repository.exec(&["test"]).assert(
        0,
        &[
            "`test` gets the artifacts that `build` left ",
            "test | 1\ntest | E is 1\n",
        ],
    );
    repository
        .exec(&["--clear-cache"])
        .assert(0, &["Removed the artifacts of earlier runs\n"]);
    repository
        .exec(&["--clear-cache"])
        .assert(0, &["There are no caches or artifacts of earlier runs\n"]);
    repository.exec(&["test"]).assert(0, &["test | none\n"]);
    repository.assert_nothing_left();
}

#[test]
fn caches_stay_for_later_runs_by_their_keys_and_policies() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [one, two]
default: {image: 'gantry.test/busybox:1'}
save:
  stage: one
  script: ['cat dir/f || echo fresh; mkdir -p dir && echo saved-$RUN > dir/f']
  cache: {key: '$CI_COMMIT_REF_SLUG-k', paths: [dir]}
pull:
  stage: two
  script: ['cat dir/f; echo changed > dir/f']
  cache: {key: main-k, paths: [dir], policy: pull}
fall:
  stage: two
  script: ['cat dir/f']
  cache: {key: nowhere, paths: [dir], fallback_keys: [also-nowhere, main-k], policy: pull}
files:
  stage: one
  script: ['cat lib/f || echo no lib; mkdir -p lib; echo lib > lib/f']
  cache: [{key: {files: [a.lock], prefix: p}, paths: [lib]}, {key: second, paths: [other]}]
failed:
  stage: one
  allow_failure: true
  script: ['cat bad || echo no bad; echo bad > bad; exit 1']
  cache: {key: bad, paths: [bad], when: on_failure}
";
    let repository = Repository::new(file, Some(&engine));
    repository.write("a.lock", "1");
    repository.commit();
    let before = repository.listing();
    let first = repository.exec(&["-v", "-e", "RUN=1"]);
    first.assert(
        0,
        &[
            "save   | fresh\n",
            "save   | Created cache\n",
            "pull   | saved-1\n",
            "pull   | Not uploading cache main-k due to policy\n",
            "fall   | saved-1\n",
            "files  | no lib\n",
            "failed | no bad\n",
        ],
    );
    let second = repository.exec(&["-v", "-e", "RUN=2"]);
    second.assert(
        0,
        &[
            "save   | saved-1\n",
            "save   | Successfully extracted cache\n",
            "pull   | saved-2\n",
            "files  | lib\n",
            "failed | bad\n",
        ],
    );
    assert_eq!(before, repository.listing());
    repository.write("a.lock", "2");
    repository.exec(&["files"]).assert(0, &["files | no lib\n"]);
    repository.assert_nothing_left();
    repository
        .exec(&["--clear-cache"])
        .assert(0, &["Removed the caches of earlier runs\n"]);
    repository
        .exec(&["-e", "RUN=3", "save"])
        .assert(0, &["save | fresh\n"]);
    repository
        .exec(&["--clear-cache"])
        .assert(0, &["Removed the caches"]);
    assert!(repository.cache_volumes().is_empty());
}

#[test]
fn needs_start_a_job_as_soon_as_they_are_over_and_keep_going_runs_later_stages() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [build, test, deploy]
default: {image: 'gantry.test/busybox:1'}
bad: {stage: build, script: [exit 1]}
good: {stage: build, script: [echo x > f], artifacts: {paths: [f]}}
after-bad: {stage: test, script: [echo never], needs: [bad]}
after-good: {stage: test, script: ['echo runs $(cat f)'], needs: [good, {job: gone, optional: true}]}
staged: {stage: deploy, script: ['echo staged $(cat f)']}
";
    let repository = Repository::new(file, Some(&engine));
    let done = repository.exec(&[]);
    done.assert(1, &["after-good | runs x\n", "skipped: `bad` failed\n"]);
    assert!(!done.stdout.contains("| staged"), "{done:#?}");
    let done = repository.exec(&["--keep-going"]);
    done.assert(
        1,
        &[
            "staged     | staged x\n",
            "after-bad   test           -  skipped: `bad` failed\n",
        ],
    );
    assert!(!done.stdout.contains("| never"), "{done:#?}");
    repository.assert_nothing_left();
}
