//! From a job of a pipeline to the payload that an executor takes, as a GitLab server would send
//! it (coordinator-api §5).

use std::time::Duration;

use gantry_job::payload::{
    AFTER_SCRIPT_STEP, Dependency, DependencyFile, DockerOpts, ExecutorOpts, GitInfo, Image,
    JobInfo, RunnerInfo, SCRIPT_STEP, Step,
};
use gantry_job::{JobPayload, Secret, Variable};

use crate::expand::{ExpandError, expand};
use crate::pipeline::{self, JobSecret, PipelineJob, PullPolicy, Service};
use crate::predefined::{
    GitFacts, Giver, JobFacts, ProjectFacts, ProjectNames, predefined, user_variables,
};

mod archives;

#[cfg(test)]
mod tests;

pub use archives::KeyHashes;

/// Timeout of a job where the run has none: GitLab's default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);

/// What all jobs of one run share.
#[derive(Debug, Clone, Default)]
pub struct LocalRun {
    /// What git tells.
    pub git: GitFacts,
    /// Where and who.
    pub project: ProjectFacts,
    /// Variables of the run, which win over everything (local-pipelines C1 row 8).
    pub variables: Vec<Variable>,
    /// Longest time a job may take; none is [`DEFAULT_TIMEOUT`].
    pub timeout: Option<Duration>,
    /// What keys of caches are made of.
    pub key_hashes: KeyHashes,
}

/// The payload of a job. It asks for no section marks and holds no token; its `repo_url` names the
/// project, which decides the project directory, and is not meant to be fetched from.
///
/// # Errors
/// When variables refer to each other in a circle.
pub fn to_payload(
    job: &PipelineJob,
    run: &LocalRun,
    facts: &JobFacts,
) -> Result<JobPayload, ExpandError> {
    let names = ProjectNames::new(&run.git, &run.project);
    let timeout = run.timeout.unwrap_or(DEFAULT_TIMEOUT).as_secs().max(1);
    let timeout = i64::try_from(timeout).unwrap_or(i64::MAX);
    Ok(JobPayload {
        id: facts.job_id,
        allow_git_fetch: true,
        job_info: JobInfo {
            name: job.name.clone(),
            stage: job.stage.clone(),
            pipeline_id: facts.pipeline_id,
            project_id: names.id,
            project_name: names.name().to_owned(),
            project_full_path: names.path().to_owned(),
            namespace_id: names.namespace_id,
            ..JobInfo::default()
        },
        git_info: git_info(&run.git, &names),
        runner_info: RunnerInfo {
            timeout,
            ..RunnerInfo::default()
        },
        variables: job_variables(job, run, facts)?,
        steps: steps(job, timeout),
        image: job.image.as_ref().map(image),
        services: job.services.iter().map(service).collect(),
        artifacts: archives::artifacts(&job.artifacts),
        cache: archives::caches(&job.cache, &run.key_hashes),
        dependencies: facts.dependencies.iter().map(dependency).collect(),
        ..JobPayload::default()
    })
}

/// All variables of a job from weakest to strongest (local-pipelines C1), expanded as a server
/// does (C2). Rows 3 and 7 have no counterpart here yet.
///
/// # Errors
/// When variables refer to each other in a circle.
pub fn job_variables(
    job: &PipelineJob,
    run: &LocalRun,
    facts: &JobFacts,
) -> Result<Vec<Variable>, ExpandError> {
    let mut variables = predefined(job, &run.git, &run.project, facts);
    variables.extend(job.variables.iter().map(variable));
    variables.extend(user_variables(&run.project.user));
    variables.extend(facts.reported.iter().cloned());
    variables.extend(run.variables.iter().cloned());
    // No server knows the secrets of a job: what refers to them, the runner expands.
    let is_secret = |variable: &Variable| job.secrets.iter().any(|one| one.name == variable.key);
    variables.retain(|variable| !is_secret(variable));
    let mut variables = expand(variables)?;
    variables.extend(job.secrets.iter().filter_map(|secret| {
        let given = given_secret(run, &secret.name)?;
        // As the runner makes them of what a provider says (job-lifecycle §7).
        Some(Variable {
            masked: true,
            raw: true,
            file: secret.file,
            ..Variable::new(&secret.name, &given.value)
        })
    }));
    Ok(variables)
}

fn given_secret<'a>(run: &'a LocalRun, name: &str) -> Option<&'a Variable> {
    run.variables
        .iter()
        .rev()
        .find(|variable| variable.key == name)
}

/// Secrets of a job for which the run brings no value: the job cannot be run (local-pipelines A5, "secrets").
pub fn missing_secrets<'a>(job: &'a PipelineJob, run: &LocalRun) -> Vec<&'a JobSecret> {
    job.secrets
        .iter()
        .filter(|secret| given_secret(run, &secret.name).is_none())
        .collect()
}

fn variable(variable: &pipeline::Variable) -> Variable {
    Variable {
        public: true,
        raw: !variable.expand,
        ..Variable::new(variable.key.clone(), variable.value.clone())
    }
}

fn git_info(git: &GitFacts, names: &ProjectNames) -> GitInfo {
    let tag = git.pipeline_tag();
    let refspec = match (&git.branch, tag) {
        (Some(branch), _) => Some(format!("+refs/heads/{branch}:refs/remotes/origin/{branch}")),
        (None, Some(tag)) => Some(format!("+refs/tags/{tag}:refs/tags/{tag}")),
        (None, None) => None,
    };
    GitInfo {
        repo_url: Secret::new(format!("{}/{}.git", names.remote, names.path())),
        repo_object_format: if git.sha256 { "sha256" } else { "sha1" }.to_owned(),
        ref_name: git.ref_name().to_owned(),
        sha: git.sha(),
        before_sha: git.zero_sha(),
        ref_type: if tag.is_some() { "tag" } else { "branch" }.to_owned(),
        refspecs: refspec.into_iter().collect(),
        depth: 0,
        protected: Some(false),
    }
}

fn steps(job: &PipelineJob, timeout: i64) -> Vec<Step> {
    let mut steps = vec![Step {
        name: SCRIPT_STEP.to_owned(),
        script: job
            .before_script
            .iter()
            .chain(&job.script)
            .cloned()
            .collect(),
        timeout,
        when: "on_success".to_owned(),
        allow_failure: false,
    }];
    if !job.after_script.is_empty() {
        steps.push(Step {
            name: AFTER_SCRIPT_STEP.to_owned(),
            script: job.after_script.clone(),
            timeout,
            when: "always".to_owned(),
            allow_failure: true,
        });
    }
    steps
}

fn image(image: &pipeline::Image) -> Image {
    Image {
        name: image.name.clone(),
        entrypoint: image.entrypoint.clone(),
        pull_policy: image
            .pull_policy
            .iter()
            .map(|policy| policy_name(*policy))
            .collect(),
        executor_opts: ExecutorOpts {
            docker: DockerOpts {
                platform: image.docker.platform.clone(),
                user: image.docker.user.clone(),
                ..DockerOpts::default()
            },
            ..ExecutorOpts::default()
        },
        ..Image::default()
    }
}

fn service(service: &Service) -> Image {
    Image {
        alias: service.alias.clone(),
        command: service.command.clone(),
        variables: service.variables.iter().map(variable).collect(),
        ..image(&service.image)
    }
}

fn dependency(giver: &Giver) -> Dependency {
    Dependency {
        id: giver.id,
        name: giver.name.clone(),
        artifacts_file: DependencyFile {
            filename: "artifacts.zip".to_owned(),
            size: giver.size,
        },
        ..Dependency::default()
    }
}

fn policy_name(policy: PullPolicy) -> String {
    policy.as_str().to_owned()
}
