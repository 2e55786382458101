//! Ending all processes of a container politely (docker-executor §7.6, step 2).

/// Asks every process of the container but PID 1 and itself to end: TERM to each, the highest
/// PID first, with up to 6 s for each to be gone. To be run as `sh -c` by exec; the caller bounds
/// the whole of it (10 s in the peer) and stops the container afterwards.
///
/// Unlike the peer's it needs no `ls`, `grep` or `sort` in the image, looks every 0.1 s where
/// `sleep` can do that, and does not wait for zombies, which nobody may ever reap.
pub const TERMINATE_PROCESSES: &str = r#"pids=
for dir in /proc/[0-9] /proc/[0-9][0-9] /proc/[0-9][0-9][0-9] /proc/[0-9][0-9][0-9][0-9] /proc/[0-9][0-9][0-9][0-9][0-9] /proc/[0-9][0-9][0-9][0-9][0-9][0-9] /proc/[0-9][0-9][0-9][0-9][0-9][0-9][0-9]; do
  [ -d "$dir" ] && pids="${dir#/proc/} $pids"
done
gone() {
  kill -0 "$1" 2>/dev/null || return 0
  stat=
  read -r stat 2>/dev/null < "/proc/$1/stat" || return 0
  case "$stat" in *') Z '*) return 0;; esac
  return 1
}
for pid in $pids; do
  case "$pid" in 1|"$$") continue;; esac
  kill -TERM "$pid" 2>/dev/null || continue
  tenths=0
  while [ "$tenths" -lt 60 ]; do
    if gone "$pid"; then break; fi
    if sleep 0.1 2>/dev/null; then tenths=$((tenths + 1)); else sleep 1; tenths=$((tenths + 10)); fi
  done
done
exit 0
"#;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::shells::shells;

    /// Runs `init` as PID 1 of a PID namespace of its own, so that the script under test, its
    /// `$1`, which the shell `$2` is to run, can reach nothing else. `None` where this machine does not allow that.
    fn in_pid_namespace(words: &[&str], init: &str, script: &str) -> Option<String> {
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(words);
        let output = command
            .args(["-c", init, "init", script, &words.join(" ")])
            .output();
        match output {
            Ok(output) if output.stdout.starts_with(b"inside\n") => {
                Some(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            other => {
                eprintln!("SKIPPED: no PID namespace here: {other:?}");
                None
            }
        }
    }

    #[test]
    fn every_process_but_the_first_gets_term_and_may_clean_up() {
        for shell in shells() {
            let init = r#"
                [ "$$" = 1 ] || exit 9
                echo inside
                trap 'echo init got TERM' TERM
                dir=$(mktemp -d)
                for n in 1 2 3; do
                    (trap "echo cleaned up $n; exit 0" TERM; : > "$dir/$n"; while :; do sleep 0.05; done) &
                done
                until [ -e "$dir/1" ] && [ -e "$dir/2" ] && [ -e "$dir/3" ]; do sleep 0.01; done
                rm -r "$dir"
                $2 -c "$1"
                wait
                echo end
            "#;
            let output = in_pid_namespace(&shell.words(), init, TERMINATE_PROCESSES);
            let Some(output) = output else { return };
            let mut lines: Vec<&str> = output.lines().collect();
            assert_eq!(
                (lines.first(), lines.last()),
                (Some(&"inside"), Some(&"end")),
                "{shell}"
            );
            lines.sort_unstable();
            let expected = [
                "cleaned up 1",
                "cleaned up 2",
                "cleaned up 3",
                "end",
                "inside",
            ];
            assert_eq!(lines, expected, "{shell}");
        }
    }

    #[test]
    fn zombies_are_not_waited_for() {
        for shell in shells() {
            // `sleep` never reaps the child it inherits from the shell it replaces, and has a
            // lower PID, so that it still lives when the zombie is looked at.
            let init = r#"
                echo inside
                sh -c 'sh -c "exit 0" & exec sleep 1000' &
                until grep -q '^State:.*Z' /proc/[0-9]*/status 2>/dev/null; do sleep 0.01; done
                echo zombie
                $2 -c "$1"
                wait
                echo end
            "#;
            let counting =
                format!("sleep() {{ echo slept; command sleep \"$@\"; }}\n{TERMINATE_PROCESSES}");
            let Some(output) = in_pid_namespace(&shell.words(), init, &counting) else {
                return;
            };
            assert!(
                output.contains("zombie\n") && output.ends_with("end\n"),
                "{shell}: {output}"
            );
            // Waiting for the zombie would be 60 times.
            assert!(output.matches("slept\n").count() < 60, "{shell}: {output}");
        }
    }

    #[test]
    fn the_script_is_valid_in_every_shell() {
        for shell in shells() {
            let words = shell.words();
            let mut command = Command::new(words[0]);
            let output = command
                .args(&words[1..])
                .args(["-n", "-c", TERMINATE_PROCESSES])
                .output()
                .unwrap();
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{shell}: {output:?}"
            );
        }
    }
}
