use std::{
    error::Error,
    io::{IsTerminal as _, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum;
use gantry_config::Config;
use gantry_engine::{EngineError, SharedEngine};
use gantry_job::{Variable, duration};
use gantry_local::{
    Project, ProjectError, RunError, RunOptions, SIGINT, Setup, Stop, Style, VariablesFileError,
    facts, listing,
};
use gantry_pipeline::{Pipeline, PipelineError, Problem};
use gantry_plan::PullPolicy;
use gantry_runner::EngineSettings;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    cli::{LoggingArgs, OutputFormat},
    error::CliError,
    host, logging,
};

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The working tree is used as it is: changed and untracked files too, ignored ones not. It is never written to.
Artifacts go to the jobs that get them on a server, too, and to a folder that is named at the end; caches are kept for the next run.
Ctrl-C stops the jobs, runs their after_script and removes everything; a second one leaves at once.
The exit code is 0 if all jobs passed or may fail, else 1.")]
pub(crate) struct ExecArgs {
    /// Jobs to run, by name; all of them, stage by stage, if none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Pipeline file, instead of .gitlab-ci.yml at the root of the repository
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// List the jobs by stage and run nothing
    #[arg(long)]
    list: bool,
    /// Form of the list
    #[arg(
        long,
        value_name = "FORMAT",
        default_value_t,
        value_enum,
        requires = "list"
    )]
    format: OutputFormat,
    /// Most jobs side by side; as many as there are CPUs if not given
    #[arg(short = 'j', long = "jobs", value_name = "N")]
    at_once: Option<NonZeroUsize>,
    /// Set a variable, over those of the file; a KEY alone takes its value from the environment
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<Variable>,
    /// File of variables, a map in YAML: also the values of `secrets`; .gitlab-ci-local-variables.yml if not given and there
    #[arg(long, value_name = "FILE")]
    variables_file: Option<PathBuf>,
    /// When to pull images, whatever the file says; as the file says, else if not present, if not given
    #[arg(long, value_name = "WHEN")]
    pull_policy: Option<PullPolicyArg>,
    /// Image of jobs that name none
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Longest time of a job, e.g. 90s, 10m or 1h30m; one hour if not given
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// Give extended privileges to the containers
    #[arg(long)]
    privileged: bool,
    /// Go on with later stages when a job fails; only jobs that need it are skipped
    #[arg(short, long)]
    keep_going: bool,
    /// Folder for the artifacts, with a folder for each job; a folder of your state directory if not given
    #[arg(long, value_name = "DIR")]
    artifacts_dir: Option<PathBuf>,
    /// Remove the caches and artifacts that earlier runs of this repository left, and run nothing
    #[arg(long, conflicts_with_all = ["jobs", "list", "artifacts_dir"])]
    clear_cache: bool,
    /// Engine to use, e.g. unix:///run/podman/podman.sock; DOCKER_HOST or the usual socket if not given
    #[arg(long, value_name = "URL")]
    docker_host: Option<String>,
    /// Show also what goes well before and after the scripts: images, folders, clean-up
    #[arg(short, long)]
    verbose: bool,
    /// No colours; neither where NO_COLOR is set or the output is no terminal
    #[arg(long)]
    no_color: bool,
}

/// When images are pulled.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PullPolicyArg {
    /// Each time
    Always,
    /// When they are missing
    IfNotPresent,
    /// Never
    Never,
}

impl From<PullPolicyArg> for PullPolicy {
    fn from(policy: PullPolicyArg) -> Self {
        match policy {
            PullPolicyArg::Always => Self::Always,
            PullPolicyArg::IfNotPresent => Self::IfNotPresent,
            PullPolicyArg::Never => Self::Never,
        }
    }
}

pub(crate) fn run(logging_args: &LoggingArgs, args: ExecArgs) -> Result<ExitCode, CliError> {
    logging::start(logging_args, true);
    if args.no_color {
        // Of a first hook only; there is no other.
        miette::set_hook(Box::new(|_| {
            Box::new(miette::MietteHandlerOpts::new().color(false).build())
        }))
        .ok();
    }
    let folder = std::env::current_dir()
        .map_err(|error| CliError::new(format!("the current folder cannot be read: {error}")))?;
    let project =
        Project::find(&folder, args.file.as_deref()).map_err(|error| no_project(&error))?;
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    if args.clear_cache {
        return runtime()?.block_on(clear(args, &project));
    }
    let pipeline =
        gantry_pipeline::parse_bytes(&project.name, &project.bytes).map_err(bad_pipeline)?;
    warn(&pipeline.warnings);
    if args.list {
        let pipeline = select(&pipeline, &args.jobs)?;
        return list(&pipeline, args.format);
    }
    let pipeline = select(&pipeline, &args.jobs)?;
    let runtime = runtime()?;
    let code = runtime.block_on(exec(args, &folder, &project, pipeline));
    // After a second Ctrl-C nothing may be waited for.
    runtime.shutdown_background();
    code
}

async fn exec(
    args: ExecArgs,
    folder: &Path,
    project: &Project,
    pipeline: Pipeline,
) -> Result<ExitCode, CliError> {
    let stop = signals()?;
    let engine = connect(args.docker_host)?;
    let checkout = facts::collect(folder, &project.name)
        .await
        .map_err(|error| failed(&error))?;
    let config = Config::default();
    let named = args.variables_file.map(|file| folder.join(file));
    let mut variables = gantry_local::read_variables(named.as_deref(), &checkout.root)
        .map_err(|error| no_variables(&error))?;
    // Those of the command line win.
    variables.extend(args.env);
    let setup = Setup {
        pipeline,
        checkout,
        options: RunOptions {
            at_once: args
                .at_once
                .or_else(|| std::thread::available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN),
            pull_policy: args.pull_policy.map(Into::into),
            image: args.image.filter(|image| !image.is_empty()),
            variables,
            timeout: args.timeout,
            privileged: args.privileged,
            artifacts: args.artifacts_dir.map(|dir| folder.join(dir)),
            keep_going: args.keep_going,
        },
        engine,
        environment: host::environment(&config),
        host: host::facts(&config.gantry, "local".to_owned(), String::new()),
        state: state_folder("exec"),
        store: state_folder("artifacts"),
        started_at: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        output: Box::new(tokio::io::stdout()),
        style: Style {
            colour: !args.no_color && terminal_with_colours(),
            verbose: args.verbose,
        },
        stop,
    };
    let report = gantry_local::run(setup)
        .await
        .map_err(|error| not_started(&project.name, &error))?;
    if report.stop == Stop::Now {
        let text = "left at once: containers, networks and volumes of this run may still be there; the next `gantry exec` removes them";
        // Nobody is left to tell that stderr is closed.
        writeln!(std::io::stderr(), "{text}").ok();
    }
    Ok(if report.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn connect(docker_host: Option<String>) -> Result<SharedEngine, CliError> {
    let settings = EngineSettings {
        host: docker_host,
        tls_verify: false,
        tls_cert_path: None,
    };
    host::connect(&settings).map_err(|error| CliError::new(error.to_string()))
}

/// `--clear-cache`.
async fn clear(args: ExecArgs, project: &Project) -> Result<ExitCode, CliError> {
    let engine = connect(args.docker_host)?;
    let store = state_folder("artifacts");
    let cleared = gantry_local::clear(&engine, &project.root, &store)
        .await
        .map_err(|error| failed(&error))?;
    let text = match (cleared.caches, cleared.artifacts) {
        (true, true) => "Removed the caches and artifacts of earlier runs",
        (true, false) => "Removed the caches of earlier runs",
        (false, true) => "Removed the artifacts of earlier runs",
        (false, false) => "There are no caches or artifacts of earlier runs",
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// In words alone: an excerpt of the file might show a secret.
fn no_variables(error: &VariablesFileError) -> CliError {
    CliError::new(error.to_string())
}

fn select(pipeline: &Pipeline, jobs: &[String]) -> Result<Pipeline, CliError> {
    pipeline.select(jobs).map_err(|unknown| {
        CliError::new(unknown.to_string()).hint("`gantry exec --list` shows all jobs")
    })
}

fn list(pipeline: &Pipeline, format: OutputFormat) -> Result<ExitCode, CliError> {
    let text = match format {
        OutputFormat::Text => listing::table(pipeline),
        OutputFormat::Json => {
            let mut text = serde_json::to_string_pretty(&listing::jobs(pipeline))
                .map_err(|error| CliError::new(error.to_string()))?;
            text.push('\n');
            text
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Turns signals into what is wanted of the run.
fn signals() -> Result<watch::Receiver<Stop>, CliError> {
    let (sender, stop) = watch::channel(Stop::Run);
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    debug_assert_eq!(SignalKind::interrupt().as_raw_value(), SIGINT);
    for kind in kinds {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                sender.send_modify(|stop| *stop = stop.after(kind.as_raw_value()));
            }
        });
    }
    Ok(stop)
}

/// Where runs remember what they made (`exec`) and keep what jobs left (`artifacts`), by the rules of the XDG base directories.
fn state_folder(what: &str) -> PathBuf {
    let state = host::variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(host::home()?.join(".local/state")));
    match state {
        Some(state) => state.join("gantry").join(what),
        None => {
            let uid = rustix::process::getuid().as_raw();
            std::env::temp_dir().join(format!("gantry-{what}-{uid}"))
        }
    }
}

fn terminal_with_colours() -> bool {
    std::io::stdout().is_terminal()
        && host::variable("NO_COLOR").is_none()
        && host::variable("TERM").is_none_or(|term| term != "dumb")
}

// === what is wrong, and what to do ===

fn warn(warnings: &[Problem]) {
    for warning in warnings {
        let report = miette::Report::new(warning.clone());
        // Nobody is left to tell that stderr is closed.
        writeln!(std::io::stderr(), "{report:?}").ok();
    }
}

fn bad_pipeline(error: PipelineError) -> CliError {
    CliError::Report(error.into())
}

fn no_project(error: &ProjectError) -> CliError {
    let hint = match error {
        ProjectError::NoRepository { .. } => {
            "change to a folder of the repository whose pipeline is to run, or make this one a repository with `git init`"
        }
        ProjectError::NoFile { .. } => "write one, or name another file with --file",
        _ => return failed(error),
    };
    failed(error).hint(hint)
}

fn not_started(file: &str, error: &RunError) -> CliError {
    let plain = failed(error);
    match error {
        RunError::Jobs(problems) => {
            let problems = problems.iter().map(|problem| problem.problem.clone());
            bad_pipeline(PipelineError::new(file, problems.collect()))
        }
        RunError::Engine { error, .. } => match error {
            EngineError::Unreachable { message, .. } if message.contains("ermission denied") => {
                plain.hint("your user may not use the socket: join the group that owns it (often `docker`), or use an engine of your own, such as rootless Podman")
            }
            _ => plain.hint("start Docker or Podman, or name the engine with --docker-host or DOCKER_HOST"),
        },
        RunError::Artifacts(_) => plain.hint("name an empty folder, or one that does not exist, with --artifacts-dir"),
        RunError::State(_) => plain.hint("XDG_STATE_HOME names another place for it"),
        _ => plain,
    }
}

/// The error and what it came from, each once.
fn failed(error: &dyn Error) -> CliError {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    CliError::new(message)
}

// === values of arguments ===

fn variable(text: &str) -> Result<Variable, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, value.to_owned()),
        None => {
            let value = std::env::var(text)
                .map_err(|_| format!("write KEY=VALUE, or the name of a variable that is set: there is no {text:?} in the environment"))?;
            (text, value)
        }
    };
    let variable = Variable::new(key, value);
    if variable.key_is_identifier() {
        Ok(variable)
    } else {
        Err(format!(
            "{key:?} is no name of a variable: letters, digits and _, the first one no digit"
        ))
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    match duration::parse(&compact) {
        Ok(duration::Signed::Positive(time)) if time >= Duration::from_secs(1) => Ok(time),
        Ok(_) => Err("must be at least 1s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_a_key_and_anything_after_the_first_equals_sign() {
        let parsed = variable("A_1=b=c d").unwrap();
        assert_eq!(
            (parsed.key.as_str(), parsed.value.as_str()),
            ("A_1", "b=c d")
        );
        assert_eq!(variable("A=").unwrap().value, "");
        assert!(variable("1A=x").is_err());
        assert!(variable("=x").is_err());
        assert!(variable("SURELY_NOT_SET_ANYWHERE").is_err());
        // Set for every test by cargo.
        assert!(!variable("CARGO_MANIFEST_DIR").unwrap().value.is_empty());
    }

    #[test]
    fn times_are_at_least_a_second() {
        assert_eq!(time("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert!(time("5").is_err());
        assert!(time("-5m").is_err());
        assert!(time("10ms").is_err());
    }
}
