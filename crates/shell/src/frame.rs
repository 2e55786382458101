//! What stands around the body of every stage script (job-lifecycle §3.1).

use crate::build_script::Shell;
use crate::quote::push_quoted;

/// Parts of the frame that differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Named in the first line. Cosmetic, since the script is read from stdin.
    pub(crate) shell: Shell,
    /// `FF_USE_LEGACY_BASH_EVAL`: the older form, in which bash turns most exit codes into 1.
    pub(crate) legacy_eval: bool,
}

impl Frame {
    /// Puts `body` into the frame.
    ///
    /// From the `{` on it is one compound command: a shell runs nothing of it until the last
    /// byte, the `}`, has arrived. Without the braces (the peer has none) a script cut just
    /// before `< /dev/null` would run, and one cut after the `set` of `set -o` would print the
    /// whole environment. The trap stands before them, so that a shell which waits for the rest
    /// of its script can be ended by TERM.
    ///
    /// The body is evaluated out of a variable: of a subshell that is killed (for memory) bash
    /// prints the text, which must not be the script with the values of all variables, as it is
    /// with the peer.
    pub(crate) fn around(self, body: &str) -> String {
        let mut script = String::with_capacity(body.len() + body.len() / 4 + 400);
        script.push_str(match self.shell {
            Shell::Bash => "#!/usr/bin/env bash\n",
            // PowerShell has a frame of its own.
            Shell::Sh | Shell::Pwsh => "#!/usr/bin/env sh\n",
        });
        // A signalled shell exits at once instead of printing the script it was reading.
        script.push_str("\ntrap 'exit 1' TERM\n\n{ ");
        script.push_str(
            "case \"$(set -o)\" in *\"pipefail\"*) set -o pipefail;; esac; set -o errexit\nset +o noclobber\n",
        );
        script.push_str("_runner_script=");
        push_quoted(&mut script, body);
        script.push_str(if self.legacy_eval {
            "\n: | eval \"unset _runner_script; $_runner_script\""
        } else {
            "\n(trap 'exit 1' TERM; eval \"unset _runner_script; $_runner_script\") < /dev/null"
        });
        script.push_str("\nexit 0; }\n");
        script
    }
}
