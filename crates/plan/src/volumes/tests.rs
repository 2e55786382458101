use gantry_job::payload::Cache;
use rstest::rstest;

use super::*;
use crate::{
    Plan,
    fixture::{Fixture, short_labels},
};

const Q: &str = "runner-tok-project-7-concurrent-0";
const R: &str = "runner-tok-project-7-concurrent-0-00010203040506ff";
const CACHE: &str = "3c3f060a0374fc8bc39395164f415a70";
const BUILDS: &str = "c33bcaa1fd2c77edfc3893b41966cea8";

fn binds(plan: &Plan) -> &[String] {
    &plan.build.spec.host.binds
}

fn created(plan: &Plan) -> Vec<(&str, &str, bool)> {
    let volumes = plan.volumes.iter();
    volumes
        .map(|volume| {
            (
                volume.spec.name.as_str(),
                volume.destination.as_str(),
                volume.temporary,
            )
        })
        .collect()
}

#[test]
fn the_reusable_name_is_that_of_the_page() {
    let fixture = Fixture::new();
    assert_eq!(
        reusable_name(&fixture.inputs(), Some(fixture.numbers.concurrent_project)),
        Q
    );
}

#[rstest]
#[case(Naming::Documented, 4)]
// The machine is part of the name too.
#[case(Naming::Compatible, 5)]
fn slots_and_projects_have_reusable_volumes_of_their_own(
    #[case] naming: Naming,
    #[case] count: usize,
) {
    let names: std::collections::BTreeSet<_> = [
        Fixture::new(),
        Fixture::new().with(|it| it.numbers.concurrent_project = 1),
        Fixture::new().with(|it| it.payload.job_info.project_id = 8),
        Fixture::new().with(|it| it.host.system_id = "other".to_owned()),
        Fixture::new().with(|it| it.runner.token = "tok2".into()),
        // Not part of it: the number of the job on the runner.
        Fixture::new().with(|it| it.numbers.concurrent = 5),
    ]
    .into_iter()
    .map(|fixture| fixture.with(|it| it.host.naming = naming))
    .map(|fixture| reusable_name(&fixture.inputs(), Some(fixture.numbers.concurrent_project)))
    .collect();
    assert_eq!(names.len(), count);
}

// docker-executor §4.4: the builds volume
#[rstest]
#[case("fetch", false, Q, false)]
#[case("fetch", true, R, true)]
#[case("clone", false, R, true)]
#[case("none", false, R, true)]
#[case("empty", false, R, true)]
fn the_builds_volume_is_kept_for_fetch_alone(
    #[case] strategy: &str,
    #[case] disable_cache: bool,
    #[case] owner: &str,
    #[case] temporary: bool,
) {
    let plan = Fixture::new()
        .variable("GIT_STRATEGY", strategy)
        .docker(|docker| docker.disable_cache = disable_cache)
        .plan();
    let name = format!("{owner}-cache-{BUILDS}");
    assert_eq!(created(&plan), [(name.as_str(), "/builds", temporary)]);
    assert_eq!(binds(&plan), [format!("{name}:/builds")]);
}

#[test]
fn without_leave_to_fetch_the_builds_volume_goes_with_the_job() {
    let plan = Fixture::new()
        .with(|it| it.payload.allow_git_fetch = false)
        .plan();
    assert_eq!(
        created(&plan),
        [(format!("{R}-cache-{BUILDS}").as_str(), "/builds", true)]
    );
}

#[test]
fn entries_stand_in_their_order_and_the_builds_volume_is_last() {
    let plan = Fixture::new()
        .volumes(&[
            "/cache",
            "/srv/a:/a:ro",
            "named:/b:rw,z",
            "/var/run/docker.sock:/var/run/docker.sock",
        ])
        .plan();
    assert_eq!(
        binds(&plan),
        [
            format!("{Q}-cache-{CACHE}:/cache"),
            "/srv/a:/a:ro".to_owned(),
            "named:/b:rw,z".to_owned(),
            "/var/run/docker.sock:/var/run/docker.sock".to_owned(),
            format!("{Q}-cache-{BUILDS}:/builds"),
        ]
    );
    let destinations: Vec<_> = plan
        .volumes
        .iter()
        .map(|volume| volume.destination.as_str())
        .collect();
    assert_eq!(destinations, ["/cache", "/builds"]);
}

#[test]
fn build_helper_and_services_have_the_same_mounts() {
    let plan = Fixture::new()
        .volumes(&["/cache", "/srv:/srv"])
        .service(crate::fixture::image("redis"))
        .plan();
    let build = binds(&plan);
    assert_eq!(plan.helper.as_ref().unwrap().spec.host.binds, build);
    assert_eq!(plan.services[0].container.spec.host.binds, build);
}

#[test]
fn every_volume_that_is_mounted_without_a_host_directory_is_created_first() {
    let plan = Fixture::new()
        .volumes(&["/cache", "/x:rw", "/srv/a:/a"])
        .plan();
    for bind in binds(&plan).iter().filter(|bind| !bind.starts_with('/')) {
        let name = bind.split(':').next().unwrap();
        assert!(
            plan.volumes.iter().any(|volume| volume.spec.name == name),
            "{name}"
        );
    }
    assert_eq!(plan.volumes.len(), 3);
}

#[test]
fn the_name_of_a_volume_is_made_from_its_path_as_written() {
    let name = |entry: &str| {
        Fixture::new().volumes(&[entry]).plan().volumes[0]
            .spec
            .name
            .clone()
    };
    assert_eq!(name("/cache"), format!("{Q}-cache-{CACHE}"));
    assert_eq!(
        name("/cache/"),
        format!("{Q}-cache-ebc0972eab4f934ddfc188c903a637ab")
    );
}

#[test]
fn only_destinations_are_expanded() {
    let plan = Fixture::new()
        .variable("FOO", "bar")
        .volumes(&["/tmp/$FOO/x", "/$FOO:/y", "/src:/${FOO}/z"])
        .plan();
    assert_eq!(plan.volumes[0].destination, "/tmp/bar/x");
    assert_eq!(binds(&plan)[1..3], ["/$FOO:/y", "/src:/bar/z"]);
}

#[test]
fn disable_cache_makes_dynamic_volumes_the_jobs_own_and_leaves_host_directories() {
    let plan = Fixture::new()
        .volumes(&["/cache", "/srv/a:/a"])
        .docker(|docker| docker.disable_cache = true)
        .plan();
    assert!(plan.volumes.iter().all(|volume| volume.temporary));
    assert_eq!(
        binds(&plan)[..2],
        [format!("{R}-cache-{CACHE}:/cache"), "/srv/a:/a".to_owned()]
    );
}

// docker-executor §4.4
#[rstest]
#[case::same_path("/builds", &["/srv/b:/builds"])]
#[case::same_path_with_slash("/builds", &["/srv/b:/builds/"])]
#[case::named("/builds", &["store:/builds"])]
#[case::parent_on_the_host("/data/builds", &["/srv/data:/data"])]
fn a_host_directory_that_holds_builds_is_not_hidden_by_a_volume(
    #[case] builds: &str,
    #[case] volumes: &[&str],
) {
    let plan = Fixture::new()
        .volumes(volumes)
        .with(|it| it.runner.builds_dir = builds.to_owned())
        .plan();
    assert_eq!(binds(&plan), volumes);
    assert!(plan.volumes.is_empty());
}

#[rstest]
#[case("clone")]
#[case("none")]
fn builds_named_in_volumes_is_kept_for_every_strategy(#[case] strategy: &str) {
    let plan = Fixture::new()
        .volumes(&["/builds"])
        .variable("GIT_STRATEGY", strategy)
        .plan();
    assert_eq!(
        created(&plan),
        [(format!("{Q}-cache-{BUILDS}").as_str(), "/builds", false)]
    );
}

#[rstest]
#[case(&["/cache", "/cache"], r#"volume for container path "/cache" is already defined"#)]
#[case(&["/a:/x", "/b:/x/"], r#"volume for container path "/x" is already defined"#)]
#[case(&["/x/y/..", "/x"], r#"volume for container path "/x" is already defined"#)]
#[case(&["/src:/dst:T"], r#"invalid volume specification: "/src:/dst:T""#)]
#[case(&[""], r#"invalid volume specification: """#)]
#[case(&["/h:/"], "adding host volume: defining absolute path: build directory needs to be a non-root path")]
#[case(&["/"], "adding cache volume: defining absolute path: build directory needs to be a non-root path")]
#[case(&["/$NOTHING"], "adding cache volume: defining absolute path: build directory needs to be a non-root path")]
fn mistakes_in_volumes_fail_the_job_once(#[case] volumes: &[&str], #[case] message: &str) {
    assert_eq!(Fixture::new().volumes(volumes).mistake(), message);
}

// docker-executor §4.3
#[rstest]
#[case::unprotected(Some(false), None, &[], false)]
#[case::protected_ref(Some(true), None, &[], true)]
#[case::old_server(None, Some("true"), &[], true)]
#[case::old_server_unprotected(None, Some("false"), &[], false)]
#[case::the_payload_wins(Some(false), Some("true"), &[], false)]
#[case::protected_key(Some(false), None, &["a", "b-protected"], true)]
#[case::unprotected_key(Some(false), None, &["b-non_protected"], false)]
#[case::key_in_the_middle(Some(false), None, &["b-protected-1"], false)]
fn protected_refs_and_keys_have_volumes_of_their_own(
    #[case] protected: Option<bool>,
    #[case] variable: Option<&str>,
    #[case] keys: &[&str],
    #[case] expected: bool,
) {
    let mut fixture = Fixture::new().volumes(&["/cache"]).with(|it| {
        it.payload.git_info.protected = protected;
        let cache = |key: &&str| Cache {
            key: (*key).to_owned(),
            ..Cache::default()
        };
        it.payload.cache = keys.iter().map(cache).collect();
    });
    if let Some(value) = variable {
        fixture = fixture.variable("CI_COMMIT_REF_PROTECTED", value);
    }
    for disable_cache in [false, true] {
        let plan = fixture
            .clone()
            .docker(|docker| docker.disable_cache = disable_cache)
            .plan();
        for volume in &plan.volumes {
            assert_eq!(volume.spec.name.ends_with("-protected"), expected);
            let label = short_labels(&volume.spec.labels)["protected"];
            assert_eq!(label, expected.to_string());
        }
    }
}

#[test]
fn labels_say_what_a_volume_is_and_only_temporary_ones_can_be_swept() {
    let plan = Fixture::new()
        .volumes(&["/cache"])
        .variable("GIT_STRATEGY", "none")
        .plan();
    let (kept, temporary) = (&plan.volumes[0], &plan.volumes[1]);
    let labels = short_labels(&kept.spec.labels);
    assert_eq!(
        (
            labels["type"],
            labels["destination"],
            labels["reusable"],
            labels["protected"]
        ),
        ("cache", "/cache", "true", "false")
    );
    assert_eq!(labels["managed"], "true");
    assert!(!labels.contains_key(STATE_LABEL));
    let labels = short_labels(&temporary.spec.labels);
    assert_eq!(
        (labels["destination"], labels["reusable"]),
        ("/builds", "false")
    );
    assert_eq!(labels[STATE_LABEL], "state0");
}

#[rstest]
#[case::kept_builds("fetch", &[], true)]
#[case::temporary_builds("none", &[], false)]
#[case::host_builds("none", &["/srv:/builds"], true)]
#[case::dynamic_builds("none", &["/builds"], true)]
#[case::dynamic_group("none", &["/builds/group"], true)]
#[case::host_temporary_directory("none", &["/srv:/builds/group/project.tmp"], true)]
#[case::dynamic_below_the_project("none", &["/builds/group/project/vendor"], false)]
#[case::dynamic_sibling("none", &["/builds/gro"], false)]
fn what_is_left_of_a_project_depends_on_its_innermost_mount(
    #[case] strategy: &str,
    #[case] volumes: &[&str],
    #[case] kept: bool,
) {
    let fixture = Fixture::new()
        .volumes(volumes)
        .variable("GIT_STRATEGY", strategy);
    let resolved = fixture.resolved();
    let volumes = plan(&fixture.inputs(), &resolved, R, &Labels::new()).unwrap();
    assert_eq!(volumes.project_is_kept, kept);
}

#[test]
fn a_temporary_builds_volume_within_a_kept_one_is_not_kept() {
    let fixture = Fixture::new()
        .volumes(&["/data"])
        .variable("GIT_STRATEGY", "none")
        .with(|it| it.runner.builds_dir = "/data/builds".to_owned());
    let volumes = plan(&fixture.inputs(), &fixture.resolved(), R, &Labels::new()).unwrap();
    assert_eq!(volumes.binds.len(), 2);
    assert!(!volumes.project_is_kept);
}

#[test]
fn a_local_run_keeps_no_builds() {
    let plan = Fixture::new()
        .with(|it| it.sources = Sources::WorkingTree)
        .plan();
    assert!(plan.volumes[0].temporary);
    assert_eq!(
        plan.make_directories,
        [
            "/builds/group",
            "/builds/group/project",
            "/builds/group/project.tmp"
        ]
    );
}

#[rstest]
#[case(
    "glrt-ABCDEFGHIJ",
    Naming::Documented,
    "runner-abcdefgh-project-7-concurrent-0"
)]
#[case("glrt-tok", Naming::Documented, Q)]
#[case("tok", Naming::Compatible, "runner-d59781f1091499afe7760f527179641e")]
fn kept_volumes_have_the_documented_names_or_those_of_the_peer(
    #[case] token: &str,
    #[case] naming: Naming,
    #[case] owner: &str,
) {
    let plan = Fixture::new()
        .with(|it| {
            it.runner.token = token.into();
            it.host.naming = naming;
        })
        .plan();
    assert_eq!(plan.volumes[0].spec.name, format!("{owner}-cache-{BUILDS}"));
}

const SHARED: &str = "runner-tok-project-7";

/// With `shared_local_cache`: the volume on which local caches lie, and no other.
#[rstest]
#[case::usual("/cache", "/builds", &["/cache"], &["/cache"])]
#[case::others_stay("/cache", "/builds", &["/data", "/cache", "/builds"], &["/cache"])]
#[case::parent("/srv/ci/cache", "/builds", &["/srv"], &["/srv"])]
#[case::innermost("/srv/ci/cache", "/builds", &["/srv", "/srv/ci"], &["/srv/ci"])]
#[case::trailing_slash("/cache", "/builds", &["/cache/"], &["/cache/"])]
#[case::folder_in_the_cache("/cache", "/builds", &["/cache", "/cache/x"], &["/cache"])]
#[case::no_volume_there("/cache", "/builds", &["/other"], &[])]
#[case::on_the_host("/cache", "/builds", &["/srv/cache:/cache"], &[])]
#[case::with_the_builds("/data/cache", "/data/builds", &["/data"], &[])]
#[case::beside_the_builds("/data/cache", "/data/builds", &["/data", "/data/builds"], &["/data"])]
fn one_volume_for_the_local_cache_of_jobs_that_run_at_once(
    #[case] cache: &str,
    #[case] builds: &str,
    #[case] volumes: &[&str],
    #[case] shared: &[&str],
    #[values(Naming::Documented, Naming::Compatible)] naming: Naming,
) {
    let plan = |setting, number| {
        Fixture::new()
            .volumes(volumes)
            .with(|it| {
                it.runner.cache_dir = cache.to_owned();
                it.runner.builds_dir = builds.to_owned();
                it.host.naming = naming;
                it.host.shared_local_cache = setting;
                it.numbers.concurrent_project = number;
            })
            .plan()
    };
    let same = |setting| {
        let (one, two) = (plan(setting, 0), plan(setting, 1));
        let pairs = one.volumes.into_iter().zip(two.volumes);
        pairs
            .filter(|(one, two)| one.spec.name == two.spec.name)
            .map(|(one, _)| one.destination)
            .collect::<Vec<_>>()
    };
    assert_eq!(same(true), shared);
    assert!(same(false).is_empty());
}

#[rstest]
#[case::unprotected(false, false, SHARED, "", false)]
#[case::protected(true, false, SHARED, "-protected", false)]
#[case::disabled(false, true, R, "", true)]
fn the_shared_volume_knows_protected_refs_and_goes_with_the_job_where_caches_are_disabled(
    #[case] protected: bool,
    #[case] disable_cache: bool,
    #[case] owner: &str,
    #[case] end: &str,
    #[case] temporary: bool,
) {
    let plan = Fixture::new()
        .volumes(&["/cache"])
        .with(|it| {
            it.host.shared_local_cache = true;
            it.payload.git_info.protected = Some(protected);
        })
        .docker(|docker| docker.disable_cache = disable_cache)
        .plan();
    let volume = &plan.volumes[0];
    let name = format!("{owner}-cache-{CACHE}{end}");
    assert_eq!((&volume.spec.name, volume.temporary), (&name, temporary));
    assert_eq!(binds(&plan)[0], format!("{name}:/cache"));
    let labels = short_labels(&volume.spec.labels);
    assert_eq!(labels["reusable"], (!temporary).to_string());
}

/// `cache_dir` in `[runners.docker]` (docker-executor §4.3).
#[rstest]
#[case::usual("/srv/ci", "fetch", false, false, Q, "", true)]
#[case::protected("/srv/ci", "fetch", true, false, Q, "-protected", true)]
#[case::shared("/srv/ci/", "fetch", false, true, SHARED, "", true)]
#[case::no_fetch("/srv/./ci", "clone", false, false, Q, "", false)]
fn a_folder_of_the_host_stands_in_for_volumes_that_are_kept(
    #[case] folder: &str,
    #[case] strategy: &str,
    #[case] protected: bool,
    #[case] shared: bool,
    #[case] owner: &str,
    #[case] end: &str,
    #[case] builds: bool,
) {
    let plan = Fixture::new()
        .volumes(&["/cache", "/srv/a:/a"])
        .variable("GIT_STRATEGY", strategy)
        .docker(|docker| docker.cache_dir = Some(folder.to_owned()))
        .with(|it| {
            it.host.shared_local_cache = shared;
            it.payload.git_info.protected = Some(protected);
        })
        .plan();
    let builds_owner = if builds {
        format!("/srv/ci/{Q}/")
    } else {
        format!("{R}-cache-")
    };
    assert_eq!(
        binds(&plan),
        [
            format!("/srv/ci/{owner}/{CACHE}{end}:/cache"),
            "/srv/a:/a".to_owned(),
            format!("{builds_owner}{BUILDS}{end}:/builds"),
        ]
    );
    assert_eq!(plan.volumes.len(), usize::from(!builds));
    let made: &[&str] = if builds {
        &["/cache", "/builds"]
    } else {
        &["/cache"]
    };
    assert_eq!(plan.folders, made);
    assert!(
        Fixture::new()
            .volumes(&["/cache"])
            .plan()
            .folders
            .is_empty()
    );
}

#[test]
fn disabled_caches_lie_in_volumes_of_the_engine_whatever_folder_there_is() {
    let plan = Fixture::new()
        .volumes(&["/cache"])
        .docker(|docker| {
            docker.cache_dir = Some("/srv/ci".to_owned());
            docker.disable_cache = true;
        })
        .plan();
    assert!(plan.folders.is_empty());
    assert_eq!(
        binds(&plan),
        [
            format!("{R}-cache-{CACHE}:/cache"),
            format!("{R}-cache-{BUILDS}:/builds")
        ]
    );
}

#[test]
fn a_folder_that_no_bind_can_name_is_told() {
    let message = Fixture::new()
        .volumes(&["/cache"])
        .docker(|docker| docker.cache_dir = Some("/srv/c:i".to_owned()))
        .mistake();
    let bind = format!("/srv/c:i/{Q}/{CACHE}:/cache");
    assert_eq!(
        message,
        format!("invalid volume specification: {bind:?} (cache_dir in [runners.docker])")
    );
}
