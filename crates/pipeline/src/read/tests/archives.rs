//! `artifacts` and `cache`.

use super::*;
use crate::pipeline::{Cache, CacheKey, KeyBy, KeyFiles, Report, When};

#[test]
fn artifacts_are_read_with_all_their_keys() {
    let job = job("
a:
  script: x
  artifacts:
    name: '$CI_JOB_NAME'
    paths: [out/, '*.txt']
    exclude: ['out/**/*.o']
    untracked: true
    when: always
    expire_in: 1 week
    expose_as: files
    access: all
    public: false
    reports:
      junit: [a.xml, b.xml]
      dotenv: build.env
      coverage_report: {coverage_format: cobertura, path: c.xml}
");
    let artifacts = &job.artifacts;
    assert_eq!(artifacts.name, "$CI_JOB_NAME");
    assert_eq!(artifacts.paths, ["out/", "*.txt"]);
    assert_eq!(artifacts.exclude, ["out/**/*.o"]);
    assert!(artifacts.untracked);
    assert_eq!(artifacts.when, When::Always);
    assert_eq!(artifacts.expire_in, "1 week");
    let report = |kind: &str, paths: &[&str]| Report {
        kind: kind.to_owned(),
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    };
    assert_eq!(
        artifacts.reports,
        [
            report("junit", &["a.xml", "b.xml"]),
            report("dotenv", &["build.env"]),
            report("cobertura", &["c.xml"]),
        ]
    );
}

#[rstest]
#[case("", 1)]
#[case("artifacts: ~, ", 0)]
#[case("artifacts: {paths: [b, c]}, ", 2)]
fn artifacts_of_the_job_replace_those_of_default(#[case] own: &str, #[case] paths: usize) {
    let job = job(&format!(
        "default: {{artifacts: {{paths: [a]}}}}\na: {{{own}script: x}}"
    ));
    assert_eq!(job.artifacts.paths.len(), paths);
}

fn cache(text: &str) -> Vec<Cache> {
    job(&format!("a: {{script: x, cache: {text}}}")).cache
}

fn files(files: &[&str], by: KeyBy, prefix: &str) -> CacheKey {
    CacheKey::Files(KeyFiles {
        files: files.iter().map(|&file| file.to_owned()).collect(),
        by,
        prefix: prefix.to_owned(),
    })
}

#[rstest]
#[case::no_key("{paths: [a]}", CacheKey::default())]
#[case::null_key("{key: ~}", CacheKey::default())]
#[case::text("{key: '$CI_COMMIT_REF_SLUG'}", CacheKey::Text("$CI_COMMIT_REF_SLUG".to_owned()))]
#[case::number("{key: 7}", CacheKey::Text("7".to_owned()))]
#[case::one_file("{key: {files: [a.lock]}}", files(&["a.lock"], KeyBy::Content, ""))]
#[case::prefix("{key: {files: [a, b], prefix: p}}", files(&["a", "b"], KeyBy::Content, "p"))]
#[case::commits("{key: {files_commits: [a]}}", files(&["a"], KeyBy::Commit, ""))]
fn keys_of_caches_are(#[case] text: &str, #[case] key: CacheKey) {
    assert_eq!(cache(text)[0].key, key);
}

#[test]
fn a_cache_is_read_with_all_its_keys_and_a_list_holds_several() {
    let all = cache(
        "[{paths: [a, b], untracked: true, when: on_failure, policy: pull, fallback_keys: [k, l], unprotect: true}, {key: z}]",
    );
    let expected = Cache {
        paths: vec!["a".to_owned(), "b".to_owned()],
        untracked: true,
        when: When::OnFailure,
        policy: "pull".to_owned(),
        fallback_keys: vec!["k".to_owned(), "l".to_owned()],
        ..Cache::default()
    };
    assert_eq!((all.len(), &all[0]), (2, &expected));
    assert_eq!(cache("{policy: '$POLICY'}")[0].policy, "$POLICY");
    assert_eq!(cache("[]"), []);
}

#[rstest]
#[case("", &["g"])]
#[case("cache: [], ", &[])]
#[case("cache: {paths: [j]}, ", &["j"])]
fn a_cache_of_the_job_replaces_that_of_the_file(#[case] own: &str, #[case] paths: &[&str]) {
    for global in ["default: {cache: {paths: [g]}}", "cache: {paths: [g]}"] {
        let job = job(&format!("{global}\na: {{{own}script: x}}"));
        let found: Vec<_> = job.cache.iter().flat_map(|cache| &cache.paths).collect();
        assert_eq!(found, paths);
    }
}

#[rstest]
#[case("artifacts: [a]", &["1:27: `jobs:a:artifacts` should be a map, not a list"])]
#[case("artifacts: {paths: a}", &["1:35: `jobs:a:artifacts:paths` should be a list of texts, not text"])]
#[case("artifacts: {untracked: 1}", &["1:39: `jobs:a:artifacts:untracked` should be a boolean, not a number"])]
#[case("artifacts: {when: allways}", &["1:34: `jobs:a:artifacts:when` cannot be `allways`"])]
#[case("artifacts: {path: [a]}", &["1:28: `jobs:a:artifacts` has an unknown keyword `path`"])]
#[case("artifacts: {reports: {juint: a}}", &["1:38: `jobs:a:artifacts:reports` has an unknown keyword `juint`"])]
#[case("artifacts: {reports: {coverage_report: {path: a}}}",
    &["1:38: `jobs:a:artifacts:reports:coverage_report` has no `coverage_format`"])]
#[case("cache: a", &["1:23: `jobs:a:cache` should be a map or a list of maps, not text"])]
#[case("cache: {key: a/b}", &["1:29: `jobs:a:cache:key` holds a `/`, which no key may"])]
#[case("cache: {key: 'a%2Fb'}", &["1:29: `jobs:a:cache:key` holds a `/`, which no key may"])]
#[case("cache: {key: ..}", &["1:29: `jobs:a:cache:key` is of dots alone, which no key may be"])]
#[case("cache: {key: {files: [a, b, c]}}", &["1:37: `jobs:a:cache:key:files` has 3 files, more than the 2 that GitLab allows"])]
#[case("cache: {key: {prefix: a}}", &["1:29: `jobs:a:cache:key` has no `files`"])]
#[case("cache: {policy: push-pull}", &["1:32: `jobs:a:cache:policy` cannot be `push-pull`"])]
#[case("cache: {fallback_keys: [a, b, c, d, e, f]}",
    &["1:39: `jobs:a:cache:fallback_keys` has 6 keys, more than the 5 that GitLab allows"])]
#[case("cache: [{}, {}, {}, {}, {}]", &["1:23: `jobs:a:cache` has 5 caches, more than the 4 that GitLab allows"])]
fn what_gitlab_refuses_is_refused_with_its_place(#[case] own: &str, #[case] expected: &[&str]) {
    assert_eq!(problems(&format!("a: {{script: x, {own}}}")), expected);
}
