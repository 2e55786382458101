//! Stages of a job in order, and what each does (job-lifecycle §1.2).

use gantry_job::{GitStrategy, Stage, payload::Step};

use crate::{Inputs, PlannedStage, ScriptWork, Sources, StageWork, resolve::Resolved, sources};

/// Name of the step whose lines the runner expands (job-lifecycle §2.3).
const RELEASE_STEP: &str = "release";

/// Whether a stage needs the helper: git, or something to remove from storage that is kept.
pub(crate) fn need_helper(inputs: &Inputs<'_>, resolved: &Resolved, project_is_kept: bool) -> bool {
    match inputs.sources {
        Sources::WorkingTree => false,
        Sources::Git => resolved.settings.git_strategy.uses_repository() || project_is_kept,
    }
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
    let cleanup = if helper {
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
