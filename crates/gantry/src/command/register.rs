use std::{path::PathBuf, process::ExitCode, sync::Arc};

use gantry_config::{
    RunnerConfig,
    edit::{NewToken, RunnerEntry},
};
use gantry_gitlab::{RegisteredRunner, RegistrationSettings, Verified, is_created_token};
use secrecy::{ExposeSecret, SecretString};
use tracing::{error, info, warn};

use super::registered::{ConfigArg, ConfigFile, Servers, new_token, runtime, tell_mode};
use crate::{
    cli::{LoggingArgs, go_bool},
    error::CliError,
    host,
    runner_flags::{IdentityArgs, RunnerFlags},
};

mod prompt;

use prompt::{Need, Prompt};

/// Names of executors that GitLab Runner has.
const EXECUTORS: &[&str] = &[
    "custom",
    "docker",
    "docker+machine",
    "docker-autoscaler",
    "docker-windows",
    "instance",
    "kubernetes",
    "parallels",
    "shell",
    "ssh",
    "virtualbox",
];

/// Arguments of `register`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A runner that was created in GitLab is registered with its authentication token (--token glrt-…); its tags and the like are set in
GitLab. With a registration token (--registration-token), which is deprecated, GitLab makes a new runner with what the flags say.
What is not given is asked for, unless --non-interactive says not to.")]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// File with one `[[runners]]` entry, whose settings count where no flag says otherwise
    #[arg(long, env = "TEMPLATE_CONFIG_FILE", value_name = "FILE")]
    template_config: Option<PathBuf>,
    /// Ask for nothing
    #[arg(short = 'n', long, env = "REGISTER_NON_INTERACTIVE", value_parser = go_bool, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", hide_default_value = true)]
    non_interactive: bool,
    /// Leave the runner in GitLab when the registration fails
    #[arg(long, env = "REGISTER_LEAVE_RUNNER", value_parser = go_bool, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", hide_default_value = true)]
    leave_runner: bool,
    /// Registration token (deprecated); may also be an authentication token
    #[arg(
        short,
        long,
        env = "REGISTRATION_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    registration_token: Option<SecretString>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    reserved: ReservedArgs,
    #[command(flatten)]
    runner: RunnerFlags,
}

/// Settings that GitLab keeps: they go with a registration token only.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With a registration token only")]
struct ReservedArgs {
    /// Tags, between commas
    #[arg(long, env = "RUNNER_TAG_LIST", value_name = "TAGS")]
    tag_list: Option<String>,
    /// Take jobs without tags too; so without tags of its own
    #[arg(long, env = "REGISTER_RUN_UNTAGGED", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    run_untagged: Option<String>,
    /// Only for the project it is registered in; so if not given
    #[arg(long, env = "REGISTER_LOCKED", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    locked: Option<String>,
    /// Which branches: not_protected or ref_protected
    #[arg(long, env = "REGISTER_ACCESS_LEVEL", value_name = "LEVEL")]
    access_level: Option<String>,
    /// Longest time of a job in seconds
    #[arg(long, env = "REGISTER_MAXIMUM_TIMEOUT", value_name = "SECONDS")]
    maximum_timeout: Option<String>,
    /// Take no jobs yet
    #[arg(long, env = "REGISTER_PAUSED", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    paused: Option<String>,
    /// Note for administrators
    #[arg(long, env = "REGISTER_MAINTENANCE_NOTE", value_name = "TEXT")]
    maintenance_note: Option<String>,
}

const RESERVED: &str = "--locked, --access-level, --run-untagged, --maximum-timeout, --paused, --tag-list, and --maintenance-note";

impl ReservedArgs {
    fn any(&self) -> bool {
        [
            &self.tag_list,
            &self.run_untagged,
            &self.locked,
            &self.access_level,
            &self.maximum_timeout,
            &self.paused,
            &self.maintenance_note,
        ]
        .into_iter()
        .any(|value| given(value.as_deref()).is_some())
    }

    fn settings(&self) -> Result<RegistrationSettings, CliError> {
        let boolean =
            |name: &str, value: &Option<String>, otherwise: bool| match given(value.as_deref()) {
                None => Ok(otherwise),
                Some(text) => {
                    go_bool(text).map_err(|error| CliError::fatal(format!("--{name}: {error}")))
                }
            };
        let tag_list = self.tag_list.clone().unwrap_or_default();
        let maximum_timeout = match given(self.maximum_timeout.as_deref()) {
            None => 0,
            Some(text) => text.parse().map_err(|_| {
                CliError::fatal(format!("--maximum-timeout: {text:?} is no whole number"))
            })?,
        };
        Ok(RegistrationSettings {
            description: String::new(),
            maintenance_note: self.maintenance_note.clone().unwrap_or_default(),
            run_untagged: boolean("run-untagged", &self.run_untagged, false)?,
            tag_list,
            locked: boolean("locked", &self.locked, true)?,
            access_level: self.access_level.clone().unwrap_or_default(),
            maximum_timeout,
            paused: boolean("paused", &self.paused, false)?,
        })
    }

    fn check(&self) -> Result<(), CliError> {
        match self.access_level.as_deref() {
            None | Some("" | "not_protected" | "ref_protected") => self.settings().map(drop),
            Some(_) => Err(CliError::fatal(
                "Given access-level is not valid. Refer to gitlab-runner register -h for the correct options.",
            )
            .hint("it is not_protected or ref_protected")),
        }
    }
}

fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

/// What has been done so far that would have to be undone.
#[derive(Default)]
struct Progress {
    /// The runner as the server knows it now.
    registered: Option<RunnerConfig>,
}

pub(crate) fn run(logging: &LoggingArgs, args: &RegisterArgs) -> Result<ExitCode, CliError> {
    let file = ConfigFile::open(logging, &args.config)?;
    tell_mode();
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let mut interrupts =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let servers = file.servers()?;
        let mut progress = Progress::default();
        let result = tokio::select! {
            result = register(&file, &servers, args, &mut progress) => result,
            _ = interrupts.recv() => Err(CliError::fatal("RECEIVED SIGNAL: interrupt")),
        };
        if result.is_err()
            && !args.leave_runner
            && let Some(runner) = &progress.registered
        {
            warn!("the registration failed; the runner is taken back");
            if let Ok(coordinator) = servers.of(runner) {
                coordinator.unregister_runner(&servers.system_id).await.ok();
            }
        }
        result
    });
    // A question may still be open.
    runtime.shutdown_background();
    done.map(|()| ExitCode::SUCCESS)
}

async fn register(
    file: &ConfigFile,
    servers: &Servers,
    args: &RegisterArgs,
    progress: &mut Progress,
) -> Result<(), CliError> {
    args.reserved.check()?;
    let fatal = |error: gantry_config::edit::EntryError| CliError::fatal(error.to_string());
    let mut entry = args.runner.entry().map_err(fatal)?;
    entry.check().map_err(fatal)?;
    merge_template(file, args, &mut entry)?;
    file.prove_writable()?;
    let prompt = Prompt::new(args.non_interactive);
    let url = given(args.identity.url.as_deref()).or(entry.text(&["url"]));
    let url = prompt
        .ask(
            "url",
            "Enter the GitLab instance URL (for example, https://gitlab.com/):",
            url,
            Need::Needed,
        )
        .await?;
    entry.set_text(&["url"], &url);
    let (name, id, token) = identify(file, servers, args, &entry, &prompt, progress).await?;
    entry.set_text(&["name"], &name);
    entry.set_identity(id, &token);
    warn_of_limits(file, &entry);
    ask_executor(&prompt, &mut entry).await?;
    entry.check().map_err(fatal)?;
    let runner = resolve(file, &entry)?;
    let saved = file.edit(|edit| {
        if edit
            .config()
            .runners
            .iter()
            .any(|other| other.same_credentials(&runner))
        {
            warn!(
                runner = runner.short_token(),
                "A runner with this system ID and token has already been registered."
            );
        }
        edit.add_runner(entry)
    });
    if let Err(error) = saved {
        // A token of a runner that stays in GitLab must not be lost.
        if args.leave_runner && progress.registered.is_some() {
            return Err(file.keep_token(&runner, &token, &error));
        }
        return Err(error);
    }
    // From here on the runner is in use.
    progress.registered = None;
    info!(
        "Runner registered successfully. Feel free to start it, but if it's running already the config should be automatically reloaded!"
    );
    info!(
        "Configuration (with the authentication token) was saved in {:?}",
        file.path
    );
    Ok(())
}

fn merge_template(
    file: &ConfigFile,
    args: &RegisterArgs,
    entry: &mut RunnerEntry,
) -> Result<(), CliError> {
    let Some(path) = args
        .template_config
        .as_deref()
        .filter(|path| !path.as_os_str().is_empty())
    else {
        return Ok(());
    };
    info!("Merging configuration from template file {path:?}");
    let failed = |error: String| {
        CliError::fatal(format!(
            "Could not handle configuration merging from template file: {error}"
        ))
    };
    let text = std::fs::read(path).map_err(|error| {
        failed(format!(
            "couldn't load configuration template file: read {}: {error}",
            path.display()
        ))
    })?;
    entry
        .merge_template(&text, path, &file.placeholders)
        .map_err(|error| failed(error.to_string()))
}

/// Finds out who the runner is: name, number and token.
async fn identify(
    file: &ConfigFile,
    servers: &Servers,
    args: &RegisterArgs,
    entry: &RunnerEntry,
    prompt: &Prompt,
    progress: &mut Progress,
) -> Result<(String, i64, NewToken), CliError> {
    let host_name = host::host_name();
    let name = given(args.identity.name.as_deref())
        .or(entry.text(&["name"]))
        .unwrap_or(&host_name)
        .to_owned();
    let token = args
        .identity
        .token
        .as_ref()
        .filter(|token| !token.expose_secret().trim().is_empty());
    if let Some(token) = token.filter(|token| !is_created_token(token.expose_secret())) {
        info!("Token specified trying to verify runner...");
        warn!("If you want to register use the '-r' instead of '-t'.");
        return match verify(file, servers, entry, token, progress).await? {
            Verified::Valid(found) => Ok((name, found.id, new_token(token.clone(), &found))),
            Verified::Unknown(_) => Ok((name, 0, token_alone(token))),
            Verified::Invalid => Err(CliError::fatal(
                "Failed to verify the runner. You may be having network problems.",
            )),
        };
    }
    let (token, legacy_flag) = if let Some(token) = token {
        (token.clone(), false)
    } else {
        let current = args
            .registration_token
            .as_ref()
            .map(ExposeSecret::expose_secret);
        let token = prompt
            .ask(
                "registration-token",
                "Enter the registration token:",
                given(current),
                Need::Secret,
            )
            .await?;
        (SecretString::from(token), true)
    };
    if !is_created_token(token.expose_secret()) {
        return legacy(file, servers, args, entry, prompt, progress, &token, name).await;
    }
    if args.reserved.any() {
        if !legacy_flag {
            return Err(CliError::fatal(format!(
                "Runner configuration other than name and executor configuration is reserved (specifically {RESERVED}) and cannot be specified when registering with a runner authentication token. This configuration is specified on the GitLab server. Please try again without specifying any of those arguments."
            )));
        }
        warn!(
            "You have specified an authentication token in the legacy parameter --registration-token. This has triggered the 'legacy-compatible registration process' which has resulted in the following command line parameters being ignored: {RESERVED}."
        );
    }
    let found = match verify(file, servers, entry, &token, progress).await? {
        Verified::Valid(found) if found.id != 0 => found,
        Verified::Valid(_) | Verified::Invalid => {
            return Err(CliError::fatal("Failed to verify the runner."));
        }
        Verified::Unknown(cause) => {
            return Err(CliError::fatal("Failed to verify the runner.").hint(cause.to_string()));
        }
    };
    let name = prompt
        .ask(
            "name",
            "Enter a name for the runner. This is stored only in the local config.toml file:",
            Some(&name),
            Need::Needed,
        )
        .await?;
    Ok((name, found.id, new_token(token, &found)))
}

/// Makes a new runner with a registration token.
#[expect(
    clippy::too_many_arguments,
    reason = "the second half of `identify`, for one of two kinds of token"
)]
async fn legacy(
    file: &ConfigFile,
    servers: &Servers,
    args: &RegisterArgs,
    entry: &RunnerEntry,
    prompt: &Prompt,
    progress: &mut Progress,
    token: &SecretString,
    name: String,
) -> Result<(String, i64, NewToken), CliError> {
    let mut settings = args.reserved.settings()?;
    let name = prompt
        .ask(
            "description",
            "Enter a description for the runner:",
            Some(&name),
            Need::Needed,
        )
        .await?;
    settings.description.clone_from(&name);
    settings.tag_list = prompt
        .ask(
            "tag-list",
            "Enter tags for the runner (comma-separated):",
            given(Some(&settings.tag_list)),
            Need::Optional,
        )
        .await?;
    settings.maintenance_note = prompt
        .ask(
            "maintenance-note",
            "Enter optional maintenance note for the runner:",
            given(Some(&settings.maintenance_note)),
            Need::Optional,
        )
        .await?;
    if settings.tag_list.is_empty() {
        settings.run_untagged = true;
    }
    warn!(
        "Support for registration tokens and runner parameters in the 'register' command has been deprecated in GitLab Runner 15.6 and will be replaced with support for authentication tokens."
    );
    let mut runner = resolve(file, entry)?.as_ref().clone();
    runner.token = token.clone();
    let given: RegisteredRunner = servers
        .of(&runner)?
        .register_runner(&settings, &servers.info(&runner))
        .await
        .map_err(|cause| {
            CliError::fatal("Failed to register the runner.").hint(cause.to_string())
        })?;
    if given.token.expose_secret().is_empty() {
        return Err(CliError::fatal("Failed to register the runner.")
            .hint("the server's answer has no token"));
    }
    runner.token = given.token.clone();
    runner.id = given.id;
    progress.registered = Some(runner);
    Ok((name, given.id, new_token(given.token.clone(), &given)))
}

async fn verify(
    file: &ConfigFile,
    servers: &Servers,
    entry: &RunnerEntry,
    token: &SecretString,
    progress: &mut Progress,
) -> Result<Verified, CliError> {
    let mut runner = resolve(file, entry)?.as_ref().clone();
    runner.token = token.clone();
    let verified = servers
        .of(&runner)?
        .verify_runner(&servers.info(&runner), &servers.system_id)
        .await;
    // Only managers come into being by verification; a legacy runner was there before, and is not ours to delete.
    if matches!(verified, Verified::Valid(_)) && is_created_token(token.expose_secret()) {
        progress.registered = Some(runner);
    }
    Ok(verified)
}

fn token_alone(token: &SecretString) -> NewToken {
    NewToken {
        token: token.clone(),
        obtained_at: std::time::SystemTime::now(),
        expires_at: None,
    }
}

fn resolve(file: &ConfigFile, entry: &RunnerEntry) -> Result<Arc<RunnerConfig>, CliError> {
    entry
        .resolve(&file.placeholders)
        .map_err(|error| CliError::fatal(error.to_string()))
}

fn warn_of_limits(file: &ConfigFile, entry: &RunnerEntry) {
    let concurrent = file.config().concurrent;
    let exceeds = |value: i64| usize::try_from(value).is_ok_and(|value| value > concurrent);
    let limit = entry.int(&["limit"]);
    if exceeds(limit) {
        warn!(
            "Specified limit ({limit}) larger than current concurrent limit ({concurrent}). Concurrent limit will not be enlarged."
        );
    }
    let requests = entry.int(&["request_concurrency"]);
    if exceeds(requests) {
        warn!(
            "Specified request concurrency ({requests}) larger than current concurrent limit ({concurrent}). Concurrent limit will not be enlarged."
        );
    }
}

async fn ask_executor(prompt: &Prompt, entry: &mut RunnerEntry) -> Result<(), CliError> {
    let question = format!("Enter an executor: {}:", EXECUTORS.join(", "));
    let executor = loop {
        let executor = prompt
            .ask(
                "executor",
                &question,
                entry.text(&["executor"]),
                Need::Optional,
            )
            .await?;
        if EXECUTORS.contains(&executor.as_str()) {
            break executor;
        }
        if prompt.is_silent() {
            return Err(CliError::fatal("Invalid executor specified")
                .hint(format!("--executor takes one of {}", EXECUTORS.join(", "))));
        }
        error!("Invalid executor specified");
        entry.set_text(&["executor"], "");
    };
    entry.set_text(&["executor"], &executor);
    if executor != "docker" {
        warn!(
            executor,
            "Gantry runs the docker executor alone; the runner is saved, and `gantry run` will leave it out"
        );
        return Ok(());
    }
    let image = prompt
        .ask(
            "docker-image",
            "Enter the default Docker image (for example, ruby:3.3):",
            entry.text(&["docker", "image"]),
            Need::Needed,
        )
        .await?;
    entry.set_text(&["docker", "image"], &image);
    entry.add_cache_volume();
    Ok(())
}
