use rstest::rstest;

use crate::{
    Plan, STATE_LABEL,
    fixture::{Fixture, service},
};

const OWN: &str = "runner-tok-7-0-42";
const BUILD: &str = "runner-tok-project-7-concurrent-0-00010203040506ff-build";
const HELPER: &str = "runner-tok-project-7-concurrent-0-00010203040506ff-predefined";

fn fixture(mode: &str, per_job: bool) -> Fixture {
    Fixture::new()
        .service(service("redis", "cache"))
        .flag("FF_NETWORK_PER_BUILD", per_job)
        .docker(|docker| docker.network_mode = (!mode.is_empty()).then(|| mode.to_owned()))
}

fn aliases(plan: &Plan) -> [Vec<(String, Vec<String>)>; 3] {
    let helper = plan.helper.as_ref().unwrap();
    [&plan.build, helper, &plan.services[0].container].map(|container| {
        let endpoints = container.spec.endpoints.iter();
        endpoints
            .map(|(network, endpoint)| (network.clone(), endpoint.aliases.clone()))
            .collect()
    })
}

fn modes(plan: &Plan) -> [&str; 3] {
    let helper = plan.helper.as_ref().unwrap();
    [&plan.build, helper, &plan.services[0].container]
        .map(|container| container.spec.host.network_mode.as_str())
}

// docker-executor §5.1
#[rstest]
#[case("", false)]
#[case("bridge", false)]
#[case("bridge", true)]
#[case("default", true)]
#[case("none", true)]
#[case("host", true)]
#[case("container:web", true)]
fn built_in_networks_are_passed_as_they_are_and_know_no_aliases(
    #[case] mode: &str,
    #[case] per_job: bool,
) {
    let plan = fixture(mode, per_job).plan();
    assert!(plan.network.is_none());
    assert_eq!(modes(&plan), [mode; 3]);
    assert_eq!(aliases(&plan), [const { Vec::new() }; 3]);
}

#[rstest]
#[case::existing("mynet", false, "mynet")]
#[case::existing_beats_the_flag("mynet", true, "mynet")]
#[case::no_name_of_a_network_on_linux("nat", false, "nat")]
#[case::per_job("", true, OWN)]
fn user_defined_networks_know_every_container_by_its_names(
    #[case] mode: &str,
    #[case] per_job: bool,
    #[case] network: &str,
) {
    let plan = fixture(mode, per_job).plan();
    assert_eq!(
        plan.network.as_ref().map(|own| own.name.as_str()),
        (network == OWN).then_some(OWN)
    );
    assert_eq!(modes(&plan), [network; 3]);
    let names = |names: &[&str]| vec![(network.to_owned(), crate::fixture::strings(names))];
    assert_eq!(
        aliases(&plan),
        [
            names(&["build", BUILD]),
            names(&[HELPER]),
            names(&["redis", "cache"])
        ]
    );
}

#[test]
fn the_network_of_a_job_is_the_one_its_variable_names() {
    let plan = fixture("", true).plan();
    let network = plan.network.unwrap();
    assert_eq!(network.name, OWN);
    assert_eq!(plan.variables.value("CI_BUILD_NETWORK_NAME"), OWN);
    assert_eq!(network.labels, plan.labels);
    assert!(network.labels.contains_key(STATE_LABEL));
    assert!(!network.labels.contains_key("com.gitlab.gitlab-runner.type"));
    assert!(!network.enable_ipv6);
    assert!(network.options.is_empty());
}

#[rstest]
#[case("", false, false)]
#[case("", true, true)]
// Set by the flag alone, as in the peer.
#[case("host", true, true)]
fn the_network_variable_follows_the_flag(
    #[case] mode: &str,
    #[case] per_job: bool,
    #[case] set: bool,
) {
    let plan = fixture(mode, per_job).plan();
    assert_eq!(plan.variables.get("CI_BUILD_NETWORK_NAME").is_some(), set);
}

#[rstest]
#[case::variable(&[], "FF_NETWORK_PER_BUILD", "1")]
#[case::environment(&[("FF_NETWORK_PER_BUILD", "1")], "X", "")]
fn the_flag_may_come_from_the_job_or_the_runners_environment(
    #[case] environment: &[(&str, &str)],
    #[case] key: &str,
    #[case] value: &str,
) {
    let plan = Fixture::new()
        .environment(environment)
        .variable(key, value)
        .plan();
    assert_eq!(plan.network.unwrap().name, OWN);
}

#[rstest]
#[case("", Some("runner-tok-project-7-concurrent-0"))]
#[case("host", Some("runner-tok-project-7-concurrent-0"))]
#[case("mynet", Some("runner-tok-project-7-concurrent-0"))]
#[case("container:web", None)]
fn only_in_another_containers_network_there_is_no_host_name_of_our_own(
    #[case] mode: &str,
    #[case] hostname: Option<&str>,
) {
    let plan = fixture(mode, false).plan();
    assert_eq!(plan.build.spec.hostname.as_deref(), hostname);
    assert_eq!(plan.helper.unwrap().spec.hostname.as_deref(), hostname);
    assert_eq!(plan.services[0].container.spec.hostname, None);
}
