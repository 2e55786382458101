//! What the command line says before anything is started. None of this needs an engine.

use crate::harness::Repository;

const FILE: &str = "
stages: [build, test]
default: {image: a}
unit: {stage: test, script: x}
compile: {stage: build, script: x}
";

#[test]
fn jobs_are_listed_by_stage_for_people_and_programs() {
    let repository = Repository::new(FILE, None);
    let done = repository.exec(&["--list"]);
    assert_eq!(
        done.stdout,
        "stage  job      image  notes\nbuild  compile  a\ntest   unit     a\n"
    );
    let done = repository.exec(&["--list", "--format", "json", "unit"]);
    let jobs: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(jobs[0]["name"], "unit");
    assert_eq!(jobs.as_array().unwrap().len(), 1);
}

#[test]
fn mistakes_in_the_file_are_shown_with_their_place() {
    let repository = Repository::new("job:\n  image: a\n  scirpt: [x]\n  rules: []\n", None);
    let done = repository.exec(&["--no-color"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stdout, "");
    for part in [".gitlab-ci.yml:3:3", "scirpt", "script", "rules", "──"] {
        assert!(done.stderr.contains(part), "no {part:?} in {done:#?}");
    }
    assert!(!done.stderr.contains('\x1b'), "{done:#?}");
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let repository = Repository::new(FILE, None);
    let done = repository.exec(&["unot"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("no job `unot`"), "{done:#?}");
    assert!(done.stderr.contains("--list"), "{done:#?}");

    let done = repository.exec(&[]);
    assert_eq!(done.code, Some(1));
    let engine = "error: no container engine answers at unix:///nowhere/at/all.sock: ";
    assert!(done.stderr.starts_with(engine), "{done:#?}");
    assert!(done.stderr.contains("--docker-host"), "{done:#?}");

    let outside = tempfile::tempdir().unwrap();
    let done = repository.exec_in(outside.path(), &[]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("not in a git repository"), "{done:#?}");

    std::fs::remove_file(repository.root().join(".gitlab-ci.yml")).unwrap();
    let done = repository.exec(&[]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("there is no .gitlab-ci.yml"),
        "{done:#?}"
    );
}

#[test]
fn a_job_that_cannot_be_run_is_shown_in_its_file_before_anything_starts() {
    let Some(engine) = crate::harness::engine() else {
        return;
    };
    let file = "ok: {image: a, script: x}\n\nlate:\n  script: x\n";
    let repository = Repository::new(file, Some(&engine));
    let done = repository.exec(&["--no-color"]);
    assert_eq!(done.code, Some(1));
    for part in [
        ".gitlab-ci.yml:3:1",
        "the job `late` cannot be run: it names no image",
        "3 │ late:",
        "──",
    ] {
        assert!(done.stderr.contains(part), "no {part:?} in {done:#?}");
    }
    repository.assert_nothing_left();
}
