use rstest::rstest;

use super::*;
use crate::fixture::{Fixture, image, service, strings};

const ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[rstest]
#[case::of_the_job("ruby:3.3", Some("alpine:latest"), "ruby:3.3", false)]
#[case::of_the_config("", Some("alpine:latest"), "alpine:latest", true)]
#[case::job_expanded("$REGISTRY/app:${TAG}", None, "reg.example.com:5000/app:1.2", false)]
#[case::config_expanded("", Some("$IMG"), "alpine:3", true)]
#[case::expanded_to_nothing("$NOTHING", Some("alpine:latest"), "alpine:latest", true)]
#[case::by_id(ID, None, ID, false)]
#[case::by_digest(
    "ruby@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    None,
    "ruby@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    false
)]
fn the_image_is_the_jobs_else_the_configs(
    #[case] job: &str,
    #[case] config: Option<&str>,
    #[case] expected: &str,
    #[case] default: bool,
) {
    let plan = Fixture::new()
        .variable("REGISTRY", "reg.example.com:5000")
        .variable("TAG", "1.2")
        .variable("IMG", "alpine:3")
        .docker(|docker| docker.image = config.map(str::to_owned))
        .with(|it| it.payload.image = Some(image(job)))
        .plan();
    assert_eq!(plan.build.image.reference, expected);
    assert_eq!(plan.image_name, expected);
    assert_eq!(plan.default_image_used, default);
    assert!(plan.build.spec.image.is_empty());
}

#[test]
fn a_job_without_image_takes_the_configs() {
    let fixture = Fixture::new()
        .with(|it| it.payload.image = None)
        .docker(|docker| docker.image = Some("alpine:latest".to_owned()));
    let plan = fixture.plan();
    assert_eq!(
        (plan.image_name.as_str(), plan.default_image_used),
        ("alpine:latest", true)
    );
    assert!(plan.variables.get("CI_JOB_IMAGE").is_none());
}

#[rstest]
#[case(None)]
#[case(Some("$NOTHING"))]
fn without_any_image_the_job_fails_once(#[case] config: Option<&str>) {
    let fixture = Fixture::new()
        .with(|it| it.payload.image = None)
        .docker(|docker| docker.image = config.map(str::to_owned));
    assert_eq!(
        fixture.mistake(),
        "no Docker image specified to run the build in"
    );
}

#[test]
fn ci_job_image_is_the_expanded_name() {
    let plan = Fixture::new()
        .variable("TAG", "1.2")
        .variable("COPY", "<$CI_JOB_IMAGE>")
        .with(|it| it.payload.image = Some(image("app:$TAG")))
        .plan();
    assert_eq!(plan.variables.value("CI_JOB_IMAGE"), "app:1.2");
    assert_eq!(plan.variables.value("COPY"), "<app:1.2>");
}

#[test]
fn file_variables_stand_for_their_path_in_a_name() {
    let plan = Fixture::new()
        .push(crate::fixture::file("f", "content"))
        .with(|it| it.payload.image = Some(image("x$f")))
        .plan();
    assert_eq!(plan.image_name, "x/builds/group/project.tmp/f");
}

#[rstest]
#[case::job(
    "Ruby",
    None,
    "`image` of the job: image reference \"Ruby\": the repository name must be lower case"
)]
#[case::blank(
    " ",
    None,
    "`image` of the job: image reference \" \": \"library/ \" is not a valid repository name (lower-case letters and digits, separated by '.', '_', '__' or '-')"
)]
#[case::config(
    "",
    Some("a:b:c"),
    "`image` in [runners.docker]: image reference \"a:b:c\": \"b:c\" is not a valid tag (letters, digits, '_', '.', '-', at most 128 characters, not starting with '.' or '-')"
)]
fn text_that_names_no_image_is_refused_with_its_place(
    #[case] job: &str,
    #[case] config: Option<&str>,
    #[case] message: &str,
) {
    let fixture = Fixture::new()
        .docker(|docker| docker.image = config.map(str::to_owned))
        .with(|it| it.payload.image = Some(image(job)));
    assert_eq!(fixture.mistake(), message);
    // Podman knows transports and asks nobody here.
    let podman = fixture.with(|it| it.engine.flavor = EngineFlavor::Podman);
    assert!(podman.try_plan().is_ok());
}

#[test]
fn the_helper_image_is_packaged_unless_the_config_names_one() {
    let plan = Fixture::new().plan();
    let helper = plan.helper.unwrap().image;
    assert_eq!(
        (helper.reference.as_str(), helper.packaged),
        ("gantry/helper:1", true)
    );
    assert_eq!(plan.helper_overrides, None);
}

#[rstest]
#[case("x:${CI_RUNNER_VERSION}", "x:19.4.0")]
#[case("x:$CI_RUNNER_REVISION", "x:abcdef12")]
#[case("x:v${CI_RUNNER_VERSION}-$FLAVOR", "x:v19.4.0-ubuntu")]
fn a_helper_image_of_the_config_is_expanded_and_pulled_by_policy(
    #[case] setting: &str,
    #[case] expected: &str,
) {
    let plan = Fixture::new()
        .variable("CI_RUNNER_VERSION", "the runner's own wins")
        .variable("FLAVOR", "ubuntu")
        .docker(|docker| {
            docker.helper_image = Some(setting.to_owned());
            docker.pull_policy = vec![PullPolicy::IfNotPresent];
        })
        // What the job asks for concerns its own image.
        .with(|it| it.payload.image.as_mut().unwrap().pull_policy = strings(&["if-not-present"]))
        .plan();
    let helper = plan.helper.unwrap().image;
    assert_eq!(
        (helper.reference.as_str(), helper.packaged),
        (expected, false)
    );
    assert_eq!(helper.policies, [PullPolicy::IfNotPresent]);
    assert_eq!(plan.helper_overrides.as_deref(), Some("gantry/helper:1"));
}

#[test]
fn a_helper_image_that_expands_to_nothing_is_none() {
    let fixture = Fixture::new().docker(|docker| docker.helper_image = Some("$NOTHING".to_owned()));
    let plan = fixture.plan();
    assert!(plan.helper.unwrap().image.packaged);
    assert_eq!(plan.helper_overrides, None);
}

#[test]
fn a_bad_helper_image_is_refused_when_a_helper_is_needed() {
    let fixture = Fixture::new().docker(|docker| docker.helper_image = Some("a/B".to_owned()));
    assert_eq!(
        fixture.mistake(),
        "`helper_image` in [runners.docker]: image reference \"a/B\": the repository name must be lower case"
    );
    assert!(fixture.variable("GIT_STRATEGY", "none").try_plan().is_ok());
}

// docker-executor §3.2
#[rstest]
#[case::nothing(&[], &[], &["always"])]
#[case::config(&["if-not-present"], &[], &["if-not-present"])]
#[case::several(&["always", "if-not-present"], &[], &["always", "if-not-present"])]
#[case::twice(&["always", "always"], &[], &["always", "always"])]
#[case::one_of_several(&["always", "if-not-present"], &["if-not-present"], &["if-not-present"])]
#[case::order_of_the_job(&["always", "if-not-present"], &["if-not-present", "always"], &["if-not-present", "always"])]
#[case::job_twice(&["always"], &["always", "always"], &["always", "always"])]
#[case::partly_allowed(&["always"], &["never", "always"], &["always"])]
#[case::partly_unknown(&["always"], &["sometimes", "always"], &["always"])]
#[case::blank(&["never"], &[""], &["never"])]
fn the_jobs_policies_are_cut_to_what_the_config_allows(
    #[case] config: &[&str],
    #[case] asked: &[&str],
    #[case] expected: &[&str],
) {
    let plan = Fixture::new()
        .docker(|docker| {
            docker.pull_policy = config
                .iter()
                .filter_map(|name| PullPolicy::from_name(name))
                .collect();
        })
        .with(|it| it.payload.image.as_mut().unwrap().pull_policy = strings(asked))
        .service(Image {
            pull_policy: strings(asked),
            ..image("redis")
        })
        .plan();
    let names = |image: &PlannedImage| -> Vec<&str> {
        image.policies.iter().map(|policy| policy.name()).collect()
    };
    assert_eq!(names(&plan.build.image), expected);
    assert_eq!(names(&plan.services[0].container.image), expected);
}

#[rstest]
#[case(&[], &["if-not-present"], "[if-not-present]", "[always]")]
#[case(&["always", "if-not-present"], &["never"], "[never]", "[always if-not-present]")]
#[case(&["always"], &["never", "if-not-present"], "[never if-not-present]", "[always]")]
#[case(&["always"], &["sometimes"], "[sometimes]", "[always]")]
fn a_policy_that_is_not_allowed_fails_the_job(
    #[case] config: &[&str],
    #[case] asked: &[&str],
    #[case] defined: &str,
    #[case] allowed: &str,
) {
    let policies: Vec<_> = config
        .iter()
        .filter_map(|name| PullPolicy::from_name(name))
        .collect();
    let message = |image: &str| {
        format!(
            "invalid pull policy for image {image:?}: pull_policy ({defined}) defined in GitLab pipeline config is not one of the allowed_pull_policies ({allowed})"
        )
    };
    let fixture = Fixture::new().docker(|docker| docker.pull_policy = policies);
    let build = fixture
        .clone()
        .with(|it| it.payload.image.as_mut().unwrap().pull_policy = strings(asked));
    assert_eq!(build.mistake(), message("ruby:3.3"));
    let service = fixture.service(Image {
        pull_policy: strings(asked),
        ..service("redis", "")
    });
    assert_eq!(service.mistake(), message("redis:latest"));
}

#[test]
fn the_platform_is_expanded_and_goes_to_pull_and_create() {
    let platformed = |name: &str| {
        let mut image = image(name);
        image.executor_opts.docker.platform = "linux/$ARCH".to_owned();
        image
    };
    let plan = Fixture::new()
        .variable("ARCH", "arm64/v8")
        .with(|it| it.payload.image = Some(platformed("ruby")))
        .service(platformed("redis"))
        .service(image("mysql"))
        .plan();
    let expected = Some("linux/arm64/v8");
    for container in [&plan.build, &plan.services[0].container] {
        assert_eq!(container.image.platform.as_deref(), expected);
        assert_eq!(container.spec.platform.as_deref(), expected);
    }
    assert_eq!(plan.services[1].container.image.platform, None);
    assert_eq!(plan.helper.unwrap().image.platform, None);
}
