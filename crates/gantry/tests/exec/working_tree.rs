//! Jobs work on the working tree as it is, and never on the person's own files.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::harness::{Repository, engine};

#[test]
fn changed_and_untracked_files_are_seen_ignored_ones_are_not_and_nothing_is_changed() {
    let Some(engine) = engine() else { return };
    let file = "
job:
  image: gantry.test/busybox:1
  script:
    - cat committed staged changed untracked 'sub/a file'
    - test ! -e ignored
    - test ! -e deleted
    - test -x program
    - test -f .git/HEAD
    - readlink link
    - rm committed
    - echo new > made
    - echo new > changed
    - chmod 0 untracked
";
    let repository = Repository::new(file, Some(&engine));
    for name in ["committed", "changed", "deleted", "program"] {
        repository.write(name, &format!("{name} as committed\n"));
    }
    repository.write(".gitignore", "ignored\n");
    repository.commit();
    repository.write("changed", "changed since\n");
    repository.write("untracked", "never added\n");
    repository.write("sub/a file", "in a folder\n");
    repository.write("ignored", "x");
    repository.write("staged", "added only\n");
    repository.git(&["add", "staged"]);
    let root = repository.root();
    fs::remove_file(root.join("deleted")).unwrap();
    fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("sub/a file", root.join("link")).unwrap();

    let before = repository.listing();
    let done = repository.exec(&[]);
    done.assert(
        0,
        &[
            "job | committed as committed\n",
            "job | added only\n",
            "job | changed since\n",
            "job | never added\n",
            "job | in a folder\n",
            "job | sub/a file\n",
        ],
    );
    assert_eq!(before, repository.listing());
    repository.assert_nothing_left();
}

#[test]
fn an_image_whose_user_is_not_root_can_write_everywhere_in_the_project() {
    let Some(engine) = engine() else { return };
    let file = "
job:
  image: gantry.test/user:1
  script:
    - test \"$(id -u)\" != 0
    - echo new > made
    - echo more >> sub/tracked
    - mkdir sub/folder
    - rm committed
  after_script:
    - cat made sub/tracked
";
    let repository = Repository::new(file, Some(&engine));
    repository.write("committed", "x");
    repository.write("sub/tracked", "old\n");
    repository.commit();
    repository
        .exec(&[])
        .assert(0, &["job | new\njob | old\njob | more\n"]);
    repository.assert_nothing_left();
}

#[test]
fn each_job_has_a_tree_of_its_own() {
    let Some(engine) = engine() else { return };
    let file = "
stages: [one, two]
default: {image: 'gantry.test/busybox:1'}
first: {stage: one, script: [echo x > made]}
second: {stage: two, script: [test ! -e made]}
none: {stage: two, script: ['ls -A > /tmp/files', test ! -s /tmp/files], variables: {GIT_STRATEGY: none}}
";
    let repository = Repository::new(file, Some(&engine));
    repository.exec(&[]).assert(0, &["Pipeline passed in"]);
    repository.assert_nothing_left();
}

#[test]
fn submodules_are_there_for_jobs_that_ask_for_them_and_absent_ones_are_told() {
    let Some(engine) = engine() else { return };
    let file = "
default: {image: 'gantry.test/busybox:1'}
none: {script: ['test ! -e deps/lib/name', echo empty]}
normal:
  variables: {GIT_SUBMODULE_STRATEGY: normal}
  script: [cat deps/lib/name deps/lib/new, 'test ! -e deps/absent/name', 'echo more >> deps/lib/name']
";
    let libraries = ["lib", "absent"].map(|name| {
        let library = Repository::new("", None);
        library.write("name", &format!("of {name}\n"));
        library.commit();
        library
    });
    let repository = Repository::new(file, Some(&engine));
    for (library, path) in libraries.iter().zip(["deps/lib", "deps/absent"]) {
        let url = library.root().display().to_string();
        let allowed = ["-c", "protocol.file.allow=always"];
        let add = ["submodule", "--quiet", "add", url.as_str(), path];
        repository.git(&[&allowed[..], &add].concat());
    }
    repository.commit();
    repository.git(&["submodule", "--quiet", "deinit", "--force", "deps/absent"]);
    repository.write("deps/lib/new", "untracked\n");
    let before = repository.listing();
    let done = repository.exec(&[]);
    let hint = "normal | WARNING: Submodule deps/absent is not in the working copy, so its folder is empty: \
                `git submodule update --init --recursive` gets it\n";
    done.assert(
        0,
        &[
            "none   | empty\n",
            "normal | of lib\nnormal | untracked\n",
            hint,
        ],
    );
    assert!(!done.stdout.contains("none   | WARNING"), "{}", done.stdout);
    assert_eq!(before, repository.listing());
    repository.assert_nothing_left();
}

#[test]
fn settings_of_git_for_a_server_do_not_touch_the_tree() {
    let Some(engine) = engine() else { return };
    let file = "
job:
  image: gantry.test/busybox:1
  variables:
    GIT_STRATEGY: clone
    GIT_DEPTH: 1
    GIT_CHECKOUT: 'false'
    GIT_CLEAN_FLAGS: none
    GIT_FETCH_EXTRA_FLAGS: --tags
    GIT_LFS_SKIP_SMUDGE: '1'
    GIT_CLONE_PATH: $CI_BUILDS_DIR/elsewhere
  script: [pwd, cat committed changed]
";
    let repository = Repository::new(file, Some(&engine));
    repository.write("committed", "committed\n");
    repository.write("changed", "before\n");
    repository.commit();
    repository.write("changed", "changed\n");
    repository.exec(&[]).assert(
        0,
        &[
            "job | /builds/elsewhere\njob | ",
            "job | committed\njob | changed\n",
        ],
    );
    repository.assert_nothing_left();
}
