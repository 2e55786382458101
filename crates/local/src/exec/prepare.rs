//! From jobs of a pipeline to plans. All of them are made before the first job starts, so that what
//! is wrong with the last one is known then.

use std::sync::Arc;

use gantry_config::{DockerConfig, RunnerConfig};
use gantry_container::EngineFacts;
use gantry_job::{JobPayload, TlsFiles, payload::Image};
use gantry_pipeline::{
    DOTENV, Giver, JobFacts, LocalRun, Pipeline, PipelineJob, missing_secrets, to_payload,
};
use gantry_plan::{ArtifactsAt, HostFacts, Inputs, LogPlan, Numbers, Plan, PullPolicy, Sources};

use super::{JobProblem, RunOptions};
use crate::{Submodules, artifacts::Given, caches::CACHE_PATH};

/// A log of a local job is cut off here: the disk is the person's own, and no bound would be none.
const OUTPUT_LIMIT: u64 = 1 << 30;
/// Makes a network per job.
const NETWORK_FLAG: &str = "FF_NETWORK_PER_BUILD";
const POLICIES: [PullPolicy; 3] = [
    PullPolicy::Always,
    PullPolicy::IfNotPresent,
    PullPolicy::Never,
];

/// A job ready to start.
pub(crate) struct PlannedJob {
    pub(super) plan: Arc<Plan>,
    pub(super) log: LogPlan,
    /// It works on the working tree; else on an empty folder.
    pub(super) with_tree: bool,
    /// What of submodules is part of that tree.
    pub(super) submodules: Submodules,
}

/// What the jobs of a run are planned by.
pub(super) struct Preparation {
    pub(super) run: LocalRun,
    /// Of the first job; the others count on.
    pub(super) facts: JobFacts,
    pub(super) options: RunOptions,
    pub(super) host: HostFacts,
    pub(super) engine: EngineFacts,
    /// Name of the volume of the project's caches.
    pub(super) cache_volume: String,
}

impl Preparation {
    /// Plans all jobs. `seed` gives the random part of one job's names. A job that cannot be planned yet, and that may be once it has
    /// the variables of earlier ones, has no plan.
    ///
    /// # Errors
    /// All that is wrong with the others.
    pub(super) fn jobs(
        &self,
        pipeline: &Pipeline,
        seed: impl Fn() -> [u8; 8],
    ) -> Result<Vec<Option<PlannedJob>>, Vec<JobProblem>> {
        let mut planned = Vec::new();
        let mut problems = Vec::new();
        for (index, job) in pipeline.jobs.iter().enumerate() {
            match self.job(index, job, &[], seed()) {
                Ok(job) => planned.push(Some(job)),
                Err(_) if may_get_variables(pipeline, job) => planned.push(None),
                Err(message) => problems.push(JobProblem {
                    job: job.name.clone(),
                    place: format!("{}:{}", self.run.project.config_path, job.span.start.line),
                    problem: pipeline.problem(job, &message),
                    message,
                }),
            }
        }
        if problems.is_empty() {
            Ok(planned)
        } else {
            Err(problems)
        }
    }

    /// Number of a job of the run.
    pub(super) fn job_id(&self, index: usize) -> i64 {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        self.facts.job_id.saturating_add(index)
    }

    /// Plans one job, with what earlier ones handed on to it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn job(
        &self,
        index: usize,
        job: &PipelineJob,
        given: &[Given],
        seed: [u8; 8],
    ) -> Result<PlannedJob, String> {
        let facts = JobFacts {
            job_id: self.job_id(index),
            reported: given
                .iter()
                .flat_map(|given| given.variables.iter().cloned())
                .collect(),
            dependencies: given.iter().filter_map(giver).collect(),
            ..self.facts.clone()
        };
        let missing = missing_secrets(job, &self.run);
        if !missing.is_empty() {
            let names: Vec<_> = missing
                .iter()
                .map(|secret| format!("`{}`", secret.name))
                .collect();
            return Err(format!(
                "its {} {} no value here, where nobody is asked for secrets: give it with --env or in a file of variables",
                if names.len() == 1 {
                    "secret"
                } else {
                    "secrets"
                },
                match &names[..] {
                    [one] => format!("{one} has"),
                    all => format!("{} have", all.join(", ")),
                },
            ));
        }
        let mut payload = to_payload(job, &self.run, &facts).map_err(|error| error.to_string())?;
        choose_images(&mut payload, &self.options)?;
        let runner = self.runner(&payload);
        if let Some(cause) = gantry_plan::refusal(&payload, |_| false) {
            return Err(cause.message());
        }
        // The place in the file: no two jobs of a run have the same, also one after the other.
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let numbers = Numbers {
            concurrent: number,
            concurrent_project: number,
        };
        let log = LogPlan {
            timestamps: false,
            // For the output, which tells by them what the runner says from what the scripts do.
            sections: true,
            ..gantry_plan::log_plan(&payload, &runner, &self.host, numbers, &[])
        };
        let with_tree = wants_sources(&payload);
        let plan = gantry_plan::plan(&Inputs {
            payload: &payload,
            runner: &runner,
            host: &self.host,
            engine: &self.engine,
            numbers,
            seed,
            tls: &TlsFiles::default(),
            correlation_id: None,
            sources: if with_tree {
                Sources::WorkingTree
            } else {
                Sources::Git
            },
            secrets: &[],
            artifacts: ArtifactsAt::Here,
        })
        .map_err(|cause| cause.message())?;
        Ok(PlannedJob {
            plan: Arc::new(plan),
            log,
            with_tree,
            submodules: wanted_submodules(&payload),
        })
    }

    /// The runner that a local run stands for: GitLab Runner's defaults, but for what is said here.
    fn runner(&self, payload: &JobPayload) -> RunnerConfig {
        let mut runner = RunnerConfig {
            name: "local".to_owned(),
            // Part of names, such as those of networks, which two people on one engine must not
            // share; the rest of them is the same for one project.
            token: format!("local{}", self.host.state_id).into(),
            output_limit: OUTPUT_LIMIT,
            docker: DockerConfig {
                // Which one is used stands in the payload.
                pull_policy: POLICIES.to_vec(),
                privileged: self.options.privileged,
                ..DockerConfig::default()
            },
            ..RunnerConfig::default()
        };
        if has_caches(payload) {
            let bind = format!("{}:{CACHE_PATH}", self.cache_volume);
            runner.docker.volumes.push(bind);
        }
        // Services have a network with the job, where all of them find each other by name
        // (local-pipelines A5, "services"); also the only one where Podman gives them addresses.
        // The flag of a runner beats that of a job, so it is set only where the job says nothing.
        let said = payload
            .variables
            .iter()
            .any(|variable| variable.key == NETWORK_FLAG);
        if !payload.services.is_empty() && !said {
            runner.feature_flags.insert(NETWORK_FLAG.to_owned(), true);
        }
        runner
    }
}

fn giver(given: &Given) -> Option<Giver> {
    let (_, size) = given.archive.as_ref()?;
    Some(Giver {
        id: given.id,
        name: given.job.clone(),
        size: i64::try_from(*size).unwrap_or(i64::MAX),
    })
}

/// Whether a job that hands on to this one reports variables, or is not there to be asked.
fn may_get_variables(pipeline: &Pipeline, job: &PipelineJob) -> bool {
    job.receives.iter().any(|giver| {
        pipeline.job(giver).is_none_or(|giver| {
            let mut reports = giver.artifacts.reports.iter();
            reports.any(|report| report.kind == DOTENV)
        })
    })
}

fn has_caches(payload: &JobPayload) -> bool {
    payload
        .cache
        .iter()
        .any(|cache| cache.untracked || !cache.paths.is_empty())
}

/// Gives each image its pull policy, and a job without image the one of the run.
fn choose_images(payload: &mut JobPayload, options: &RunOptions) -> Result<(), String> {
    let image = payload.image.get_or_insert_with(Image::default);
    if image.name.is_empty() {
        image.name = options.image.clone().ok_or(
            "it names no image: add `image` to it or to `default`, or give one with --image",
        )?;
    }
    for image in payload.image.iter_mut().chain(&mut payload.services) {
        match options.pull_policy {
            Some(policy) => image.pull_policy = vec![policy.name().to_owned()],
            None if image.pull_policy.is_empty() => {
                image.pull_policy = vec![PullPolicy::IfNotPresent.name().to_owned()];
            }
            None => {}
        }
    }
    Ok(())
}

/// Whether the job's folder holds the project: with `GIT_STRATEGY` `none` or `empty` a new folder
/// holds nothing on a server either.
fn wants_sources(payload: &JobPayload) -> bool {
    !["none", "empty"].contains(&value(payload, "GIT_STRATEGY"))
}

/// The plan has refused other strategies.
fn wanted_submodules(payload: &JobPayload) -> Submodules {
    match value(payload, "GIT_SUBMODULE_STRATEGY") {
        "normal" => Submodules::Direct,
        "recursive" => Submodules::Nested,
        _ => Submodules::None,
    }
}

/// The last value of a variable; empty if there is none.
fn value<'a>(payload: &'a JobPayload, key: &str) -> &'a str {
    let mut variables = payload.variables.iter().rev();
    let found = variables.find(|variable| variable.key == key);
    found.map_or("", |variable| &variable.value)
}

#[cfg(test)]
mod tests;
