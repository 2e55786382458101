//! How the log of a job is written.

use gantry_config::RunnerConfig;
use gantry_container::{EngineFacts, EngineFlavor};
use gantry_job::{FeatureFlag, JobPayload, Masks, TlsFiles, Variable};

use crate::{ArtifactsAt, HostFacts, Inputs, LogPlan, Numbers, Sources, resolve};

/// How the log of a job is written. Needs no engine and never fails, so that every failure has a log to stand in. Asked again
/// with the external `secrets` when these are known, for what they add to the masks.
pub fn log_plan(
    payload: &JobPayload,
    runner: &RunnerConfig,
    host: &HostFacts,
    numbers: Numbers,
    secrets: &[Variable],
) -> LogPlan {
    let tls = TlsFiles::default();
    let inputs = Inputs {
        payload,
        runner,
        host,
        engine: &any_engine(),
        numbers,
        seed: [0; 8],
        tls: &tls,
        correlation_id: None,
        sources: Sources::Git,
        secrets,
        artifacts: ArtifactsAt::Server,
    };
    let (flags, variables, debug_trace) = match resolve::resolve(&inputs) {
        Ok(resolved) => (
            resolved.flags,
            resolved.variables,
            // Both show more than a log otherwise does; the server lets fewer people read it then (coordinator-api §6).
            resolved.settings.debug_trace || resolved.settings.debug_services,
        ),
        // The plan will fail of the same cause, so no script runs; what is masked is masked all the same.
        Err(_) => {
            let preliminary = resolve::preliminary(&inputs);
            (preliminary.flags, preliminary.variables, false)
        }
    };
    let mut header = vec![
        format!(
            "Running with gitlab-runner {} ({})",
            host.version, host.revision
        ),
        format!(
            "  on {} {}, system ID: {}",
            runner.name,
            runner.short_token(),
            host.system_id
        ),
    ];
    let changed: Vec<_> = flags
        .non_default()
        .iter()
        .map(|(flag, on)| format!("{flag}:{on}"))
        .collect();
    if !changed.is_empty() {
        header.push(format!("  feature flags: {}", changed.join(", ")));
    }
    if !payload.inputs.is_empty()
        && gantry_job::inputs::interpolate(&mut payload.clone(), &flags).is_err()
    {
        // Nothing is printed but the error (job-lifecycle §1.1 row 1).
        header.clear();
    }
    LogPlan {
        timestamps: flags.is_on(FeatureFlag::Timestamps),
        sections: payload.features.trace_sections,
        limit_bytes: runner.output_limit,
        masks: Masks::of_job(payload, &variables, &flags, host.mask_encoded),
        header,
        debug_trace,
    }
}

/// Neither variables nor settings depend on the engine; certificates are files, so that values refer to their paths alone.
pub(crate) fn any_engine() -> EngineFacts {
    EngineFacts {
        flavor: EngineFlavor::Docker,
        version: String::new(),
        api_version: String::new(),
        os: "linux".to_owned(),
        architecture: String::new(),
        host_name: String::new(),
    }
}

#[cfg(test)]
mod tests;
