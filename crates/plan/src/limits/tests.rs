use rstest::rstest;

use super::*;
use crate::fixture::Fixture;

fn limits(fixture: &Fixture) -> Limits {
    fixture.plan().limits
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[rstest]
#[case(60, seconds(60))]
#[case(0, seconds(7200))]
#[case(-3, seconds(7200))]
#[case(i64::MAX, LONGEST)]
fn the_job_has_the_servers_time(#[case] timeout: i64, #[case] expected: Duration) {
    let fixture = Fixture::new().with(|it| it.payload.runner_info.timeout = timeout);
    assert_eq!(limits(&fixture).job, expected);
}

#[rstest]
#[case::unset(None, None)]
#[case::shorter(Some(60), Some(60))]
#[case::equal(Some(7200), None)]
#[case::longer(Some(9999), None)]
#[case::zero(Some(0), None)]
fn limits_of_stages_hold_when_they_are_shorter_than_the_job(
    #[case] setting: Option<u64>,
    #[case] expected: Option<u64>,
) {
    let fixture = Fixture::new().with(|it| {
        it.runner.prepare_timeout = setting.map(seconds);
        it.runner.get_sources_timeout = setting.map(seconds);
    });
    let limits = limits(&fixture);
    assert_eq!(limits.prepare, expected.map(seconds));
    assert_eq!(limits.get_sources, expected.map(seconds));
}

// job-lifecycle §1.4
#[rstest]
#[case::unset("", "", None, 300)]
#[case::given("5s", "1m", Some(5), 60)]
#[case::zero("0", "0s", None, 300)]
#[case::malformed("abc", "abc", None, 300)]
#[case::negative("-5s", "-5s", None, 300)]
#[case::as_long_as_the_job("2h", "2h", None, 7200)]
#[case::longer("99h", "99h", None, 7200)]
fn scripts_have_the_time_their_variables_give(
    #[case] script: &str,
    #[case] after_script: &str,
    #[case] expected: Option<u64>,
    #[case] after: u64,
) {
    let fixture = Fixture::new()
        .variable("RUNNER_SCRIPT_TIMEOUT", script)
        .variable("RUNNER_AFTER_SCRIPT_TIMEOUT", after_script);
    let limits = limits(&fixture);
    assert_eq!(limits.script, expected.map(seconds));
    assert_eq!(limits.after_script, seconds(after));
}

// job-lifecycle §1.2
#[rstest]
#[case(true, &[5, 10, 20, 40, 80, 160, 300])]
#[case(false, &[1, 2, 4, 5])]
fn pauses_between_attempts_grow_by_flag(#[case] exponential: bool, #[case] expected: &[u64]) {
    let fixture = Fixture::new().flag("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", exponential);
    let expected: Vec<_> = expected.iter().copied().map(seconds).collect();
    assert_eq!(limits(&fixture).retry_waits, expected);
    if exponential {
        assert_eq!(limits(&Fixture::new()).retry_waits, expected);
    }
}

#[rstest]
#[case::negative_in_the_file(None, -1)]
#[case::given(Some(15), 15)]
#[case::no_longer_than_the_job(Some(u64::MAX), 7200)]
fn services_are_waited_for_as_the_config_says(#[case] setting: Option<u64>, #[case] expected: i64) {
    let fixture =
        Fixture::new().docker(|docker| docker.wait_for_services_timeout = setting.map(seconds));
    assert_eq!(fixture.plan().wait_for_services, expected);
    assert_eq!(Fixture::new().plan().wait_for_services, 30);
}
