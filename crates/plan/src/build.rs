//! Puts the plan together.

use gantry_job::{Cause, FeatureFlag};

use crate::{
    Inputs, Names, Plan, RegistryCredentials, ScriptOptions, Sources,
    containers::{self, Scope},
    directories, images, labels, limits,
    network::Network,
    policy,
    resolve::{self, Resolved, configuration},
    services, stages, volumes,
};

/// Shells whose scripts this version writes.
const SHELLS: [&str; 3] = ["bash", "sh", "pwsh"];

/// Decides everything a job needs. [`crate::refusal()`] has been asked before.
///
/// # Errors
/// What is wrong with the job or the runner's configuration, as the job's cause of failure.
pub fn plan(inputs: &Inputs<'_>) -> Result<Plan, Cause> {
    if inputs.engine.os != "linux" {
        return Err(Cause::Engine {
            what: "reading the engine's facts".to_owned(),
            message: format!(
                "unsupported os type: {} (only engines with Linux containers are supported)",
                inputs.engine.os
            ),
        });
    }
    let shell = inputs.runner.shell.as_deref().unwrap_or("bash");
    if !SHELLS.contains(&shell) {
        return Err(configuration(format!(
            "shell {shell:?} is not supported: set `shell` in [[runners]] to \"bash\", \"sh\" or \"pwsh\", or leave it out"
        )));
    }
    let resolved = resolve::resolve(inputs)?;
    let run = format!("{}-{}", resolved.project_unique, volumes::hex(&inputs.seed));
    let labels = labels::default_set(inputs, &resolved);
    let volumes = volumes::plan(inputs, &resolved, &run, &labels)?;
    let network = Network::plan(inputs, &resolved, &labels);
    let with_helper = stages::need_helper(inputs, &resolved, volumes.project_is_kept);
    let scope = Scope {
        inputs,
        resolved: &resolved,
        run: &run,
        labels: &labels,
        network: &network,
        binds: &volumes.binds,
    };
    let build = containers::build(&scope)?;
    let services = services::plan(&scope)?;
    let helper = with_helper
        .then(|| containers::helper(&scope))
        .transpose()?;
    let limits = limits::plan(inputs, &resolved);
    let wait_for_services = limits::wait_for_services(inputs, &limits);
    let service_check = (wait_for_services >= 0)
        .then(|| services::check(&scope))
        .flatten();
    let settings = &resolved.settings;
    let job_image = resolved.payload.image.as_ref();
    let entrypoint_warning = job_image.and_then(|image| scope.entrypoint_warning(image));
    let mut warnings = resolved.warnings.clone();
    warnings.extend(entrypoint_warning);
    Ok(Plan {
        job_id: inputs.payload.id,
        job_name: inputs.payload.job_info.name.clone(),
        policy: policy::lines(&inputs.payload.policy_options),
        image_name: build.image.reference.clone(),
        default_image_used: job_image.is_none_or(|image| image.name.is_empty()),
        helper_overrides: images::helper_override(inputs, &resolved)
            .map(|_| inputs.host.helper_image.clone()),
        make_directories: match inputs.sources {
            Sources::WorkingTree => {
                directories::on_the_way(&resolved.directories.builds, &resolved.directories.project)
            }
            Sources::Git => Vec::new(),
        },
        stages: stages::plan(inputs, &resolved, with_helper),
        script: ScriptOptions {
            sh: shell == "sh",
            pwsh: shell == "pwsh",
            debug_trace: settings.debug_trace,
            trace_sections: resolved.payload.features.trace_sections,
            create_project_dir: !with_helper,
            flags: resolved.flags.clone(),
        },
        credentials: credentials(&resolved),
        give_to_image_user: stages::gives_to_image_user(inputs, &resolved),
        native_stop: resolved.flags.is_on(FeatureFlag::UseNativeContainerStop),
        after_script_ignore_errors: settings.after_script_ignore_errors,
        section_attempts: settings.executor_job_section_attempts,
        wait_for_services,
        service_check,
        debug_services: settings.debug_services,
        names: Names {
            short_token: resolved.short_token,
            project_unique: resolved.project_unique,
            run,
            runner_host: inputs.host.name.clone(),
        },
        warnings,
        script_warnings: resolved.timeouts.warnings,
        directories: resolved.directories,
        variables: resolved.variables,
        volumes: volumes.created,
        folders: volumes.folders,
        network: network.own,
        services,
        build,
        helper,
        limits,
        labels,
    })
}

/// Where registry credentials come from (docker-executor §3.6). A file variable counts with its content.
fn credentials(resolved: &Resolved) -> RegistryCredentials {
    let config = resolved.settings.docker_auth_config.as_ref();
    let payload = resolved.payload.credentials.iter();
    RegistryCredentials {
        docker_auth_config: config.map(|config| config.expose().to_owned()),
        payload: payload
            .filter(|credential| credential.kind == "registry")
            .map(|credential| {
                let password = credential.password.expose().to_owned();
                (
                    credential.url.clone(),
                    credential.username.clone(),
                    password,
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
