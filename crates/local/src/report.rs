//! How a run went, as data and as the table at its end.

use std::{path::PathBuf, time::Duration};

use crate::{
    JobState, PipelineStatus, Stop,
    output::{Paint, Style},
};

/// How a run went.
#[derive(Debug, Clone)]
pub struct Report {
    /// Jobs in the order of the file.
    pub jobs: Vec<JobReport>,
    /// How the pipeline ended; [`PipelineStatus::Running`] if the run was left by force.
    pub status: PipelineStatus,
    /// From the first job's start to the last one's end.
    pub took: Duration,
    /// Why the run was stopped; [`Stop::Run`] if it was not.
    pub stop: Stop,
    /// Objects may be left on the engine. The next run on the same engine removes them.
    pub left_behind: bool,
    /// What jobs left for people, if they did.
    pub artifacts: Option<Kept>,
}

/// Artifacts of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Folder with one folder per job.
    pub folder: PathBuf,
    /// The jobs, in the order of the file.
    pub jobs: Vec<String>,
}

/// How one job went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobReport {
    /// Name.
    pub name: String,
    /// Stage.
    pub stage: String,
    /// State.
    pub state: JobState,
    /// Why it failed or did not run; a lower-case fragment.
    pub why: Option<String>,
    /// From its start to its end; none if it did not start.
    pub took: Option<Duration>,
}

impl Report {
    /// Whether the run is a success for whoever called it: every job that counts passed.
    pub fn is_success(&self) -> bool {
        matches!(
            self.status,
            PipelineStatus::Success | PipelineStatus::SuccessWithWarnings
        )
    }

    /// The table and the verdict, ended by a line break.
    pub(crate) fn summary(&self, style: Style) -> String {
        let width = |column: fn(&JobReport) -> &str, title: &str| {
            let widths = self.jobs.iter().map(|job| column(job).chars().count());
            widths.max().unwrap_or_default().max(title.len())
        };
        let name_width = width(|job| &job.name, "job");
        let stage_width = width(|job| &job.stage, "stage");
        let title = format!(
            "{:name_width$}  {:stage_width$}  {:>8}  result",
            "job", "stage", "time"
        );
        let mut text = format!("\n{}\n", style.paint(Paint::Dim, &title));
        for job in &self.jobs {
            let time = job.took.map_or_else(|| "-".to_owned(), duration);
            let (paint, result) = job.result();
            let line = format!(
                "{:name_width$}  {:stage_width$}  {time:>8}  {}\n",
                job.name,
                job.stage,
                style.paint(paint, &result)
            );
            text.push_str(&line);
        }
        let (paint, verdict) = self.verdict();
        text = text + "\n" + &style.paint(paint, &verdict) + "\n";
        if let Some(Kept { folder, jobs }) = &self.artifacts {
            let line = format!("Artifacts of {}: {}", jobs.join(", "), folder.display());
            text = text + &style.paint(Paint::Dim, &line) + "\n";
        }
        text
    }

    fn verdict(&self) -> (Paint, String) {
        let took = duration(self.took);
        let (paint, word) = match self.status {
            PipelineStatus::Success => (Paint::Good, "passed"),
            PipelineStatus::SuccessWithWarnings => (Paint::Odd, "passed with warnings"),
            PipelineStatus::Failed => (Paint::Bad, "failed"),
            PipelineStatus::Canceled => (Paint::Bad, "canceled"),
            PipelineStatus::Running => (Paint::Bad, "left"),
        };
        let mut text = format!("Pipeline {word} in {took}");
        if self.left_behind {
            text.push_str("; not everything could be removed, the next `gantry exec` tries again");
        } else if self.stop != Stop::Run {
            text.push_str("; its containers, volumes and networks are removed");
        }
        if self.stop != Stop::Run && !self.is_success() {
            text.push_str(". Exit code 1");
        }
        (paint, text)
    }
}

impl JobReport {
    fn result(&self) -> (Paint, String) {
        let (paint, word) = match self.state {
            JobState::Success => (Paint::Good, "passed"),
            JobState::Warning => (Paint::Odd, "failed, which is allowed"),
            JobState::Failed => (Paint::Bad, "failed"),
            JobState::Canceled => (Paint::Bad, "canceled"),
            JobState::Skipped => (Paint::Dim, "skipped"),
            JobState::Created | JobState::Running => (Paint::Bad, "left"),
        };
        let text = match &self.why {
            Some(why) => format!("{word}: {}", why.lines().next().unwrap_or_default()),
            None => word.to_owned(),
        };
        (paint, text)
    }
}

/// A time for people: `0.3s`, `1m05s`, `1h02m`.
pub(crate) fn duration(time: Duration) -> String {
    let tenths = (time.as_millis() + 50) / 100;
    let seconds = (time.as_millis() + 500) / 1000;
    match seconds {
        _ if tenths < 600 => format!("{}.{}s", tenths / 10, tenths % 10),
        ..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn job(name: &str, state: JobState, why: Option<&str>, took: Option<u64>) -> JobReport {
        JobReport {
            name: name.to_owned(),
            stage: "test".to_owned(),
            state,
            why: why.map(str::to_owned),
            took: took.map(Duration::from_millis),
        }
    }

    fn report() -> Report {
        Report {
            jobs: vec![
                job("lint", JobState::Success, None, Some(1234)),
                job(
                    "unit tests",
                    JobState::Failed,
                    Some("exit code 2"),
                    Some(65_400),
                ),
                job(
                    "style",
                    JobState::Warning,
                    Some("exit code 1\nand more"),
                    Some(900),
                ),
                job("deploy", JobState::Skipped, Some("unit tests failed"), None),
            ],
            status: PipelineStatus::Failed,
            took: Duration::from_millis(66_000),
            stop: Stop::Run,
            left_behind: false,
            artifacts: None,
        }
    }

    #[test]
    fn the_table_names_each_job_with_its_time_and_what_became_of_it() {
        let expected = "
job         stage      time  result
lint        test       1.2s  passed
unit tests  test      1m05s  failed: exit code 2
style       test       0.9s  failed, which is allowed: exit code 1
deploy      test          -  skipped: unit tests failed

Pipeline failed in 1m06s
";
        assert_eq!(report().summary(Style::default()), expected);
        assert!(!report().is_success());
    }

    #[test]
    fn colours_are_painted_where_they_are_wanted() {
        let text = report().summary(Style {
            colour: true,
            verbose: false,
        });
        assert!(
            text.contains("\x1b[31mfailed: exit code 2\x1b[0m"),
            "{text}"
        );
        assert!(text.contains("\x1b[32mpassed\x1b[0m"), "{text}");
        assert!(
            text.contains("\x1b[33mfailed, which is allowed: exit code 1\x1b[0m"),
            "{text}"
        );
    }

    #[rstest]
    #[case::passed(PipelineStatus::Success, Stop::Run, false, "Pipeline passed in 1m06s")]
    #[case::warnings(
        PipelineStatus::SuccessWithWarnings,
        Stop::Run,
        false,
        "Pipeline passed with warnings in 1m06s"
    )]
    #[case::canceled(
        PipelineStatus::Canceled,
        Stop::Cancel,
        false,
        "Pipeline canceled in 1m06s; its containers, volumes and networks are removed. Exit code 1"
    )]
    #[case::quicker_than_the_cancel(
        PipelineStatus::Success,
        Stop::Cancel,
        false,
        "Pipeline passed in 1m06s; its containers, volumes and networks are removed"
    )]
    #[case::left_behind(
        PipelineStatus::Failed,
        Stop::Run,
        true,
        "Pipeline failed in 1m06s; not everything could be removed, the next `gantry exec` tries again"
    )]
    fn the_verdict_says_what_whoever_waits_must_know(
        #[case] status: PipelineStatus,
        #[case] stop: Stop,
        #[case] left_behind: bool,
        #[case] verdict: &str,
    ) {
        let report = Report {
            status,
            stop,
            left_behind,
            ..report()
        };
        assert_eq!(report.verdict().1, verdict);
    }

    #[rstest]
    #[case(0, "0.0s")]
    #[case(49, "0.0s")]
    #[case(1_250, "1.3s")]
    #[case(59_940, "59.9s")]
    #[case(59_960, "1m00s")]
    #[case(65_000, "1m05s")]
    #[case(3_599_600, "1h00m")]
    #[case(7_380_000, "2h03m")]
    fn times_are_short(#[case] millis: u64, #[case] text: &str) {
        assert_eq!(duration(Duration::from_millis(millis)), text);
    }
}
