//! `proxy-exec`: runs a command in place of itself, for images and entrypoints that put it before their shell (cli §2,
//! docker-executor §2.4 `Cmd`).

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Failed, flags::Flags};

/// What the copy of this program is called.
const NAME: &str = "gitlab-runner-helper";

/// Comes back only with a failure.
pub(super) fn run(flags: &Flags) -> Failed {
    let proxied = match Proxied::wanted(flags) {
        Ok(proxied) => proxied,
        Err(failed) => return failed,
    };
    if let Some(dir) = &proxied.bootstrap
        && let Err(error) = bootstrap(dir)
    {
        return format!("cannot copy the helper to {}: {error}", dir.display()).into();
    }
    let error = Command::new(&proxied.program).args(&proxied.args).exec();
    format!("cannot run {}: {error}", proxied.program.display()).into()
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
struct Proxied {
    /// Where a copy of this program is wanted.
    bootstrap: Option<PathBuf>,
    program: OsString,
    args: Vec<OsString>,
}

impl Proxied {
    fn wanted(flags: &Flags) -> Result<Self, Failed> {
        let Some((program, args)) = flags.rest.split_first() else {
            return Err("proxy-exec: a command is missing".into());
        };
        let bootstrap = match (flags.on("bootstrap"), flags.filled("temp-dir")) {
            (false, _) => None,
            (true, Some(dir)) => Some(dir.into()),
            (true, None) => {
                return Err(
                    "proxy-exec: --bootstrap needs --temp-dir or RUNNER_TEMP_PROJECT_DIR".into(),
                );
            }
        };
        Ok(Self {
            bootstrap,
            program: program.clone(),
            args: args.to_vec(),
        })
    }
}

/// Copies this program, so that a container without it can be given it by a volume. Beside its name first: it may be running.
fn bootstrap(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let new = dir.join(format!(".{NAME}.{}", std::process::id()));
    fs::copy(env::current_exe()?, &new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, dir.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str], usual: Option<&str>) -> Result<Proxied, String> {
        let args = args.iter().map(OsString::from).collect();
        let variable = |name: &str| {
            let usual = usual.filter(|_| name == "RUNNER_TEMP_PROJECT_DIR");
            usual.map(str::to_owned)
        };
        let command = super::super::Command::named("proxy-exec").unwrap();
        Flags::parse(command, args, &variable)
            .and_then(|flags| Proxied::wanted(&flags))
            .map_err(|failed| failed.text.unwrap())
    }

    fn proxied(bootstrap: Option<&str>, words: &[&str]) -> Result<Proxied, String> {
        Ok(Proxied {
            bootstrap: bootstrap.map(PathBuf::from),
            program: words[0].into(),
            args: words[1..].iter().map(OsString::from).collect(),
        })
    }

    #[test]
    fn flags_end_where_the_command_begins() {
        for (args, usual, expected) in [
            (
                &["sh", "-c", "true"][..],
                None,
                proxied(None, &["sh", "-c", "true"]),
            ),
            (&["--", "-x"], None, proxied(None, &["-x"])),
            (
                &["--bootstrap", "sh"],
                Some("/t"),
                proxied(Some("/t"), &["sh"]),
            ),
            (
                &["-bootstrap=false", "sh"],
                Some("/t"),
                proxied(None, &["sh"]),
            ),
            (
                &["--temp-dir", "/u", "--bootstrap", "sh", "--bootstrap"],
                Some("/t"),
                proxied(Some("/u"), &["sh", "--bootstrap"]),
            ),
            (
                &["--temp-dir=/u", "--bootstrap=1", "sh"],
                None,
                proxied(Some("/u"), &["sh"]),
            ),
        ] {
            assert_eq!(parsed(args, usual), expected, "{args:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, text) in [
            (&[][..], "proxy-exec: a command is missing"),
            (&["--"], "proxy-exec: a command is missing"),
            (
                &["--nope", "sh"],
                "proxy-exec: flag provided but not defined: -nope; proxy-exec --help lists what is",
            ),
            (
                &["--temp-dir"],
                "proxy-exec: flag needs an argument: -temp-dir",
            ),
            (
                &["--bootstrap=x", "sh"],
                "proxy-exec: invalid value \"x\" for flag -bootstrap: true or false is needed",
            ),
            (
                &["--bootstrap", "sh"],
                "proxy-exec: --bootstrap needs --temp-dir or RUNNER_TEMP_PROJECT_DIR",
            ),
        ] {
            assert_eq!(parsed(args, None), Err(text.to_owned()), "{args:?}");
        }
    }
}
