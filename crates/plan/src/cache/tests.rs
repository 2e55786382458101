use gantry_job::payload::Cache;
use rstest::rstest;

use super::*;
use crate::{
    Plan,
    fixture::{Fixture, strings},
};

fn cache(key: &str) -> Cache {
    Cache {
        key: key.to_owned(),
        paths: strings(&["vendor"]),
        ..Cache::default()
    }
}

fn with(cache: Cache) -> Fixture {
    Fixture::new().with(|it| it.payload.cache = vec![cache])
}

fn work<'a>(plan: &'a Plan, name: &str) -> Option<&'a StageWork> {
    let mut stages = plan.stages.iter();
    let stage = stages.find(|stage| stage.stage.section_name() == name)?;
    Some(&stage.work)
}

fn restored(plan: &Plan) -> &CacheRestore {
    match work(plan, "restore_cache") {
        Some(StageWork::RestoreCache(work)) => work,
        _ => panic!("no cache is restored"),
    }
}

fn saved(plan: &Plan) -> &CacheArchive {
    match work(plan, "archive_cache") {
        Some(StageWork::ArchiveCache(work)) => work,
        _ => panic!("no cache is saved"),
    }
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// Keys that are looked for, with the lines before each.
fn looked_for(entry: &RestoreEntry) -> Vec<(&str, Vec<&str>)> {
    let candidates = entry.candidates.iter();
    candidates
        .map(|one| (one.key.as_str(), texts(&one.lines)))
        .collect()
}

#[rstest]
#[case("gems", Some("gems"))]
#[case("foo/ / /", Some("foo"))]
#[case(" foo / bar ", Some(" foo / bar"))]
#[case("../a", Some("a"))]
#[case("../../evil", Some("evil"))]
#[case("a\\..\\b", Some("b"))]
#[case("...", Some("..."))]
#[case("a%2Fb", Some("a/b"))]
#[case("%2e%2E/x", Some("x"))]
#[case("a%5cb", Some("a%5cb"))]
#[case("/a//b/./c", Some("a/b/c"))]
#[case("a/..", None)]
#[case("/", None)]
#[case("", None)]
#[case("   ", None)]
#[case("a\0b", None)]
fn a_key_is_made_a_path_below_the_folder_of_caches(#[case] raw: &str, #[case] key: Option<&str>) {
    assert_eq!(sanitized(raw).as_deref(), key);
}

#[test]
fn a_key_that_had_to_be_changed_is_told_and_names_both_archives_and_objects() {
    let plan = with(cache("../../evil"))
        .with(|it| it.runner.cache.kind = "s3".to_owned())
        .plan();
    let work = restored(&plan);
    let entry = &work.request.entries[0];
    assert_eq!(
        looked_for(entry),
        [(
            "evil",
            vec!["cache key \"../../evil\" sanitized to \"evil\""]
        )]
    );
    assert_eq!(
        entry.candidates[0].file.to_str(),
        Some("/cache/group/project/evil/cache.zip")
    );
    assert_eq!(
        work.objects[0][0].object.as_deref(),
        Some("runner/tok/project/7/evil")
    );
    let saved = saved(&plan);
    assert_eq!(
        texts(&saved.request.entries[0].lines),
        ["cache key \"../../evil\" sanitized to \"evil\""]
    );
    assert_eq!(
        saved.objects[0].as_deref(),
        Some("runner/tok/project/7/evil")
    );
    assert_eq!(saved.request.entries[0].metadata["cachekey"], "evil");
}

#[test]
fn a_key_of_which_nothing_is_left_skips_the_entry_with_its_fallbacks() {
    let plan = with(Cache {
        fallback_keys: strings(&["other"]),
        ..cache("/")
    })
    .plan();
    let entry = &restored(&plan).request.entries[0];
    assert!(entry.candidates.is_empty());
    assert_eq!(
        texts(&entry.lines),
        [
            "cache key \"/\" could not be sanitized",
            "Skipping cache extraction due to empty cache key"
        ]
    );
    let entry = &saved(&plan).request.entries[0];
    assert!(entry.skip);
    assert_eq!(
        texts(&entry.lines)[1],
        "Skipping cache archiving due to empty cache key"
    );
}

#[test]
fn without_a_key_job_and_ref_are_the_key() {
    let plan = with(cache("")).plan();
    assert_eq!(
        looked_for(&restored(&plan).request.entries[0]),
        [("test/main", vec![])]
    );
}

#[test]
fn keys_fallbacks_and_policies_are_expanded() {
    let plan = with(Cache {
        fallback_keys: strings(&["$B-x", "$NOTHING"]),
        policy: "$P".to_owned(),
        ..cache("$A-gems")
    })
    .variable("A", "a")
    .variable("B", "b")
    .variable("P", "pull")
    .plan();
    assert_eq!(
        looked_for(&restored(&plan).request.entries[0]),
        [("a-gems", vec![]), ("b-x", vec![])]
    );
    let entry = &saved(&plan).request.entries[0];
    assert!(entry.skip);
    assert_eq!(
        texts(&entry.lines),
        ["Not uploading cache a-gems due to policy"]
    );
}

#[test]
fn policy_push_does_not_restore_and_saves() {
    let plan = with(Cache {
        policy: "push".to_owned(),
        ..cache("gems")
    })
    .plan();
    let entry = &restored(&plan).request.entries[0];
    assert!(entry.candidates.is_empty());
    assert_eq!(
        texts(&entry.lines),
        ["Not downloading cache gems due to policy"]
    );
    assert!(!saved(&plan).request.entries[0].skip);
}

#[test]
fn an_unknown_policy_fails_the_stage_by_name() {
    let plan = with(Cache {
        policy: "bogus".to_owned(),
        ..cache("gems")
    })
    .plan();
    let Some(StageWork::Fails(cause)) = work(&plan, "restore_cache") else {
        panic!("it does not fail");
    };
    assert_eq!(cause.message(), "unknown cache policy bogus for gems");
}

#[rstest]
#[case::used("x", &["gems", "x"], &[])]
#[case::protected("x-protected", &["gems"], &["CACHE_FALLBACK_KEY \"x-protected\" not allowed to end in \"-protected\""])]
#[case::hidden("x-protected. ", &["gems"], &["CACHE_FALLBACK_KEY \"x-protected. \" not allowed to end in \"-protected\""])]
#[case::by_escape("x-protected%2F", &["gems"], &["CACHE_FALLBACK_KEY \"x-protected%2F\" not allowed to end in \"-protected\""])]
#[case::not_protected("x-non_protected", &["gems", "x-non_protected"], &[])]
#[case::expanded_twice("$ONE", &["gems", "two"], &[])]
fn the_runners_fallback_key_comes_last_and_must_not_be_a_protected_one(
    #[case] value: &str,
    #[case] keys: &[&str],
    #[case] lines: &[&str],
) {
    let plan = with(cache("gems"))
        .variable("CACHE_FALLBACK_KEY", value)
        .variable("ONE", "$TWO")
        .variable("TWO", "two")
        .plan();
    let entry = &restored(&plan).request.entries[0];
    let found: Vec<_> = looked_for(entry).iter().map(|(key, _)| *key).collect();
    assert_eq!(found, keys);
    assert_eq!(texts(&entry.lines), lines);
}

#[rstest]
#[case("", true, false)]
#[case("on_success", true, false)]
#[case("on_failure", false, true)]
#[case("always", true, true)]
#[case("never", false, false)]
fn when_decides_which_stages_save(#[case] when: &str, #[case] well: bool, #[case] badly: bool) {
    let plan = with(Cache {
        when: when.to_owned(),
        ..cache("gems")
    })
    .plan();
    assert_eq!(work(&plan, "archive_cache").is_some(), well);
    assert_eq!(work(&plan, "archive_cache_on_failure").is_some(), badly);
    assert!(work(&plan, "restore_cache").is_some());
}

#[test]
fn caches_without_files_are_ignored_in_silence() {
    let plan = with(Cache {
        paths: Vec::new(),
        ..cache("gems")
    })
    .plan();
    assert!(work(&plan, "restore_cache").is_none());
    assert!(work(&plan, "archive_cache").is_none());
    let plan = with(Cache {
        paths: Vec::new(),
        untracked: true,
        ..cache("gems")
    })
    .plan();
    assert!(restored(&plan).request.entries[0].selection.untracked);
}

#[test]
fn hashed_names_and_plain_ones_find_each_others_archives() {
    let hash = hex(&Sha256::digest(b"gems"));
    let fixture = with(cache("gems")).with(|it| {
        it.runner.cache.kind = "s3".to_owned();
        it.runner.cache.shared = true;
        it.runner.cache.path = "ci".to_owned();
    });
    let plain = fixture.clone().plan();
    let hashed = fixture.flag("FF_HASH_CACHE_KEYS", true).plan();
    let file = |name: &str| format!("/cache/group/project/{name}/cache.zip");
    let plain_object = "ci/project/7/gems".to_owned();
    let hashed_object = format!("ci/project/7/{}/{hash}", &hash[..2]);
    for (plan, names, objects) in [
        (
            &plain,
            [file("gems"), file(&hash)],
            [&plain_object, &hashed_object],
        ),
        (
            &hashed,
            [file(&hash), file("gems")],
            [&hashed_object, &plain_object],
        ),
    ] {
        let work = restored(plan);
        let one = &work.request.entries[0].candidates[0];
        assert_eq!(one.key, "gems");
        assert_eq!(one.file.to_str(), Some(names[0].as_str()));
        assert_eq!(
            one.alternate_file.as_ref().and_then(|file| file.to_str()),
            Some(names[1].as_str())
        );
        let object = &work.objects[0][0];
        assert_eq!(object.object.as_ref(), Some(objects[0]));
        assert_eq!(object.alternate.as_ref(), Some(objects[1]));
    }
}

#[test]
fn a_hashed_key_need_not_be_a_path() {
    let plan = with(cache("../../evil"))
        .flag("FF_HASH_CACHE_KEYS", true)
        .plan();
    let entry = &restored(&plan).request.entries[0];
    assert_eq!(looked_for(entry), [("../../evil", vec![])]);
}

/// A key that no folder can be named after still names an archive; objects have more room.
#[rstest]
#[case::long_name("k".repeat(300), false, Some("k".repeat(300)))]
#[case::umlauts("ü".repeat(128), false, Some("ü".repeat(128)))]
#[case::long_path(vec!["k"; 2000].join("/"), false, None)]
#[case::archive_of_another_key("gems/cache.zip".to_owned(), false, Some("gems/cache.zip".to_owned()))]
#[case::metadata_of_another_key("metadata.json/x".to_owned(), false, Some("metadata.json/x".to_owned()))]
#[case::just_fits("k".repeat(255), true, Some("k".repeat(255)))]
#[case::fits_in_parts(vec!["k".repeat(250); 5].join("/"), true, None)]
fn a_key_that_can_be_no_folder_or_object_is_stored_by_its_hash(
    #[case] key: String,
    #[case] folder: bool,
    #[case] object: Option<String>,
) {
    let hash = hex(&Sha256::digest(key.as_bytes()));
    let fixture = with(cache(&key)).with(|it| it.runner.cache.kind = "s3".to_owned());
    let file = |name: &str| format!("/cache/group/project/{name}/cache.zip");
    let by_hash = format!("runner/tok/project/7/{}/{hash}", &hash[..2]);
    let by_key = object.map(|name| format!("runner/tok/project/7/{name}"));
    for hashed in [false, true] {
        let plan = fixture.clone().flag("FF_HASH_CACHE_KEYS", hashed).plan();
        let work = restored(&plan);
        let one = &work.request.entries[0].candidates[0];
        assert_eq!(one.key, key);
        let found = [Some(&one.file), one.alternate_file.as_ref()];
        let found = found.map(|file| file.and_then(|file| file.to_str()));
        let (key_file, hash_file) = (file(&key), file(&hash));
        let names = match (folder, hashed) {
            (true, false) => [Some(key_file.as_str()), Some(hash_file.as_str())],
            (true, true) => [Some(hash_file.as_str()), Some(key_file.as_str())],
            (false, _) => [Some(hash_file.as_str()), None],
        };
        assert_eq!(found, names);
        let entry = &saved(&plan).request.entries[0];
        assert_eq!(entry.file, one.file);
        let object = &work.objects[0][0];
        let objects = match (&by_key, hashed) {
            (Some(by_key), false) => [Some(by_key), Some(&by_hash)],
            (Some(by_key), true) => [Some(&by_hash), Some(by_key)],
            (None, _) => [Some(&by_hash), None],
        };
        assert_eq!([object.object.as_ref(), object.alternate.as_ref()], objects);
        assert_eq!(saved(&plan).objects[0].as_ref(), objects[0]);
    }
}

#[test]
fn without_a_remote_cache_nothing_is_named_there() {
    let plan = with(cache("gems")).plan();
    assert_eq!(restored(&plan).objects, [[CacheObject::default()]]);
    assert_eq!(saved(&plan).objects, [None]);
}

#[test]
fn the_settings_of_transfers_reach_the_helper() {
    let plan = with(cache("gems"))
        .with(|it| {
            it.runner.cache.kind = "gcs".to_owned();
            it.runner.cache.max_uploaded_archive_size = 5;
            it.runner.cache_dir = "/my/cache".to_owned();
        })
        .variable("CACHE_REQUEST_TIMEOUT", "3")
        .variable("RESTORE_CACHE_ATTEMPTS", "4")
        .variable("FF_CLEAN_UP_FAILED_CACHE_EXTRACT", "true")
        .plan();
    let request = &restored(&plan).request;
    assert_eq!(
        (request.timeout_seconds, request.clean_up_failed),
        (180, true)
    );
    let entry = &saved(&plan).request.entries[0];
    assert_eq!(entry.max_archive_size, 5);
    assert_eq!(
        entry.file.to_str(),
        Some("/my/cache/group/project/gems/cache.zip")
    );
    let attempts = plan
        .stages
        .iter()
        .find(|stage| stage.stage == gantry_job::Stage::RestoreCache)
        .map(|stage| stage.attempts);
    assert_eq!(attempts, Some(4));
}
