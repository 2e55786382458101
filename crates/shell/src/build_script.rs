//! The script of a user stage.

use std::collections::HashMap;
use std::fmt;

use gantry_job::assemble::GITLAB_ENV_FILE;
use gantry_job::variable::file_path;
use gantry_job::{FeatureFlag, FeatureFlags, Variable, Variables};

use crate::echo::{CommandStyle, push_command, push_notice};
use crate::frame::Frame;
use crate::quote::push_word;

#[cfg(test)]
mod tests;

/// First line of an `after_script` that has its project directory (job-lifecycle §8).
const AFTER_SCRIPT_NOTICE: &str = "Running after script...";

/// Name of the file, below the temporary directory, from which git is to know the job's credentials anywhere.
const GIT_CONFIG_FILE: &str = ".glr.gconf";

/// The shell a runner is configured for. Which one runs is up to the image
/// ([`crate::DETECT_SHELL`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shell {
    /// `shell = "bash"`, the default.
    #[default]
    Bash,
    /// `shell = "sh"`.
    Sh,
    /// `shell = "pwsh"`: PowerShell, in images that have it.
    Pwsh,
}

/// Names that bash lets nobody set: an attempt would end the stage, as it does with the peer.
const BASH_KEEPS: [&str; 6] = [
    "BASHOPTS",
    "BASH_VERSINFO",
    "EUID",
    "PPID",
    "SHELLOPTS",
    "UID",
];

/// What of the variables is exported, each key once.
pub(crate) struct Exports<'a> {
    pub(crate) exported: Vec<&'a Variable>,
    /// Their keys are no identifiers.
    pub(crate) skipped: Vec<&'a Variable>,
}

/// Keys of variables in their order.
pub(crate) fn keys_of(variables: &[&Variable]) -> Vec<String> {
    variables
        .iter()
        .map(|variable| variable.key.clone())
        .collect()
}

/// Which stage a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptKind<'a> {
    /// Any step but `after_script`. Scripts of the runner's configuration go around it; an empty
    /// one is none.
    Step {
        /// `pre_build_script`.
        pre_build_script: &'a str,
        /// `post_build_script`; not reached when a command fails.
        post_build_script: &'a str,
    },
    /// `after_script`.
    AfterScript,
}

/// Everything the script of one user stage is made of.
#[derive(Debug, Clone, Copy)]
pub struct BuildScript<'a> {
    /// Shell of the first line.
    pub shell: Shell,
    /// The stage.
    pub kind: ScriptKind<'a>,
    /// Commands of the step; an element may hold several lines.
    pub commands: &'a [String],
    /// The expanded variables of the job, with `CI_JOB_STATUS` as it is now.
    pub variables: &'a Variables,
    /// Working directory of the commands.
    pub project_dir: &'a str,
    /// Directory of file variables and of the `GITLAB_ENV` file.
    pub tmp_dir: &'a str,
    /// Whether the project directory is made if it is missing: for jobs without a helper. The
    /// temporary directory always is.
    pub create_project_dir: bool,
    /// Flags of the job.
    pub flags: &'a FeatureFlags,
    /// `CI_DEBUG_TRACE`.
    pub debug_trace: bool,
    /// `features.trace_sections` of the server.
    pub trace_sections: bool,
    /// Printed as a line of its own before anything else, so that its presence in the log proves
    /// that the script has arrived whole.
    pub start_nonce: Option<&'a str>,
}

/// A script, and what could not go into it. `Debug` does not show the script, which holds the
/// values of variables.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Text for the shell's stdin.
    pub script: String,
    /// Keys that no shell can export, each once, in order. They are left out of the script (the
    /// peer fails the stage); the container's environment holds them all the same.
    pub skipped_keys: Vec<String>,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered")
            .field("script_bytes", &self.script.len())
            .field("skipped_keys", &self.skipped_keys)
            .finish()
    }
}

impl BuildScript<'_> {
    /// Renders the script (job-lifecycle §3.1, §3.4).
    pub fn render(&self) -> Rendered {
        if self.shell == Shell::Pwsh {
            return crate::pwsh::render(self);
        }
        let mut body = String::new();
        if let Some(nonce) = self.start_nonce {
            body.push_str(r"printf '%s\n' ");
            push_word(&mut body, nonce);
            body.push('\n');
        }
        if self.debug_trace {
            // Here and not at the top as in the peer, where it shows the whole body a second
            // time as the argument of eval, and would show the nonce.
            body.push_str("set -o xtrace\n");
        }
        self.push_directories(&mut body);
        let Exports { exported, skipped } = self.exports();
        for variable in exported {
            self.push_file(&mut body, variable);
            self.push_export(&mut body, variable);
        }
        for variable in &skipped {
            self.push_file(&mut body, variable);
        }
        self.push_gitlab_env(&mut body);
        self.push_git_config(&mut body);
        body.push_str("cd ");
        push_word(&mut body, self.project_dir);
        body.push('\n');
        self.push_commands(&mut body);

        let frame = Frame {
            shell: self.shell,
            legacy_eval: self.flags.is_on(FeatureFlag::UseLegacyBashEval),
        };
        Rendered {
            script: frame.around(&body),
            skipped_keys: keys_of(&skipped),
        }
    }

    /// Makes missing directories, open to every user as the helper makes them. Comes before the
    /// exports, because a job may export a `PATH` without `mkdir`.
    fn push_directories(&self, body: &mut String) {
        let mut directories = String::new();
        push_word(&mut directories, self.tmp_dir);
        body.push_str("if [ ! -d ");
        body.push_str(&directories);
        if self.create_project_dir {
            directories.push(' ');
            push_word(&mut directories, self.project_dir);
            body.push_str(" ] || [ ! -d ");
            push_word(body, self.project_dir);
        }
        body.push_str(" ]; then (umask 0000; mkdir -p ");
        body.push_str(&directories);
        body.push_str("); fi\n");
    }

    /// The last entry of each key, in order.
    pub(crate) fn exports(&self) -> Exports<'_> {
        let last: HashMap<&str, usize> = self
            .variables
            .iter()
            .enumerate()
            .map(|(index, variable)| (variable.key.as_str(), index))
            .collect();
        let (exported, skipped): (Vec<_>, Vec<_>) = self
            .variables
            .iter()
            .enumerate()
            .filter(|(index, variable)| last.get(variable.key.as_str()) == Some(index))
            .map(|(_, variable)| variable)
            .partition(|variable| variable.key_is_identifier());
        Exports { exported, skipped }
    }

    /// Writes the file of a file variable. One whose key no shell exports has it, too: other values may refer to it, and programs find
    /// its path in the container's environment.
    fn push_file(&self, body: &mut String, variable: &Variable) {
        if let Some(path) = self.path_of_file(variable) {
            body.push_str("printf '%s' ");
            push_word(body, &variable.value);
            body.push_str(" > ");
            push_word(body, &path);
            body.push('\n');
        }
    }

    /// Where the file of a file variable is, if the variable is one and can have one.
    pub(crate) fn path_of_file(&self, variable: &Variable) -> Option<String> {
        (variable.file && variable.key_is_file_name())
            .then(|| file_path(self.tmp_dir, &variable.key))
    }

    fn push_export(&self, body: &mut String, variable: &Variable) {
        let key = variable.key.as_str();
        let mut export = format!("export {key}=");
        let path = self.path_of_file(variable);
        push_word(&mut export, path.as_deref().unwrap_or(&variable.value));
        if BASH_KEEPS.contains(&key) {
            // Bash takes most of them from the container's environment.
            let value = export.split_once('=').map_or("", |(_, value)| value);
            export = format!(
                "if [ -n \"${{BASH_VERSION:-}}\" ]; then [ \"${{{key}:-}}\" = {value} ] || printf '\\033[0;33mvariable \"{key}\" is not exported: bash keeps this name for itself\\033[0;m\\n'; else {export}; fi"
            );
        }
        body.push_str(&export);
        body.push('\n');
    }

    /// Exports what earlier stages wrote to the `GITLAB_ENV` file (job-lifecycle §2.6). Blank
    /// lines are ignored and lines that no shell can export are reported by number; the peer
    /// fails all later stages of both.
    fn push_gitlab_env(&self, body: &mut String) {
        let mut file = String::new();
        push_word(&mut file, &file_path(self.tmp_dir, GITLAB_ENV_FILE));
        body.push_str("export GITLAB_ENV=");
        body.push_str(&file);
        body.push_str("\n: >> ");
        body.push_str(&file);
        body.push_str("\nif [ -s ");
        body.push_str(&file);
        body.push_str(
            r#" ]; then
_runner_env_number=0
while read -r _runner_env_line || [ -n "$_runner_env_line" ]; do
_runner_env_number=$((_runner_env_number + 1))
if [ "${#_runner_env_line}" -ge 131072 ]; then _runner_env_bad=3; else
case "$_runner_env_line" in
'') ;;
[!A-Za-z_]*) _runner_env_bad=1;;
BASHOPTS=*|BASH_VERSINFO=*|EUID=*|PPID=*|SHELLOPTS=*|UID=*) if [ -n "${BASH_VERSION:-}" ]; then _runner_env_bad=2; else export "$_runner_env_line"; fi;;
*) case "${_runner_env_line%%=*}" in
*[!A-Za-z0-9_]*) _runner_env_bad=1;;
*) export "$_runner_env_line";;
esac;;
esac
fi
case "${_runner_env_bad:-}" in
1) printf '\033[0;33mGITLAB_ENV: line %s is not NAME=value and is ignored\033[0;m\n' "$_runner_env_number";;
2) printf '\033[0;33mGITLAB_ENV: line %s is ignored: bash keeps the name %s for itself\033[0;m\n' "$_runner_env_number" "${_runner_env_line%%=*}";;
3) printf '\033[0;33mGITLAB_ENV: line %s is too long for an environment (limit 128 KiB) and is ignored\033[0;m\n' "$_runner_env_number";;
esac
unset _runner_env_bad
done < "$GITLAB_ENV"
unset _runner_env_number _runner_env_line
fi
"#,
        );
    }

    /// Lets git find credentials outside of the project directory, too (job-lifecycle §4.3 step 2), where the helper has written
    /// down how.
    fn push_git_config(&self, body: &mut String) {
        if !self.flags.is_on(FeatureFlag::GitUrlsWithoutTokens) {
            return;
        }
        let mut file = String::new();
        push_word(&mut file, &file_path(self.tmp_dir, GIT_CONFIG_FILE));
        body.push_str("if [ -r ");
        body.push_str(&file);
        body.push_str(" ]; then export GIT_CONFIG_GLOBAL=");
        body.push_str(&file);
        body.push_str("; fi\n");
    }

    fn push_commands(&self, body: &mut String) {
        let style = CommandStyle {
            sections: self.trace_sections && self.flags.is_on(FeatureFlag::ScriptSections),
            check_exit_code: self.flags.is_on(FeatureFlag::EnableBashExitCodeCheck),
        };
        let (pre, prefix, post) = match self.kind {
            ScriptKind::Step {
                pre_build_script,
                post_build_script,
            } => (pre_build_script, "script_step", post_build_script),
            ScriptKind::AfterScript => {
                push_notice(body, AFTER_SCRIPT_NOTICE);
                ("", "after_script_step", "")
            }
        };
        if !pre.is_empty() {
            push_command(body, pre, "pre_build_script", 0, style);
        }
        for (index, command) in self.commands.iter().enumerate() {
            push_command(body, command, prefix, index, style);
        }
        if !post.is_empty() {
            push_command(body, post, "post_build_script", 0, style);
        }
    }
}
