//! Decides what a job needs: stages, containers, volumes, networks and images, as plain data.
//!
//! [`plan()`] is a pure function: random parts, host and engine facts are inputs. The executor walks the plan and never computes one
//! again for a job that runs. Every rule of the product page that is about *what* is made is a plain unit test here.
//!
//! | Module | Decides |
//! |---|---|
//! | `refusal` | what this version does not do, and so refuses by name |
//! | `resolve` | variables, flags, settings, expanded names |
//! | `log_plan` | header, masks and form of the log |
//! | `secrets` | what is asked of servers of secrets |
//! | `directories`, `volumes`, `network` | paths, storage and network |
//! | `images` | references and pull policies |
//! | `containers`, `services`, `labels` | create bodies |
//! | `stages`, `sources`, `cache`, `artifacts`, `limits` | order of stages, what each does, for how long |
//! | `object` | names of objects in the remote cache |
//! | `build` | puts it together |
//! | [`render`] | prints a plan without its secrets |

mod allow_list;
mod artifacts;
mod build;
mod cache;
mod containers;
mod directories;
#[cfg(test)]
mod fixture;
mod images;
mod inputs;
mod labels;
mod limits;
mod log_plan;
mod network;
mod object;
mod policy;
mod refusal;
pub mod render;
mod resolve;
mod secrets;
mod services;
mod sources;
mod stages;
mod types;
mod url;
mod volumes;

pub use build::plan;
pub use gantry_config::PullPolicy;
pub use inputs::{
    ArtifactsAt, GIVEN_ARTIFACTS, HostFacts, Inputs, KEPT_ARTIFACTS, Numbers, Sources,
};
pub use labels::job_url;
pub use log_plan::log_plan;
pub use refusal::refusal;
pub use secrets::secret_requests;
pub use types::{
    CacheArchive, CacheObject, CacheRestore, Directories, Limits, LogPlan, Names, Plan,
    PlannedContainer, PlannedImage, PlannedService, PlannedStage, PlannedVolume,
    RegistryCredentials, ScriptOptions, ScriptWork, ServiceCheck, StageWork, replayable_log,
};

use gantry_container::Labels;
use gantry_job::JobStatus;
use gantry_shell::{BuildScript, Rendered, ScriptKind, Shell};

/// Label of every object of this runner: the random id of its state folder. The sweep touches objects with this id alone.
pub const STATE_LABEL: &str = "gantry.state";
/// Prefix of the peer's labels (docker-executor §8).
pub const LABEL_PREFIX: &str = "com.gitlab.gitlab-runner.";
/// Label with the job's id.
pub const JOB_LABEL: &str = "com.gitlab.gitlab-runner.job.id";
/// Label with the short token of the job's runner.
pub const RUNNER_LABEL: &str = "com.gitlab.gitlab-runner.runner.id";
/// Label with the project's id.
pub const PROJECT_LABEL: &str = "com.gitlab.gitlab-runner.project.id";
/// Label with the job's number among running jobs of its runner, [`Numbers::concurrent`].
pub const NUMBER_LABEL: &str = "com.gitlab.gitlab-runner.runner.local_id";
/// Label with the job's number among running jobs of its runner and project, [`Numbers::concurrent_project`].
pub const PROJECT_NUMBER_LABEL: &str = "com.gitlab.gitlab-runner.project.runner_id";

impl Plan {
    /// Labels that only this job's objects carry.
    pub fn own_labels(&self) -> Labels {
        self.labels
            .iter()
            .filter(|(key, _)| [STATE_LABEL, JOB_LABEL].contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Name of the never started container that carries uploads.
    pub fn carrier_name(&self) -> String {
        format!("{}-carrier", self.names.run)
    }

    /// The script of a stage as the build container's shell reads it; `start_mark` is printed first.
    pub fn script(
        &self,
        work: &ScriptWork,
        after_script: bool,
        status: JobStatus,
        start_mark: &str,
    ) -> Rendered {
        let mut variables = self.variables.clone();
        if after_script {
            variables.set_job_status(status);
        }
        let kind = if after_script {
            ScriptKind::AfterScript
        } else {
            ScriptKind::Step {
                pre_build_script: &work.pre_build_script,
                post_build_script: &work.post_build_script,
            }
        };
        let script = BuildScript {
            shell: match (self.script.pwsh, self.script.sh) {
                (true, _) => Shell::Pwsh,
                (false, true) => Shell::Sh,
                (false, false) => Shell::Bash,
            },
            kind,
            commands: &work.lines,
            variables: &variables,
            project_dir: &self.directories.project,
            tmp_dir: &self.directories.temporary,
            create_project_dir: self.script.create_project_dir,
            flags: &self.script.flags,
            debug_trace: self.script.debug_trace,
            trace_sections: self.script.trace_sections,
            start_nonce: Some(start_mark),
        };
        script.render()
    }
}
