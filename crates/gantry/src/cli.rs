//! The command line as clap sees it. Help texts are written here and with each command.

use clap::{Parser, Subcommand, ValueEnum};

use crate::command::{
    completion::CompletionArgs, config::ConfigArgs, exec::ExecArgs, lint::LintArgs, list::ListArgs,
    man::ManArgs, plan::PlanArgs, register::RegisterArgs, reset_token::ResetTokenArgs,
    run::RunArgs, run_single::RunSingleArgs, status::StatusArgs, unregister::UnregisterArgs,
    verify::VerifyArgs,
};

/// Runs CI jobs in containers: for a GitLab server, or the `.gitlab-ci.yml` of the folder you are in.
#[derive(Debug, Parser)]
#[command(name = "gantry", version = env!("CARGO_PKG_VERSION"), disable_version_flag = true, args_override_self = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
    /// Print the version, and that of the GitLab Runner it stands for
    #[arg(short = 'v', short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Help of an option that stands for a key of the configuration, in the words of the table of keys.
pub(crate) fn help_of(key: &str) -> String {
    let mut help = gantry_config::keys::what(key).to_owned();
    if let Some(first) = help.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    help + &format!("; wins over `{key}` in the config")
}

/// What goes to stderr about the program itself.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LoggingArgs {
    /// Log at debug level
    #[arg(long, global = true, env = "RUNNER_DEBUG", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub(crate) debug: bool,
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        help = help_of("log_format")
    )]
    pub(crate) log_format: Option<LogFormatArg>,
    #[arg(
        short = 'l',
        long,
        global = true,
        env = "LOG_LEVEL",
        value_name = "LEVEL",
        help = help_of("log_level")
    )]
    pub(crate) log_level: Option<LogLevelArg>,
}

/// Forms of log lines.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormatArg {
    /// GitLab Runner's own
    Runner,
    /// key=value
    Text,
    /// One JSON object a line
    Json,
}

/// Levels of log lines.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevelArg {
    /// Everything
    Debug,
    /// What happens
    Info,
    /// What is odd
    #[value(alias = "warning")]
    Warn,
    /// What fails
    Error,
    /// What ends the program
    Fatal,
    /// The same
    Panic,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take jobs from GitLab servers and run them, as `gitlab-runner run` does
    Run(RunArgs),
    /// Run the jobs of one runner, given by flags or by its name in the configuration
    RunSingle(RunSingleArgs),
    /// Register a runner and add it to the configuration
    Register(RegisterArgs),
    /// Take runners out of GitLab and of the configuration
    Unregister(UnregisterArgs),
    /// Ask GitLab whether it knows the runners of the configuration
    Verify(VerifyArgs),
    /// List the runners of the configuration
    List(ListArgs),
    /// Give runners a new token
    ResetToken(ResetTokenArgs),
    /// Check the configuration, unknown keys included
    Lint(LintArgs),
    /// Run jobs of the local .gitlab-ci.yml on the working tree, with no server
    Exec(ExecArgs),
    /// Print what would be made for a job payload
    Plan(PlanArgs),
    /// Show what the running service is doing
    Status(StatusArgs),
    /// Explain or check the configuration file
    Config(ConfigArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Print or write man pages
    Man(ManArgs),
}

/// Form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
}

/// The command line under the name the program was called by: `gitlab-runner` too, by a link.
pub(crate) fn program(called: Option<&std::ffi::OsStr>) -> clap::Command {
    let name = if crate::host::is_called_as_the_peer(called) {
        "gitlab-runner"
    } else {
        "gantry"
    };
    <Cli as clap::CommandFactory>::command()
        .name(name)
        .bin_name(name)
}

/// A boolean as Go reads it; an empty text, as an unused variable may have it, is false.
pub(crate) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}
