//! What a job brings along is counted when it is taken.

use gantry_job::inputs::InterpolationError;

use super::*;

#[test]
fn a_job_that_waited_longer_than_acceptable_counts() {
    let bench = Bench::new();
    let name = format!("gitlab_runner_acceptable_job_queuing_duration_exceeded_total{{{RUNNER}}}");
    assert_eq!(bench.value(&name), 0.0);
    let _patient = bench.job(|_| {});
    assert_eq!(bench.value(&name), 0.0);
    let _late = bench.job(|facts| facts.waited_too_long = true);
    assert_eq!(bench.value(&name), 1.0);
}

/// The thresholds come from the configuration, the time from the payload.
#[test]
fn acceptable_waiting_times_are_those_of_the_runner() {
    let waited = |seconds: f64, running: &str, rows: &str| {
        let text = format!(
            "[[runners]]\nname = 'x'\nurl = 'https://gitlab.example.com'\ntoken = 'glrt-1'\nexecutor = 'docker'\n{rows}"
        );
        let path = std::path::Path::new("config.toml");
        let loaded = gantry_config::parse(&text, path, &gantry_config::Placeholders::new());
        let runner = Arc::clone(&loaded.unwrap().config.runners[0]);
        let mut payload = gantry_job::JobPayload::default();
        payload.job_info.time_in_queue_seconds = seconds;
        running.clone_into(
            &mut payload
                .job_info
                .project_jobs_running_on_instance_runners_count,
        );
        let facts = JobFacts::of(&payload, &runner, 0, Duration::ZERO, "/nowhere".into());
        facts.waited_too_long
    };
    let rows = "[[runners.monitoring.job_queuing_durations]]\nperiods = ['* * * * * * *']\nthreshold = '1m'\njobs_running_for_project = '^[0-5]$'";
    assert!(waited(61.0, "3", rows));
    assert!(!waited(60.0, "3", rows));
    assert!(!waited(61.0, "Inf+", rows));
    assert!(!waited(61.0, "3", ""));
}

#[test]
fn texts_that_inputs_went_into_count_and_so_do_jobs_where_they_cannot() {
    let bench = Bench::new();
    let failures = |kind: &str| {
        format!("gitlab_runner_job_inputs_interpolation_failures_total{{error_type=\"{kind}\"}}")
    };
    assert_eq!(bench.value(&failures("expression")), 0.0);
    let _good = bench.job(|facts| facts.inputs = Ok(3));
    let _bad = bench.job(|facts| facts.inputs = Err(InterpolationError::Sensitive));
    assert_eq!(
        bench.value("gitlab_runner_job_inputs_interpolations_total"),
        3.0
    );
    assert_eq!(bench.value(&failures("sensitive")), 1.0);
    assert_eq!(bench.value(&failures("expression")), 0.0);
}
