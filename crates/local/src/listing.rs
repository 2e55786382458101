//! The jobs of a pipeline, for people and for programs.

use gantry_pipeline::{AllowFailure, Pipeline, PipelineJob, When};
use serde::Serialize;

/// One job as programs see it. Fields may be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedJob<'a> {
    name: &'a str,
    stage: &'a str,
    /// As written, variables not expanded; null where the job names none.
    image: Option<&'a str>,
    services: Vec<&'a str>,
    allow_failure: ListedAllowFailure<'a>,
    when: &'static str,
    /// Jobs it waits for; null where it waits for all earlier stages.
    needs: Option<Vec<&'a str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum ListedAllowFailure<'a> {
    Any(bool),
    Some { exit_codes: &'a [i64] },
}

/// The jobs in the order in which they run: by stage, then as in the file.
pub fn jobs(pipeline: &Pipeline) -> Vec<ListedJob<'_>> {
    let stages = pipeline.stages.iter();
    stages
        .flat_map(|stage| pipeline.jobs_of(stage))
        .map(|job| ListedJob {
            name: &job.name,
            stage: &job.stage,
            image: job.image.as_ref().map(|image| image.name.as_str()),
            services: job
                .services
                .iter()
                .map(|service| service.image.name.as_str())
                .collect(),
            allow_failure: match &job.allow_failure {
                AllowFailure::No => ListedAllowFailure::Any(false),
                AllowFailure::Yes => ListedAllowFailure::Any(true),
                AllowFailure::ExitCodes(exit_codes) => ListedAllowFailure::Some { exit_codes },
            },
            when: job.when.as_str(),
            needs: job
                .needs
                .as_ref()
                .map(|needs| needs.iter().map(|need| need.job.as_str()).collect()),
        })
        .collect()
}

/// The jobs as a table, ended by a line break.
pub fn table(pipeline: &Pipeline) -> String {
    let rows: Vec<[String; 4]> = pipeline
        .stages
        .iter()
        .flat_map(|stage| pipeline.jobs_of(stage))
        .map(|job| {
            let image = job.image.as_ref().map_or("-", |image| &image.name);
            [
                job.stage.clone(),
                job.name.clone(),
                image.to_owned(),
                notes(job),
            ]
        })
        .collect();
    let titles = ["stage", "job", "image", "notes"].map(str::to_owned);
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default().max(titles[column].len())
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [stage, job, image, notes] in std::iter::once(&titles).chain(&rows) {
        let [a, b, c] = widths;
        let line = format!("{stage:a$}  {job:b$}  {image:c$}  {notes}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn notes(job: &PipelineJob) -> String {
    let mut notes = Vec::new();
    match &job.allow_failure {
        AllowFailure::No => {}
        AllowFailure::Yes => notes.push("may fail".to_owned()),
        AllowFailure::ExitCodes(codes) => {
            let codes: Vec<_> = codes.iter().map(ToString::to_string).collect();
            notes.push(format!("may fail with {}", codes.join(", ")));
        }
    }
    if job.when != When::OnSuccess {
        notes.push(format!("when {}", job.when.as_str()));
    }
    match &job.needs {
        Some(needs) if needs.is_empty() => notes.push("needs nothing".to_owned()),
        Some(needs) => {
            let names: Vec<_> = needs.iter().map(|need| need.job.as_str()).collect();
            notes.push(format!("needs {}", names.join(", ")));
        }
        None => {}
    }
    match job.services.len() {
        0 => {}
        1 => notes.push("1 service".to_owned()),
        many => notes.push(format!("{many} services")),
    }
    notes.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
stages: [build, test]
unit: {stage: test, image: 'ruby:$V', script: x, services: [redis, postgres]}
compile: {stage: build, script: x, allow_failure: true}
flaky: {stage: test, image: a, script: x, allow_failure: {exit_codes: [1, 2]}, needs: [compile]}
rescue: {stage: test, script: x, needs: [], when: on_failure}
";

    #[test]
    fn jobs_stand_in_the_order_in_which_they_run() {
        let pipeline = gantry_pipeline::parse("f", FILE).unwrap();
        let expected = "\
stage  job      image    notes
build  compile  -        may fail
test   unit     ruby:$V  2 services
test   flaky    a        may fail with 1, 2; needs compile
test   rescue   -        when on_failure; needs nothing
";
        assert_eq!(table(&pipeline), expected);
    }

    #[test]
    fn programs_get_the_same_jobs() {
        let pipeline = gantry_pipeline::parse("f", FILE).unwrap();
        let json = serde_json::to_value(jobs(&pipeline)).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {"name": "compile", "stage": "build", "image": null, "services": [], "allow_failure": true, "when": "on_success", "needs": null},
                {"name": "unit", "stage": "test", "image": "ruby:$V", "services": ["redis", "postgres"], "allow_failure": false, "when": "on_success", "needs": null},
                {"name": "flaky", "stage": "test", "image": "a", "services": [], "allow_failure": {"exit_codes": [1, 2]}, "when": "on_success", "needs": ["compile"]},
                {"name": "rescue", "stage": "test", "image": null, "services": [], "allow_failure": false, "when": "on_failure", "needs": []},
            ])
        );
    }
}
