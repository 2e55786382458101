//! Whose artifacts a job gets (local-pipelines D3).

use std::collections::{HashMap, HashSet};

use super::{Pipeline, PipelineJob};

#[cfg(test)]
mod tests;

/// Fills [`PipelineJob::receives`] of all jobs.
pub(super) fn fill(pipeline: &mut Pipeline) {
    let order: Vec<usize> = pipeline
        .stages
        .iter()
        .flat_map(|stage| stage.jobs.iter().copied())
        .collect();
    // Of jobs that hand on nothing nobody need know: a file of thousands of jobs has few others.
    let givers: Vec<(usize, usize)> = order
        .iter()
        .copied()
        .enumerate()
        .filter(|&(_, job)| !pipeline.jobs[job].artifacts.is_empty())
        .collect();
    let mut begins = HashMap::new();
    let mut count = 0;
    for stage in &pipeline.stages {
        begins.insert(stage.name.clone(), count);
        count += stage.jobs.len();
    }
    let all: Vec<Vec<String>> = pipeline
        .jobs
        .iter()
        .map(|job| {
            let begin = begins.get(&job.stage).copied().unwrap_or_default();
            let earlier = givers
                .iter()
                .map(|&(place, giver)| (place < begin, &pipeline.jobs[giver]));
            givers_of(job, earlier)
        })
        .collect();
    for (job, receives) in pipeline.jobs.iter_mut().zip(all) {
        job.receives = receives;
    }
}

/// Of `givers`, in their order, those whose artifacts `job` gets. Each comes with the word whether
/// its stage is an earlier one.
fn givers_of<'a>(
    job: &PipelineJob,
    givers: impl Iterator<Item = (bool, &'a PipelineJob)>,
) -> Vec<String> {
    let needs: Option<HashSet<&str>> = job.needs.as_ref().map(|needs| {
        let wanted = needs.iter().filter(|need| need.artifacts);
        wanted.map(|need| need.job.as_str()).collect()
    });
    let chosen: Option<HashSet<&str>> = job
        .dependencies
        .as_ref()
        .map(|names| names.iter().map(String::as_str).collect());
    givers
        .filter(|(earlier, giver)| match &needs {
            Some(needs) => needs.contains(giver.name.as_str()),
            None => *earlier,
        })
        .filter(|(_, giver)| {
            chosen
                .as_ref()
                .is_none_or(|chosen| chosen.contains(giver.name.as_str()))
        })
        .map(|(_, giver)| giver.name.clone())
        .collect()
}
