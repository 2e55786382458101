use jiff::Timestamp;
use rstest::rstest;

use super::*;

fn rows(text: &str) -> Vec<JobQueuingDuration> {
    let text = format!(
        "[[runners]]\nname = 'x'\nurl = 'https://gitlab.example.com'\ntoken = 'glrt-1'\nexecutor = 'docker'\n[runners.docker]\nimage = 'x'\n{text}"
    );
    let loaded = crate::parse(
        &text,
        std::path::Path::new("config.toml"),
        &crate::Placeholders::new(),
    );
    let loaded = loaded.unwrap();
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
    loaded.config.runners[0].job_queuing_durations.clone()
}

/// The example of GitLab's documentation: more patience at night.
const ROWS: &str = r#"
[[runners.monitoring.job_queuing_durations]]
periods = ["* * * * * * *"]
threshold = "30m"
jobs_running_for_project = "^[0-9]$"
[[runners.monitoring.job_queuing_durations]]
periods = ["* * 8-18 * * mon-fri *", "* * 8-12 * * sat *"]
timezone = "Europe/Berlin"
threshold = "5m"
"#;

/// 2026-11-27 is a Friday; Berlin is an hour ahead of UTC.
#[rstest]
#[case::in_office_hours("2026-11-27T07:30:00Z", 6, "50", true)]
#[case::in_time("2026-11-27T07:30:00Z", 5, "50", false)]
#[case::at_night("2026-11-27T06:30:00Z", 6, "5", false)]
#[case::at_night_and_very_long("2026-11-27T06:30:00Z", 31, "5", true)]
#[case::of_a_project_with_many_jobs("2026-11-27T06:30:00Z", 31, "50", false)]
#[case::on_a_saturday_morning("2026-11-28T07:30:00Z", 6, "0", true)]
fn the_last_row_that_holds_counts(
    #[case] now: &str,
    #[case] minutes: u64,
    #[case] running: &str,
    #[case] expected: bool,
) {
    let rows = rows(ROWS);
    let now = SystemTime::try_from(now.parse::<Timestamp>().unwrap()).unwrap();
    let queued = Duration::from_secs(minutes * 60);
    assert_eq!(waited_too_long(&rows, now, queued, running), expected);
}

#[test]
fn without_rows_periods_or_threshold_nothing_is_too_long() {
    let day = Duration::from_secs(86_400);
    let table = "[[runners.monitoring.job_queuing_durations]]\n";
    let no_periods = format!("{table}threshold = '1s'");
    let no_threshold = format!("{table}periods = ['* * * * * * *']");
    for text in ["", &no_periods, &no_threshold] {
        assert!(
            !waited_too_long(&rows(text), SystemTime::now(), day, "0"),
            "{text}"
        );
    }
}
