//! The lines a script prints of itself: each command before it runs (job-lifecycle §3.4).

use crate::quote::push_quoted;

/// Start of a notice of the runner.
const GREEN: &str = "\x1b[32;1m";
/// End of a notice of the runner.
const RESET: &str = "\x1b[0;m";

/// How commands are shown and checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandStyle {
    /// Multi-line commands as collapsed sections instead of their first line only.
    pub(crate) sections: bool,
    /// Exit code looked at after every command, besides errexit.
    pub(crate) check_exit_code: bool,
}

/// Appends a command: its echo, the command itself, the check of its exit code.
///
/// `prefix` and `index` name the section of a multi-line command.
pub(crate) fn push_command(
    script: &mut String,
    command: &str,
    prefix: &str,
    index: usize,
    style: CommandStyle,
) {
    let shown = command.trim();
    if shown.is_empty() {
        script.push_str("echo\n");
        return;
    }
    match shown.split_once('\n') {
        None => push_notice(script, &format!("$ {shown}")),
        Some(_) if style.sections => push_section(script, shown, prefix, index),
        Some((first, _)) => {
            push_notice(script, &format!("$ {first} # collapsed multi-line command"));
        }
    }
    script.push_str(runnable(command, shown));
    script.push('\n');
    if style.check_exit_code {
        script.push_str(
            "_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi\n",
        );
    }
}

/// The trimmed command, with a last escaped blank given back: trimming it would leave a backslash
/// that swallows the next line.
fn runnable<'a>(command: &'a str, shown: &'a str) -> &'a str {
    let after = command.trim_start();
    let escapes = shown
        .bytes()
        .rev()
        .take_while(|byte| *byte == b'\\')
        .count();
    let blank_follows = matches!(after.as_bytes().get(shown.len()), Some(b' ' | b'\t'));
    if escapes % 2 == 1 && blank_follows {
        &after[..=shown.len()]
    } else {
        shown
    }
}

/// Appends the printing of one line in the runner's own colour.
pub(crate) fn push_notice(script: &mut String, text: &str) {
    script.push_str(r"printf '%s\n' ");
    push_quoted(script, &format!("{GREEN}{text}{RESET}"));
    script.push('\n');
}

/// The section encloses only the echo and ends before the command runs, as in the peer. Unlike
/// there, the command is no format and no pattern, so it is shown as it is written.
fn push_section(script: &mut String, command: &str, prefix: &str, index: usize) {
    let name = format!("section_{prefix}_{index}");
    let start = format!(r"section_start:%s:{name}[hide_duration=true,collapsed=true]\r\033[0K%s\n");
    let end = format!(r"section_end:%s:{name}\r\033[0K\n");
    script.push_str("printf ");
    push_quoted(script, &(start + &end));
    script.push_str(" \"$(date +%s)\" ");
    push_quoted(script, &format!("{GREEN}$ {command}{RESET}"));
    script.push_str(" \"$(date +%s)\"\n");
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PLAIN: CommandStyle = CommandStyle {
        sections: false,
        check_exit_code: false,
    };

    fn pushed(command: &str, style: CommandStyle) -> String {
        let mut script = String::new();
        push_command(&mut script, command, "script_step", 3, style);
        script
    }

    #[rstest]
    #[case::one_line("make", "printf '%s\\n' '\x1b[32;1m$ make\x1b[0;m'\nmake\n")]
    #[case::trimmed("  make \r\n", "printf '%s\\n' '\x1b[32;1m$ make\x1b[0;m'\nmake\n")]
    #[case::blank(" \n\t", "echo\n")]
    #[case::empty("", "echo\n")]
    #[case::quotes(
        "echo 'a'",
        "printf '%s\\n' '\x1b[32;1m$ echo '\\''a'\\''\x1b[0;m'\necho 'a'\n"
    )]
    #[case::lines(
        "\nif a\nthen b\nfi\n",
        "printf '%s\\n' '\x1b[32;1m$ if a # collapsed multi-line command\x1b[0;m'\nif a\nthen b\nfi\n"
    )]
    #[case::escaped_blank("ls a\\ ", "printf '%s\\n' '\x1b[32;1m$ ls a\\\x1b[0;m'\nls a\\ \n")]
    #[case::escaped_backslash(
        "echo \\\\ ",
        "printf '%s\\n' '\x1b[32;1m$ echo \\\\\x1b[0;m'\necho \\\\\n"
    )]
    fn command_is_shown_then_run(#[case] command: &str, #[case] script: &str) {
        assert_eq!(pushed(command, PLAIN), script);
    }

    #[test]
    fn exit_code_is_checked_after_every_command() {
        let script = pushed(
            "make",
            CommandStyle {
                check_exit_code: true,
                ..PLAIN
            },
        );
        assert!(script.ends_with(
            "make\n_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi\n"
        ));
    }

    #[test]
    fn only_multi_line_commands_become_sections() {
        let style = CommandStyle {
            sections: true,
            ..PLAIN
        };
        assert_eq!(pushed("make", style), pushed("make", PLAIN));
        assert!(pushed("a\nb", style).contains("section_start:%s:section_script_step_3["));
    }
}
