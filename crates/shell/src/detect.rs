//! Finding a shell in an image (job-lifecycle §3.2).

/// What [`DETECT_SHELL`] prints, before it exits with code 1, in an image without a shell that
/// it knows.
pub const NO_SHELL_MESSAGE: &str = "shell not found";

/// Third word of the build container's command `sh -c …`: becomes the first shell there is.
///
/// The image's entrypoint, if any, must run its arguments. `shell = "sh"` in the configuration
/// makes no difference: an image that has bash runs bash.
pub const DETECT_SHELL: &str = "\
if [ -x /usr/local/bin/bash ]; then
\texec /usr/local/bin/bash
elif [ -x /usr/bin/bash ]; then
\texec /usr/bin/bash
elif [ -x /bin/bash ]; then
\texec /bin/bash
elif [ -x /usr/local/bin/sh ]; then
\texec /usr/local/bin/sh
elif [ -x /usr/bin/sh ]; then
\texec /usr/bin/sh
elif [ -x /bin/sh ]; then
\texec /bin/sh
elif [ -x /busybox/sh ]; then
\texec /busybox/sh
else
\techo shell not found
\texit 1
fi
";

/// As [`DETECT_SHELL`], with a login shell: for web terminals.
pub const DETECT_LOGIN_SHELL: &str = "\
if [ -x /usr/local/bin/bash ]; then
\texec /usr/local/bin/bash -l
elif [ -x /usr/bin/bash ]; then
\texec /usr/bin/bash -l
elif [ -x /bin/bash ]; then
\texec /bin/bash -l
elif [ -x /usr/local/bin/sh ]; then
\texec /usr/local/bin/sh -l
elif [ -x /usr/bin/sh ]; then
\texec /usr/bin/sh -l
elif [ -x /bin/sh ]; then
\texec /bin/sh -l
elif [ -x /busybox/sh ]; then
\texec /busybox/sh -l
else
\techo shell not found
\texit 1
fi
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shells::{Run, shells};

    /// The candidates of a detector, in order.
    fn candidates(detector: &str) -> Vec<&str> {
        detector
            .lines()
            .filter_map(|line| {
                line.split_once("[ -x ")?
                    .1
                    .split_once(" ]")
                    .map(|(path, _)| path)
            })
            .collect()
    }

    #[test]
    fn candidates_stand_in_the_peers_order() {
        let order = [
            "/usr/local/bin/bash",
            "/usr/bin/bash",
            "/bin/bash",
            "/usr/local/bin/sh",
            "/usr/bin/sh",
            "/bin/sh",
            "/busybox/sh",
        ];
        assert_eq!(candidates(DETECT_SHELL), order);
        assert_eq!(candidates(DETECT_LOGIN_SHELL), order);
        for path in order {
            assert!(DETECT_SHELL.contains(&format!("exec {path}\n")));
            assert!(DETECT_LOGIN_SHELL.contains(&format!("exec {path} -l\n")));
        }
    }

    #[test]
    fn the_shell_that_is_found_reads_the_script_from_stdin() {
        for shell in shells() {
            let run = Run::command(&shell, DETECT_SHELL, "echo from stdin");
            assert_eq!(
                (run.stdout.as_str(), run.code),
                ("from stdin\n", Some(0)),
                "{shell}"
            );
        }
    }

    #[test]
    fn without_a_shell_the_detector_says_so_and_fails() {
        let nowhere = DETECT_SHELL.replace("[ -x /", "[ -x /nowhere/");
        for shell in shells() {
            let run = Run::command(&shell, &nowhere, "echo from stdin");
            assert_eq!(run.stdout.trim_end(), NO_SHELL_MESSAGE, "{shell}");
            assert_eq!(run.code, Some(1), "{shell}");
        }
    }
}
