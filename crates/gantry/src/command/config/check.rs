use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use gantry_config::{ConfigError, Loaded};
use serde_json::{Value, json};

use super::{FileArgs, print, print_json, read};
use crate::{cli::OutputFormat, error::CliError, host};

/// Arguments of `config check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The file; else that of `--config`
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    of: FileArgs,
    /// Take warnings and unknown keys for mistakes
    #[arg(long)]
    strict: bool,
}

/// Prints all findings. Mistakes are exit code 1; warnings and unknown keys are with `--strict`.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, CliError> {
    let path = args.file.clone().unwrap_or_else(|| args.of.path());
    let bytes =
        read(&path)?.ok_or_else(|| CliError::new(format!("{} does not exist", path.display())))?;
    let found = gantry_config::parse(&bytes, &path, &host::placeholders());
    match args.of.format {
        OutputFormat::Json => print_json(&as_json(&path.display().to_string(), &found))?,
        OutputFormat::Text => print(&as_text(&path.display().to_string(), &found))?,
    }
    let odd = |loaded: &Loaded| !loaded.warnings.is_empty() || !loaded.unknown_keys.is_empty();
    Ok(match &found {
        Err(_) => ExitCode::FAILURE,
        Ok(loaded) if args.strict && odd(loaded) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
    })
}

fn as_text(path: &str, found: &Result<Loaded, ConfigError>) -> String {
    let loaded = match found {
        Ok(loaded) => loaded,
        Err(error) => return format!("{error}\n{path} cannot be used\n"),
    };
    let mut lines: Vec<(usize, String)> = Vec::new();
    for warning in &loaded.warnings {
        let runner = warning.runner.as_deref().filter(|name| !name.is_empty());
        let runner = runner.map_or_else(String::new, |name| format!(" (runner {name:?})"));
        lines.push((
            warning.line,
            format!("warning: {}{runner}: {}", warning.key, warning.message),
        ));
    }
    for unknown in &loaded.unknown_keys {
        let hint = unknown
            .did_you_mean
            .map_or_else(String::new, |known| format!("; did you mean {known}?"));
        lines.push((unknown.line, format!("unknown key: {}{hint}", unknown.key)));
    }
    lines.sort();
    let count = lines.len();
    let mut text: String = lines
        .into_iter()
        .map(|(line, words)| format!("{path}:{line}: {words}\n"))
        .collect();
    let runners = loaded.config.usable_runners().count();
    let noticed = match count {
        0 => String::new(),
        1 => ", 1 thing to look at".to_owned(),
        count => format!(", {count} things to look at"),
    };
    let plural = if runners == 1 { "" } else { "s" };
    writeln!(
        text,
        "{path} is valid: {runners} runner{plural} can be used{noticed}"
    )
    .ok();
    text
}

fn as_json(path: &str, found: &Result<Loaded, ConfigError>) -> Value {
    match found {
        Err(ConfigError::Invalid { problems, .. }) => {
            let problems: Vec<_> = problems
                .iter()
                .map(|problem| {
                    json!({
                        "line": problem.line, "column": problem.column, "key": problem.key,
                        "message": problem.message,
                    })
                })
                .collect();
            json!({"file": path, "valid": false, "problems": problems})
        }
        Err(error) => {
            json!({"file": path, "valid": false, "problems": [{"message": error.to_string()}]})
        }
        Ok(loaded) => {
            let warnings: Vec<_> = loaded
                .warnings
                .iter()
                .map(|warning| {
                    json!({
                        "line": warning.line, "key": warning.key, "runner": warning.runner,
                        "message": warning.message,
                    })
                })
                .collect();
            let unknown: Vec<_> = loaded
                .unknown_keys
                .iter()
                .map(|key| {
                    json!({"line": key.line, "key": key.key, "did_you_mean": key.did_you_mean})
                })
                .collect();
            json!({
                "file": path, "valid": true, "problems": [], "warnings": warnings, "unknown_keys": unknown,
                "runners": loaded.config.usable_runners().count(),
            })
        }
    }
}
