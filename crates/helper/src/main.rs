//! The program inside helper containers: small, static, threads and blocking sockets only.
//!
//! * `gantry-helper agent` runs as the container's main process and does the helper stages of one job (see the `agent` module).
//! * `gantry-helper run-stage` does one stage of caches or artifacts on behalf of the agent (see the `stage_child` module).
//! * `gantry-helper await-services` is the main process of the container that looks whether services answer (see the `await_services`
//!   module).
//! * The commands of the peer's helper (see the `commands` module).
//! * `gantry-helper connect` is what the runner executes in the container to reach the agent: it joins stdio with its socket.

mod agent;
mod artifacts;
mod await_services;
mod cache;
mod cleanup;
mod commands;
mod connect;
mod expansion;
mod files;
mod git_config;
mod http;
mod hygiene;
mod log;
mod meter;
mod order;
mod owner;
mod processes;
mod receive;
mod script;
mod selection;
mod sources;
mod stage;
mod stage_child;

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    iter::Peekable,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What this program calls itself where the runner has no other name for it.
const USER_AGENT: &str = concat!("gantry-helper ", env!("CARGO_PKG_VERSION"));
/// The release of the peer whose formats are written.
const PEER_VERSION: &str = "19.4.0";

/// Where the agent listens unless told otherwise. Private to the container; `/tmp` may be mounted from the host.
const DEFAULT_SOCKET: &str = "/run/gantry-agent.sock";
/// Where it listens if that is not writable (image with a user of its own, read-only root). The name holds the number of the
/// container's mount namespace, because containers may share these.
const OTHER_PLACES: [&str; 2] = ["/dev/shm", "/tmp"];

/// Leaves the umask of stages as the container has it (docker-executor §7.4).
const KEEP_UMASK: &str = "--keep-umask";
/// Makes this program be found under another name, too: scripts around the sources may call that of the peer's helper.
const ALIAS: &str = "--alias=";

const USAGE: &str = "\
usage: gantry-helper agent [--socket PATH] [--keep-umask] [--alias=PATH]
                                               do the helper stages of a job (main process of a helper container)
       gantry-helper connect [--socket PATH]   join stdin and stdout with the agent's socket
       gantry-helper [OPTIONS] COMMAND [flags] artifacts-uploader, artifacts-downloader, cache-archiver, cache-extractor,
                                               cache-init, health-check, proxy-exec, read-logs: as gitlab-runner-helper;
                                               COMMAND --help says more
       gantry-helper --version

OPTIONS are those of gitlab-runner-helper: --log-level LEVEL (or $LOG_LEVEL: debug, info, warn, error, fatal, panic); --debug,
--log-format FORMAT and --cpuprofile FILE are taken and have no effect.
Files of the stages may be written to by every user, unless --keep-umask leaves that to the container's umask. The program is
also found at --alias, if nothing else is there.
PATH is /run/gantry-agent.sock unless given, or a place in /dev/shm or /tmp where that is not writable.
";

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Agent {
        sockets: Vec<PathBuf>,
        keep_umask: bool,
        alias: Option<PathBuf>,
    },
    Connect {
        sockets: Vec<PathBuf>,
    },
    ReportEnv {
        socket: PathBuf,
    },
    RunStage {
        results: PathBuf,
    },
    AwaitServices(await_services::Arguments),
    Peer {
        command: &'static commands::Command,
        args: Vec<OsString>,
    },
    Version,
    Help,
    Unknown(String),
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().map(PathBuf::from).unwrap_or_default();
    let mut options = Options::default();
    let parsed = parse(args, &mut options);
    let least = options.least.or_else(|| {
        // A name that applications have for their own, too: what is no level of ours is one of theirs.
        log::Level::named(&std::env::var("LOG_LEVEL").ok()?)
    });
    if let Some(least) = least {
        log::tell_from(least);
    }
    for warning in &options.warnings {
        log::warning(warning);
    }
    let command = match parsed {
        Ok(command) => command,
        Err(problem) => {
            complain(&format!("{problem}\n{USAGE}"));
            return ExitCode::FAILURE;
        }
    };
    let done = match command {
        Command::Agent {
            sockets,
            keep_umask,
            alias,
        } => {
            if let Some(alias) = alias {
                put_alias(&alias);
            }
            agent::run(&sockets, keep_umask).map_err(|error| error.to_string())
        }
        Command::Connect { sockets } => connect::run(&sockets).map_err(|error| error.to_string()),
        Command::ReportEnv { socket } => {
            script::report_env(&socket).map_err(|error| error.to_string())
        }
        Command::RunStage { results } => stage_child::child(&results),
        Command::Peer { command, args } => {
            let program = program.file_name().unwrap_or_default().to_string_lossy();
            return match commands::run(command, args, &program) {
                Ok(()) => ExitCode::SUCCESS,
                Err(commands::Failed { text, code }) => {
                    if let Some(text) = text {
                        log::line(log::Level::Fatal, &text, &[]);
                    }
                    ExitCode::from(code)
                }
            };
        }
        Command::AwaitServices(arguments) => await_services::run(arguments),
        Command::Version => print(&version()),
        Command::Help => print(USAGE),
        Command::Unknown(name) => {
            log::line(
                log::Level::Fatal,
                &format!("Command {name} not found."),
                &[],
            );
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&problem);
            ExitCode::FAILURE
        }
    }
}

/// What is said before the command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// `--log-level`.
    least: Option<log::Level>,
    warnings: Vec<String>,
}

fn parse(args: impl Iterator<Item = OsString>, options: &mut Options) -> Result<Command, String> {
    let mut args = args.peekable();
    let name = loop {
        // As the peer's, which explains itself then.
        let Some(word) = args.next() else {
            return Ok(Command::Help);
        };
        let word = word.to_string_lossy().into_owned();
        if !is_global_option(&word, &mut args, options)? {
            break word;
        }
    };
    let command = match name.as_str() {
        "agent" => {
            let mut keep_umask = false;
            let mut alias = None;
            let mut rest = Vec::new();
            for arg in args.by_ref() {
                if arg == KEEP_UMASK && !keep_umask {
                    keep_umask = true;
                } else if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix(ALIAS)) {
                    alias = Some(path.into());
                } else {
                    rest.push(arg);
                }
            }
            let mut rest = rest.into_iter();
            let sockets = sockets(&name, &mut rest)?;
            if let Some(extra) = rest.next() {
                return Err(format!(
                    "{name}: unexpected argument `{}`",
                    extra.to_string_lossy()
                ));
            }
            Command::Agent {
                sockets,
                keep_umask,
                alias,
            }
        }
        "connect" => Command::Connect {
            sockets: sockets(&name, &mut args)?,
        },
        script::REPORT_ENV => {
            let socket = args
                .next()
                .ok_or_else(|| format!("{name}: the socket is missing"))?;
            Command::ReportEnv {
                socket: socket.into(),
            }
        }
        stage_child::COMMAND => {
            let results = args
                .next()
                .ok_or_else(|| format!("{name}: the file for results is missing"))?;
            Command::RunStage {
                results: results.into(),
            }
        }
        await_services::COMMAND => {
            let texts = args.by_ref().map(|arg| arg.to_string_lossy().into_owned());
            Command::AwaitServices(await_services::Arguments::parse(texts)?)
        }
        "--version" | "-version" | "-v" | "-V" => Command::Version,
        "--help" | "-help" | "-h" | "--h" => Command::Help,
        "help" | "h" => return Ok(help(args.next().as_deref())),
        _ if name.starts_with('-') => return Err(format!("unknown option `{name}`")),
        _ => match commands::Command::named(&name) {
            Some(command) => Command::Peer {
                command,
                args: args.by_ref().collect(),
            },
            None => return Ok(Command::Unknown(name)),
        },
    };
    match args.next() {
        None => Ok(command),
        Some(extra) => Err(format!(
            "{name}: unexpected argument `{}`",
            extra.to_string_lossy()
        )),
    }
}

/// Own version and the peer release it stands for, in the peer's six lines (cli §1).
fn version() -> String {
    let branch: Vec<&str> = PEER_VERSION.split('.').take(2).collect();
    format!(
        "Version:      {own} (compatible with GitLab Runner {PEER_VERSION})\n\
         Git revision: HEAD\n\
         Git branch:   {branch}-stable\n\
         GO version:   rust{compiler}\n\
         Built:        unknown\n\
         OS/Arch:      {platform}/{architecture}\n",
        own = env!("CARGO_PKG_VERSION"),
        branch = branch.join("-"),
        compiler = env!("CARGO_PKG_RUST_VERSION"),
        platform = std::env::consts::OS,
        architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    )
}

/// `help`, or `help COMMAND`.
fn help(of: Option<&OsStr>) -> Command {
    let Some(of) = of else {
        return Command::Help;
    };
    let name = of.to_string_lossy();
    match commands::Command::named(&name) {
        Some(command) => Command::Peer {
            command,
            args: vec!["--help".into()],
        },
        None => Command::Unknown(name.into_owned()),
    }
}

/// Whether a word before the command is an option that the peer's helper takes there (cli §1); its value is taken, too.
fn is_global_option(
    word: &str,
    rest: &mut Peekable<impl Iterator<Item = OsString>>,
    options: &mut Options,
) -> Result<bool, String> {
    if !word.starts_with('-') {
        return Ok(false);
    }
    let (name, value) = commands::split(word);
    if name == "debug" {
        if value.is_some_and(|value| commands::boolean(value).is_none()) {
            return Err(format!("{word}: --debug is true or false"));
        }
        if value.is_none()
            && let Some(apart) = rest.next_if(commands::is_lone_boolean)
        {
            let apart = apart.to_string_lossy().to_lowercase();
            options.warnings.push(commands::boolean_apart(word, &apart));
        }
        return Ok(true);
    }
    if !matches!(name, "log-level" | "l" | "log-format" | "cpuprofile") {
        return Ok(false);
    }
    let value = match value {
        Some(value) => value.to_owned(),
        None => match rest.next() {
            Some(value) => value.to_string_lossy().into_owned(),
            None => return Err(format!("{word} needs a value")),
        },
    };
    match name {
        "log-level" | "l" => {
            let level = log::Level::named(&value).ok_or_else(|| {
                format!(
                    "--log-level: {value:?} is none; debug, info, warn, error, fatal or panic is needed"
                )
            })?;
            options.least = Some(level);
        }
        "log-format" if !matches!(&value[..], "runner" | "text" | "json") => {
            return Err(format!(
                "--log-format: {value:?} is none; runner, text or json is needed"
            ));
        }
        // Lines always have the form that job logs have, as the peer's commands print them.
        _ => {}
    }
    Ok(true)
}

/// Makes this program be found at a path where nothing is yet. An image may be read-only or have another user: then it is not.
fn put_alias(path: &Path) {
    if let Ok(own) = std::env::current_exe() {
        std::os::unix::fs::symlink(own, path).ok();
    }
}

/// The one that is named, or those to be tried in turn.
fn sockets(name: &str, args: &mut impl Iterator<Item = OsString>) -> Result<Vec<PathBuf>, String> {
    let Some(arg) = args.next() else {
        return Ok(default_sockets());
    };
    let path = match arg.to_str() {
        Some("--socket") => args.next(),
        Some(text) if text.starts_with("--socket=") => Some(text["--socket=".len()..].into()),
        _ => {
            return Err(format!(
                "{name}: unexpected argument `{}`",
                arg.to_string_lossy()
            ));
        }
    };
    match path {
        Some(path) if !path.is_empty() => Ok(vec![path.into()]),
        _ => Err(format!("{name}: --socket needs a path")),
    }
}

fn default_sockets() -> Vec<PathBuf> {
    let mut sockets = vec![PathBuf::from(DEFAULT_SOCKET)];
    // "mnt:[4026532345]"
    let namespace = std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    let number: String = namespace
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    if !number.is_empty() {
        let name = format!("gantry-agent-{number}.sock");
        sockets.extend(OTHER_PLACES.map(|place| PathBuf::from(place).join(&name)));
    }
    sockets
}

fn print(text: &str) -> Result<(), String> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| format!("cannot write to stdout: {error}"))
}

/// To stderr; nobody is told if that does not work.
fn complain(text: &str) {
    writeln!(io::stderr(), "gantry-helper: {}", text.trim_end()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, String> {
        parse(args.iter().map(OsString::from), &mut Options::default())
    }

    fn options(args: &[&str]) -> Options {
        let mut options = Options::default();
        parse(args.iter().map(OsString::from), &mut options).unwrap();
        options
    }

    #[test]
    fn the_socket_may_be_given_in_both_forms() {
        let sockets = vec![PathBuf::from("/s")];
        assert_eq!(
            parsed(&["agent", "--socket", "/s"]),
            Ok(Command::Agent {
                sockets: sockets.clone(),
                keep_umask: false,
                alias: None,
            })
        );
        for args in [
            ["agent", "--keep-umask", "--alias=/a", "--socket=/s"],
            ["agent", "--socket=/s", "--keep-umask", "--alias=/a"],
        ] {
            assert_eq!(
                parsed(&args),
                Ok(Command::Agent {
                    sockets: sockets.clone(),
                    keep_umask: true,
                    alias: Some("/a".into()),
                })
            );
        }
        assert_eq!(
            parsed(&["connect", "--socket=/s"]),
            Ok(Command::Connect { sockets })
        );
    }

    #[test]
    fn without_a_path_both_sides_try_the_same_places() {
        let Ok(Command::Agent { sockets, .. }) = parsed(&["agent"]) else {
            panic!()
        };
        assert_eq!(sockets[0], Path::new(DEFAULT_SOCKET));
        assert_eq!(sockets.len(), 3);
        assert_eq!(parsed(&["connect"]), Ok(Command::Connect { sockets }));
    }

    // cli §1
    #[test]
    fn options_of_the_peer_may_stand_before_the_command() {
        let plain = parsed(&["cache-init", "--debug"]);
        assert!(plain.is_ok());
        for before in [
            &["--debug"][..],
            &["-debug=true"],
            &["--debug", "false"],
            &["--log-level", "debug"],
            &["-l", "info", "--log-format=json"],
            &["--cpuprofile", "agent"],
        ] {
            let args = [before, &["cache-init", "--debug"]].concat();
            assert_eq!(parsed(&args), plain, "{args:?}");
        }
        for version in ["--version", "-v"] {
            assert_eq!(parsed(&["--debug", version]), Ok(Command::Version));
        }
    }

    #[test]
    fn options_before_the_command_say_what_is_told() {
        let level = |args: &[&str]| options(args).least;
        assert_eq!(level(&["cache-init"]), None);
        assert_eq!(
            level(&["--log-level=warn", "cache-init"]),
            Some(log::Level::Warning)
        );
        assert_eq!(
            level(&["-l", "panic", "cache-init"]),
            Some(log::Level::Fatal)
        );
        assert_eq!(
            options(&["--debug", "True", "cache-init"]).warnings,
            ["boolean parameters must be passed in the command line with --debug=true"]
        );
        assert!(
            options(&["--debug", "cache-init", "true"])
                .warnings
                .is_empty()
        );
    }

    #[test]
    fn help_is_there_for_the_program_and_for_each_command() {
        for args in [
            &[][..],
            &["--debug"],
            &["--help"],
            &["-h"],
            &["help"],
            &["h"],
        ] {
            assert_eq!(parsed(args), Ok(Command::Help), "{args:?}");
        }
        for word in ["help", "h"] {
            assert_eq!(
                parsed(&[word, "cache-init"]),
                parsed(&["cache-init", "--help"])
            );
            assert_eq!(parsed(&[word, "x"]), Ok(Command::Unknown("x".into())));
        }
    }

    #[test]
    fn usage_errors_name_what_is_wrong() {
        for (args, text) in [
            (&["--serve"][..], "unknown option `--serve`"),
            (
                &["--log-level", "loud", "agent"],
                "--log-level: \"loud\" is none; debug, info, warn, error, fatal or panic is needed",
            ),
            (
                &["--log-format=xml", "agent"],
                "--log-format: \"xml\" is none; runner, text or json is needed",
            ),
            (&["--log-level"], "--log-level needs a value"),
            (
                &["--debug=2x", "agent"],
                "--debug=2x: --debug is true or false",
            ),
            (&["agent", "x"], "agent: unexpected argument `x`"),
            (&["agent", "--socket"], "agent: --socket needs a path"),
            (&["connect", "--socket="], "connect: --socket needs a path"),
            (
                &["connect", "--socket", "/s", "y"],
                "connect: unexpected argument `y`",
            ),
            (&["--version", "y"], "--version: unexpected argument `y`"),
        ] {
            assert_eq!(parsed(args), Err(text.to_owned()), "{args:?}");
        }
    }
}
