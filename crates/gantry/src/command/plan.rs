use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use gantry_config::RunnerConfig;
use gantry_container::{EngineFacts, EngineFlavor};
use gantry_job::{Cause, JobPayload, SecretRequests};
use gantry_plan::{ArtifactsAt, HostFacts, Inputs, Numbers, Sources, render};

use crate::{cli::OutputFormat, error::CliError, host};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Job payload as GitLab sends it (the body of `jobs/request`); `-` reads the standard input
    job: PathBuf,
    /// Configuration file
    #[arg(short, long, env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the `[[runners]]` entry; the first that can be used if not given
    #[arg(short, long, value_name = "NAME")]
    runner: Option<String>,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value_t, value_enum)]
    format: OutputFormat,
}

pub(crate) fn run(args: &PlanArgs) -> Result<ExitCode, CliError> {
    let path = args.config.clone().unwrap_or_else(host::default_config);
    let loaded = gantry_config::load(&path, &host::placeholders())
        .map_err(|error| CliError::new(error.to_string()))?;
    if loaded.stamp.is_none() {
        return Err(CliError::new(format!("{} does not exist", path.display()))
            .hint("name the configuration file with -c FILE"));
    }
    for warning in &loaded.warnings {
        writeln!(std::io::stderr(), "warning: {}: {warning}", path.display())?;
    }
    let runner = loaded
        .config
        .usable_runners()
        .find(|runner| args.runner.as_ref().is_none_or(|name| *name == runner.name))
        .cloned()
        .ok_or_else(|| {
            CliError::new(format!(
                "{} has no such [[runners]] entry that can be used",
                path.display()
            ))
            .hint("name one with executor = \"docker\" and a token by --runner NAME")
        })?;
    let bytes = payload_bytes(&args.job)
        .map_err(|error| CliError::new(format!("read {}: {error}", args.job.display())))?;
    let payload = JobPayload::from_slice(&bytes)
        .map_err(|error| CliError::new(format!("{}: {error}", args.job.display())))?;
    let ignored = &loaded.config.gantry.ignore_unsupported;
    if let Some(cause) = gantry_plan::refusal(&payload, |keyword| ignored.allows(keyword)) {
        return Err(would_fail(&cause));
    }
    let facts = host::facts(
        &loaded.config.gantry,
        "s_000000000000".to_owned(),
        "0".repeat(16),
    );
    print(args, &payload, &runner, &facts)
}

fn print(
    args: &PlanArgs,
    payload: &JobPayload,
    runner: &RunnerConfig,
    facts: &HostFacts,
) -> Result<ExitCode, CliError> {
    let tls = gantry_job::TlsFiles::default();
    // Nobody is asked for secrets: a plan shows no values anyway.
    let secrets = SecretRequests::placeholders(payload);
    let inputs = Inputs {
        payload,
        runner,
        host: facts,
        engine: &usual_engine(),
        numbers: Numbers::default(),
        seed: [0; 8],
        tls: &tls,
        correlation_id: None,
        sources: Sources::Git,
        secrets: &secrets,
        artifacts: ArtifactsAt::Server,
    };
    let log = gantry_plan::log_plan(payload, runner, facts, inputs.numbers, &secrets);
    let plan = gantry_plan::plan(&inputs).map_err(|cause| would_fail(&cause))?;
    let text = match args.format {
        OutputFormat::Text => render::text(&plan, &log.masks),
        OutputFormat::Json => {
            let json = render::json(&plan, &log.masks);
            let mut text = serde_json::to_string_pretty(&json)
                .map_err(|error| CliError::new(error.to_string()))?;
            text.push('\n');
            text
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn payload_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    if path != Path::new("-") {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn would_fail(cause: &Cause) -> CliError {
    CliError::new(format!("the job would fail: {}", cause.message()))
}

/// The plan is printed without asking an engine, so that it can be looked at anywhere.
fn usual_engine() -> EngineFacts {
    EngineFacts {
        flavor: EngineFlavor::Docker,
        version: String::new(),
        api_version: "1.41".to_owned(),
        os: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        host_name: String::new(),
    }
}
