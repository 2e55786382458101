//! The settings of a `[[runners]]` entry as flags of `register` and `run-single`, made from the table of configuration keys.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use gantry_config::{
    edit::{EntryError, RunnerEntry},
    flags::{Flag, runner_flags},
    keys::Support,
};
use secrecy::SecretString;

/// Which runner of which GitLab, for `register` and `run-single`.
#[derive(Debug, clap::Args)]
pub(crate) struct IdentityArgs {
    /// URL of GitLab
    #[arg(short, long, env = "CI_SERVER_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Authentication token of the runner, as GitLab shows it
    #[arg(
        short,
        long,
        env = "CI_SERVER_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) token: Option<SecretString>,
    /// Name of the runner; the host's if not given
    #[arg(
        long = "description",
        visible_alias = "name",
        env = "RUNNER_NAME",
        value_name = "NAME"
    )]
    pub(crate) name: Option<String>,
}

/// Values of the flags that were given, by flag.
#[derive(Clone, Default)]
pub(crate) struct RunnerFlags {
    given: BTreeMap<&'static str, Vec<String>>,
}

impl std::fmt::Debug for RunnerFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        f.debug_set().entries(self.given.keys()).finish()
    }
}

impl RunnerFlags {
    /// An entry with what was given.
    pub(crate) fn entry(&self) -> Result<RunnerEntry, EntryError> {
        let mut entry = RunnerEntry::new();
        for flag in runner_flags() {
            if let Some(values) = self.given.get(flag.long.as_str()) {
                entry.set_flag(flag, values)?;
            }
        }
        Ok(entry)
    }
}

impl clap::Args for RunnerFlags {
    fn augment_args(command: Command) -> Command {
        command.args(runner_flags().iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for RunnerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in runner_flags() {
            let Some(values) = matches.get_many::<String>(&flag.long) else {
                continue;
            };
            let mut values: Vec<String> = values.cloned().collect();
            // A variable holds all items of a list; on the command line each has a flag of its own (cli §3).
            let of_environment = matches.value_source(&flag.long) == Some(ValueSource::EnvVariable);
            if of_environment && flag.is_list() {
                values = values
                    .iter()
                    .flat_map(|value| value.split(','))
                    .map(|item| item.trim().to_owned())
                    .collect();
            }
            self.given.insert(&flag.long, values);
        }
        Ok(())
    }
}

fn arg(flag: &'static Flag) -> Arg {
    let several = flag.is_list() || flag.is_map();
    let mut arg = Arg::new(flag.long.as_str())
        .long(flag.long.as_str())
        .help(help(flag))
        .help_heading(heading(flag.group))
        .hide_env_values(true)
        .allow_hyphen_values(true)
        .action(if several {
            ArgAction::Append
        } else {
            ArgAction::Set
        });
    if let Some(alias) = &flag.alias {
        arg = arg.alias(alias.as_str());
    }
    if let Some(env) = &flag.env {
        arg = arg.env(env.as_str());
    }
    if flag.is_bool() {
        arg = arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL");
    } else if flag.is_map() {
        arg = arg.value_name("JSON");
    } else {
        arg = arg.value_name("VALUE");
    }
    arg
}

fn heading(group: &str) -> &'static str {
    match group {
        "Docker" => "Docker settings",
        "Cache" => "Cache settings",
        _ => "Runner settings",
    }
}

fn help(flag: &Flag) -> String {
    let what = flag.key.what;
    let mut text: String = what.chars().take(1).flat_map(char::to_uppercase).collect();
    text.extend(what.chars().skip(1));
    if let Support::NotYet(_) = flag.key.support {
        text.push_str(" (saved; not acted on yet)");
    }
    text
}
