//! Stages of a job in order, and what each does (job-lifecycle §1.2).

use gantry_job::{FeatureFlag, GitStrategy, Stage, payload::Step};

use crate::{
    Inputs, PlannedStage, ScriptWork, Sources, StageWork, artifacts,
    cache::{self, Ended},
    resolve::Resolved,
    sources,
};

/// Name of the step whose lines the runner expands (job-lifecycle §2.3).
const RELEASE_STEP: &str = "release";

/// Whether a stage needs the helper: git, or something to remove from storage that is kept.
pub(crate) fn need_helper(inputs: &Inputs<'_>, resolved: &Resolved, project_is_kept: bool) -> bool {
    let sources = match inputs.sources {
        Sources::WorkingTree => false,
        Sources::Git => resolved.settings.git_strategy.uses_repository() || project_is_kept,
    };
    sources
        || gives_to_image_user(inputs, resolved)
        || before_scripts(inputs, resolved).next().is_some()
        || after_scripts(inputs, resolved).next().is_some()
}

/// Whether the files of the job become those of the build image's user (docker-executor §7.4). In a local run they are nobody's:
/// every user may write to them, and the working tree has its own modes.
pub(crate) fn gives_to_image_user(inputs: &Inputs<'_>, resolved: &Resolved) -> bool {
    inputs.sources == Sources::Git
        && resolved
            .flags
            .is_on(FeatureFlag::DisableUmaskForDockerExecutor)
}

/// What the helper fetches once the sources are there.
fn before_scripts<'a>(
    inputs: &'a Inputs<'a>,
    resolved: &'a Resolved,
) -> impl Iterator<Item = PlannedStage> + 'a {
    let settings = &resolved.settings;
    [
        (
            Stage::RestoreCache,
            cache::restore(inputs, resolved),
            settings.restore_cache_attempts,
        ),
        (
            Stage::DownloadArtifacts,
            artifacts::download(inputs, resolved),
            settings.artifact_download_attempts,
        ),
    ]
    .into_iter()
    .filter_map(|(stage, work, attempts)| {
        Some(PlannedStage {
            stage,
            work: work?,
            attempts,
        })
    })
}

/// What the helper keeps of the job, for each of the two ways the scripts may end.
fn after_scripts<'a>(
    inputs: &'a Inputs<'a>,
    resolved: &'a Resolved,
) -> impl Iterator<Item = PlannedStage> + 'a {
    let well = Ended::Well;
    let badly = Ended::Badly;
    [
        (Stage::ArchiveCache, cache::archive(inputs, resolved, well)),
        (
            Stage::ArchiveCacheOnFailure,
            cache::archive(inputs, resolved, badly),
        ),
        (
            Stage::UploadArtifactsOnSuccess,
            artifacts::upload(inputs, resolved, well),
        ),
        (
            Stage::UploadArtifactsOnFailure,
            artifacts::upload(inputs, resolved, badly),
        ),
    ]
    .into_iter()
    .filter_map(|(stage, work)| {
        Some(PlannedStage {
            stage,
            work: work?,
            attempts: 1,
        })
    })
}

pub(crate) fn plan(inputs: &Inputs<'_>, resolved: &Resolved, helper: bool) -> Vec<PlannedStage> {
    let settings = &resolved.settings;
    let greeting = format!(
        "Running on {} via {}...",
        resolved.project_unique, inputs.host.name
    );
    let get_sources = match (inputs.sources, helper) {
        (Sources::WorkingTree, _) => {
            StageWork::Lines(vec![notice("Using the working tree as it is")])
        }
        (Sources::Git, true) => StageWork::Sources(Box::new(sources::sources(inputs, resolved))),
        (Sources::Git, false) => StageWork::Lines(without_repository(settings.git_strategy)),
    };
    // Nothing of a local run is kept.
    let cleanup = if helper && inputs.sources == Sources::Git {
        StageWork::Cleanup(sources::cleanup(inputs, resolved))
    } else {
        StageWork::Lines(Vec::new())
    };
    let script = |stage, work| PlannedStage {
        stage,
        work: StageWork::Script(work),
        attempts: settings.executor_job_section_attempts,
    };
    let once = |stage, work| PlannedStage {
        stage,
        work,
        attempts: 1,
    };
    let mut stages = vec![
        once(Stage::PrepareScript, StageWork::Lines(vec![greeting])),
        PlannedStage {
            stage: Stage::GetSources,
            work: get_sources,
            attempts: settings.get_sources_attempts,
        },
    ];
    stages.extend(before_scripts(inputs, resolved));
    let steps = resolved.payload.script_steps();
    stages.extend(steps.map(|step| {
        script(
            Stage::of_step(&step.name),
            user_script(inputs, resolved, step),
        )
    }));
    if let Some(step) = resolved.payload.after_script() {
        let work = ScriptWork {
            lines: step.script.clone(),
            pre_build_script: String::new(),
            post_build_script: String::new(),
        };
        stages.push(script(Stage::AfterScript, work));
    }
    stages.extend(after_scripts(inputs, resolved));
    stages.push(once(Stage::CleanupFileVariables, cleanup));
    stages
}

fn user_script(inputs: &Inputs<'_>, resolved: &Resolved, step: &Step) -> ScriptWork {
    let mut lines = step.script.clone();
    if step.name == RELEASE_STEP {
        for line in &mut lines {
            *line = resolved.variables.expand(line);
        }
    }
    ScriptWork {
        lines,
        pre_build_script: inputs.runner.pre_build_script.clone(),
        post_build_script: inputs.runner.post_build_script.clone(),
    }
}

fn notice(text: &str) -> String {
    format!("\x1b[32;1m{text}\x1b[0;m")
}

/// What the peer prints where there is no repository (job-lifecycle §4.2).
fn without_repository(strategy: GitStrategy) -> Vec<String> {
    let first = match strategy {
        GitStrategy::Empty => "Skipping Git repository setup and creating an empty build directory",
        GitStrategy::Fetch | GitStrategy::Clone | GitStrategy::None => {
            "Skipping Git repository setup"
        }
    };
    [
        first,
        "Skipping Git checkout",
        "Skipping Git submodules setup",
    ]
    .map(notice)
    .to_vec()
}

#[cfg(test)]
mod tests;
