use rstest::rstest;

use super::*;
use crate::fixture::Fixture;

fn project(fixture: &Fixture) -> String {
    fixture.resolved().directories.project
}

#[rstest]
#[case::plain("https://gitlab.example.com/group/project.git", "group/project")]
#[case::with_credentials("https://u:p@h/group/project.git", "group/project")]
#[case::with_port("https://h:8443/group/project.git", "group/project")]
#[case::without_suffix("https://h/group/project", "group/project")]
#[case::subgroups("https://h/a/b/c/d.git", "a/b/c/d")]
#[case::under_a_relative_root("https://h/gitlab/group/project.git", "gitlab/group/project")]
#[case::ssh("ssh://git@h:2222/group/project.git", "group/project")]
#[case::query_and_fragment("https://h/group/project.git?a=/b#/c", "group/project")]
#[case::suffix_once("https://h/group/x.git.git", "group/x.git")]
#[case::doubled_slashes("https://h//group///project.git", "group/project")]
#[case::dots_inside("https://h/group/./x/../project.git", "group/project")]
#[case::dots_above("https://h/../../project.git", "project")]
#[case::decoded("https://h/group/a%20b.git", "group/a b")]
#[case::slash_after_suffix("https://h/group/project.git/", "group/project.git")]
fn the_slug_is_the_path_of_the_repository(#[case] url: &str, #[case] slug: &str) {
    let fixture = Fixture::new().with(|it| it.payload.git_info.repo_url = url.into());
    assert_eq!(project(&fixture), format!("/builds/{slug}"));
}

#[rstest]
#[case::nothing("")]
#[case::no_path("https://gitlab.example.com")]
#[case::only_a_slash("https://gitlab.example.com/")]
#[case::only_the_suffix("https://gitlab.example.com/.git")]
#[case::no_host("https:///group/project.git")]
#[case::no_url("git@gitlab.example.com:group/project.git")]
#[case::dots_in_a_name("https://h/group/a..b.git")]
#[case::encoded_dots("https://h/group/%2e%2ex.git")]
#[case::bad_encoding("https://h/group/%zz.git")]
#[case::not_utf8("https://h/group/%ff.git")]
#[case::control_character("https://h/group/a%0ab.git")]
fn a_repository_without_usable_path_is_named_by_its_project(#[case] url: &str) {
    let fixture = Fixture::new().with(|it| it.payload.git_info.repo_url = url.into());
    assert_eq!(project(&fixture), "/builds/project-7");
}

// docker-executor §4.4
#[rstest]
#[case::no_volumes("/builds", &[], false)]
#[case::cache_only("/builds", &["/cache"], false)]
#[case::dynamic_builds("/builds", &["/builds"], false)]
#[case::host_builds("/builds", &["/srv/builds:/builds"], true)]
#[case::host_builds_with_slash("/builds", &["/srv/builds:/builds/"], true)]
#[case::host_builds_for_reading("/builds", &["/srv/builds:/builds:ro"], true)]
#[case::named_builds("/builds", &["store:/builds"], true)]
#[case::second_entry("/builds", &["/cache", "/srv/builds:/builds"], true)]
#[case::host_parent("/data/builds", &["/srv/data:/data"], true)]
#[case::host_sibling("/builds", &["/srv/b:/builds2"], false)]
#[case::host_child("/builds", &["/srv/b:/builds/group"], false)]
fn builds_on_a_host_directory_are_told_apart_by_runner_and_slot(
    #[case] builds: &str,
    #[case] volumes: &[&str],
    #[case] shared: bool,
) {
    let fixture = Fixture::new().volumes(volumes).with(|it| {
        it.runner.token = "glrt-t1_abcdefghijkl".into();
        it.runner.builds_dir = builds.to_owned();
        it.numbers.concurrent_project = 3;
    });
    let expected = if shared {
        format!("{builds}/abcdefgh/3/group/project")
    } else {
        format!("{builds}/group/project")
    };
    assert_eq!(project(&fixture), expected);
}

#[rstest]
#[case("fetch", "/builds/group/project")]
#[case("clone", "/builds/group/project")]
#[case("none", "/builds/group/project")]
#[case("empty", "/builds/group/project-empty")]
fn only_the_empty_strategy_has_a_directory_of_its_own(#[case] strategy: &str, #[case] dir: &str) {
    let fixture = Fixture::new().variable("GIT_STRATEGY", strategy);
    let directories = fixture.resolved().directories;
    assert_eq!(directories.project, dir);
    assert_eq!(directories.temporary, format!("{dir}.tmp"));
    assert_eq!(directories.cache, "/cache");
}

#[test]
fn the_project_directory_is_cleaned_and_ci_builds_dir_is_as_written() {
    let fixture = Fixture::new().with(|it| it.runner.builds_dir = "/a//b/../builds/".to_owned());
    let resolved = fixture.resolved();
    assert_eq!(resolved.directories.project, "/a/builds/group/project");
    assert_eq!(resolved.directories.builds, "/a//b/../builds/");
    assert_eq!(
        resolved.variables.value("CI_BUILDS_DIR"),
        "/a//b/../builds/"
    );
    assert_eq!(
        resolved.variables.value("CI_PROJECT_DIR"),
        "/a/builds/group/project"
    );
}

#[rstest]
#[case("/builds/x/y", "/builds/x/y")]
#[case("$CI_BUILDS_DIR/$CI_CONCURRENT_ID/x", "/builds/0/x")]
#[case("/builds/a/../b/", "/builds/b")]
#[case("/builds", "/builds")]
#[case("/builds/..x", "/builds/..x")]
fn git_clone_path_names_the_directory(#[case] path: &str, #[case] dir: &str) {
    for strategy in ["fetch", "empty"] {
        let fixture = Fixture::new()
            .variable("GIT_CLONE_PATH", path)
            .variable("GIT_STRATEGY", strategy);
        assert_eq!(project(&fixture), dir);
    }
}

#[rstest]
#[case("/etc", r#"the GIT_CLONE_PATH="/etc" has to be within "/builds""#)]
#[case(
    "/builds/../etc",
    r#"the GIT_CLONE_PATH="/builds/../etc" has to be within "/builds""#
)]
#[case(
    "/builds2/x",
    r#"the GIT_CLONE_PATH="/builds2/x" has to be within "/builds""#
)]
#[case("x/y", r#"the GIT_CLONE_PATH="x/y" has to be within "/builds""#)]
fn git_clone_path_outside_of_builds_dir_is_refused(#[case] path: &str, #[case] message: &str) {
    assert_eq!(
        Fixture::new().variable("GIT_CLONE_PATH", path).mistake(),
        message
    );
}

#[test]
fn git_clone_path_is_expanded_once() {
    let fixture = Fixture::new()
        .variable("GIT_CLONE_PATH", "$WHERE")
        .variable("WHERE", "$CI_BUILDS_DIR/x");
    assert_eq!(
        fixture.mistake(),
        r#"the GIT_CLONE_PATH="$CI_BUILDS_DIR/x" has to be within "/builds""#
    );
}

#[test]
fn git_clone_path_needs_the_runners_leave() {
    let fixture = Fixture::new()
        .variable("GIT_CLONE_PATH", "/builds/x")
        .with(|it| it.runner.custom_build_dir.enabled = Some(false));
    assert_eq!(
        fixture.mistake(),
        "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature"
    );
}

#[rstest]
#[case("builds", "build directory needs to be an absolute path")]
#[case("/", "build directory needs to be a non-root path")]
#[case("/x/..", "build directory needs to be a non-root path")]
fn builds_dir_must_be_a_directory_of_its_own(#[case] dir: &str, #[case] message: &str) {
    let fixture = Fixture::new().with(|it| it.runner.builds_dir = dir.to_owned());
    assert_eq!(fixture.mistake(), message);
}

#[rstest]
#[case("/builds", "/builds/group/project", &["/builds/group", "/builds/group/project", "/builds/group/project.tmp"])]
#[case("/builds/", "/builds/p", &["/builds/p", "/builds/p.tmp"])]
#[case("/builds", "/builds", &["/builds.tmp"])]
#[case("/builds", "/elsewhere", &[])]
fn directories_on_the_way_come_parents_first(
    #[case] root: &str,
    #[case] path: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(on_the_way(root, path), expected);
}

#[test]
fn paths_of_a_host_that_moves_over_can_stay_as_they_are() {
    let fixture = Fixture::new().volumes(&["/srv/builds:/builds"]).with(|it| {
        it.runner.token = "glrt-t1_abcdefghijkl".into();
        it.host.naming = Naming::Compatible;
    });
    assert_eq!(project(&fixture), "/builds/abcdefghi/0/group/project");
}
