use proptest::prelude::*;
use rstest::rstest;

use super::*;

// docker-executor §4.1
#[rstest]
#[case("/dst", None)]
#[case("/dst:rw", None)]
#[case("/src:/dst", Some("/src:/dst"))]
#[case("/src:/dst:ro", Some("/src:/dst:ro"))]
#[case("/src:/dst:ro,z", Some("/src:/dst:ro,z"))]
#[case("/src:/dst:Z", Some("/src:/dst:Z"))]
#[case("/src:/dst:ro,rslave", Some("/src:/dst:ro,rslave"))]
#[case("/src:/dst:rslave", Some("/src:/dst:rslave"))]
#[case("/src:/dst:O,Z", Some("/src:/dst:O,Z"))]
#[case("/src:/dst:rw:rslave", Some("/src:/dst:rw,rslave"))]
#[case("/src:/dst:RO:z:rshared", Some("/src:/dst:RO,z,rshared"))]
#[case("name:/dst", Some("name:/dst"))]
#[case("name:/dst:ro", Some("name:/dst:ro"))]
#[case(
    "/my host path:/container path:rw",
    Some("/my host path:/container path:rw")
)]
#[case("/src:/$CI_PROJECT_PATH/x", Some("/src:/$CI_PROJECT_PATH/x"))]
#[case("/src/:/dst/", Some("/src/:/dst/"))]
#[case(
    "/var/run/docker.sock:/var/run/docker.sock",
    Some("/var/run/docker.sock:/var/run/docker.sock")
)]
fn entries_become_cache_volumes_or_binds(#[case] text: &str, #[case] bind: Option<&str>) {
    let definition = VolumeDefinition::parse(text).unwrap();
    let destination = definition.destination.clone();
    assert_eq!(definition.bind(&destination).as_deref(), bind);
}

#[rstest]
#[case("")]
#[case(":/dst")]
#[case("/src:dst")]
#[case("/src:$V/x")]
#[case("/src:/dst:T")]
#[case("/src:/dst:unknown")]
#[case("/src:/dst:rw:something")]
#[case("/src:/dst:,rslave")]
#[case("/src:/dst:")]
#[case("/src:/dst:ro,")]
#[case("/src:/dst:rslave,ro")]
#[case("/src:/dst:ro,rw")]
#[case("/src//x:/dst")]
#[case("/src:/a//b")]
#[case("/src:/a*b")]
#[case("/src:/a\nb")]
#[case("na\"me:/dst")]
#[case("a:b:/dst")]
#[case("relative")]
#[case("c:\\src:/dst")]
fn entries_that_do_not_fit_are_refused_as_written(#[case] text: &str) {
    let error = VolumeDefinition::parse(text).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("invalid volume specification: {text:?}")
    );
}

#[test]
fn sources_are_host_directories_or_names() {
    let source = |text| VolumeDefinition::parse(text).unwrap().source;
    assert_eq!(
        source("/src:/dst"),
        Some(VolumeSource::Host("/src".to_owned()))
    );
    assert_eq!(source("/:/dst"), Some(VolumeSource::Host("/".to_owned())));
    assert_eq!(
        source("my vol:/dst"),
        Some(VolumeSource::Named("my vol".to_owned()))
    );
    assert_eq!(source("/dst"), None);
}

#[rstest]
#[case("/cache", "/cache")]
#[case("/cache/", "/cache/")]
#[case("cache", "/builds/g/p/cache")]
#[case("../cache", "/builds/g/cache")]
#[case("", "/builds/g/p")]
fn destinations_become_absolute(#[case] expanded: &str, #[case] absolute: &str) {
    let definition = VolumeDefinition::parse("/$DIR").unwrap();
    assert_eq!(
        definition
            .absolute_destination(expanded, "/builds/g/p")
            .unwrap(),
        absolute
    );
}

#[rstest]
#[case(
    "/src:/",
    "adding host volume: defining absolute path: build directory needs to be a non-root path"
)]
#[case(
    "/",
    "adding cache volume: defining absolute path: build directory needs to be a non-root path"
)]
fn the_root_directory_is_no_destination(#[case] text: &str, #[case] message: &str) {
    let definition = VolumeDefinition::parse(text).unwrap();
    for root in ["/", "//", "/.", "/a/..", "../../.."] {
        let error = definition
            .absolute_destination(root, "/builds/g/p")
            .unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_destination_may_be_defined_once() {
    let mut taken = Destinations::default();
    taken.claim("/cache").unwrap();
    taken.claim("/builds/x").unwrap();
    let error = taken.claim("/a/../cache/").unwrap_err();
    assert_eq!(
        error.to_string(),
        "volume for container path \"/a/../cache/\" is already defined"
    );
    assert!(taken.contains("/cache/") && !taken.contains("/builds"));
    assert!(taken.covers("/cache/a") && taken.covers("/builds/x") && !taken.covers("/cachey"));
}

#[rstest]
#[case("/a//b/./c/..", "/a/b")]
#[case("/../a", "/a")]
#[case("a/../..", "..")]
#[case("", ".")]
#[case("/", "/")]
fn paths_are_cleaned_as_go_does(#[case] path: &str, #[case] clean: &str) {
    assert_eq!(clean_path(path), clean);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_but_never_panics(text in any::<String>()) {
        drop(VolumeDefinition::parse(&text));
        drop(clean_path(&text));
    }

    #[test]
    fn a_bind_reads_back_as_itself(text in "(/?[a-b$]{0,3}){0,3}(:/[a-c/]{0,4}){0,2}([:,](ro|rw|O|z|Z|rslave|x)){0,3}") {
        let Ok(definition) = VolumeDefinition::parse(&text) else { return Ok(()) };
        if let Some(bind) = definition.bind(&definition.destination) {
            prop_assert_eq!(VolumeDefinition::parse(&bind).unwrap(), definition);
        }
    }

    #[test]
    fn cleaning_twice_changes_nothing(path in "[a./]{0,12}") {
        let once = clean_path(&path);
        prop_assert_eq!(clean_path(&once), once);
    }
}
