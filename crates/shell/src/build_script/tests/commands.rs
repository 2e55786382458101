//! The frame, and how commands are shown, run and judged.

use rstest::rstest;

use super::*;

/// A fixed script, to be read by people when it changes.
#[test]
fn script_is_the_peers_frame_around_the_quoted_body() {
    let commands = ["echo 'a'".to_owned(), "if x\nthen y\nfi".to_owned()];
    let variables = Variables::from(vec![
        Variable::new("A", "it's"),
        file_variable("F", "text"),
        Variable::new("A.B", "x"),
    ]);
    let rendered = BuildScript {
        shell: Shell::Bash,
        kind: ScriptKind::Step {
            pre_build_script: "pre",
            post_build_script: "post",
        },
        commands: &commands,
        variables: &variables,
        project_dir: "/builds/g/p",
        tmp_dir: "/builds/g/p.tmp",
        create_project_dir: true,
        flags: &FeatureFlags::default(),
        debug_trace: true,
        trace_sections: false,
        start_nonce: Some("nonce"),
    }
    .render();
    assert_eq!(rendered.skipped_keys, ["A.B"]);
    let (head, rest) = rendered.script.split_once("_runner_script='").unwrap();
    assert_eq!(
        head,
        r#"#!/usr/bin/env bash

trap 'exit 1' TERM

{ case "$(set -o)" in *"pipefail"*) set -o pipefail;; esac; set -o errexit
set +o noclobber
"#
    );
    let (body, tail) = rest.split_once("'\n(trap").unwrap();
    assert_eq!(
        tail,
        " 'exit 1' TERM; eval \"unset _runner_script; $_runner_script\") < /dev/null\nexit 0; }\n"
    );
    let body = body.replace(r"'\''", "'");
    let (start, end) = body.split_once("if [ -s ").unwrap();
    assert_eq!(
        start,
        r#"printf '%s\n' nonce
set -o xtrace
if [ ! -d /builds/g/p.tmp ] || [ ! -d /builds/g/p ]; then (umask 0000; mkdir -p /builds/g/p.tmp /builds/g/p); fi
export A='it'\''s'
printf '%s' text > /builds/g/p.tmp/F
export F=/builds/g/p.tmp/F
export GITLAB_ENV=/builds/g/p.tmp/gitlab_runner_env
: >> /builds/g/p.tmp/gitlab_runner_env
"#
    );
    let (_, commands) = end
        .split_once("unset _runner_env_number _runner_env_line\nfi\n")
        .unwrap();
    assert_eq!(
        commands.replace('\x1b', "ESC"),
        r#"cd /builds/g/p
printf '%s\n' 'ESC[32;1m$ preESC[0;m'
pre
printf '%s\n' 'ESC[32;1m$ echo '\''a'\''ESC[0;m'
echo 'a'
printf '%s\n' 'ESC[32;1m$ if x # collapsed multi-line commandESC[0;m'
if x
then y
fi
printf '%s\n' 'ESC[32;1m$ postESC[0;m'
post
"#
    );
}

#[test]
fn shell_of_the_configuration_stands_in_the_first_line() {
    let stage = Stage::new();
    let first_line = |shell| {
        let commands = [];
        let script = BuildScript {
            shell,
            kind: STEP,
            commands: &commands,
            variables: &stage.variables,
            project_dir: "/",
            tmp_dir: "/tmp",
            create_project_dir: false,
            flags: &stage.flags,
            debug_trace: false,
            trace_sections: false,
            start_nonce: None,
        };
        script.render().script.lines().next().unwrap().to_owned()
    };
    assert_eq!(first_line(Shell::Bash), "#!/usr/bin/env bash");
    assert_eq!(first_line(Shell::Sh), "#!/usr/bin/env sh");
}

#[test]
fn commands_are_shown_and_run_in_order() {
    in_every_shell(|shell| {
        let stage = Stage::new();
        let run = stage.run(
            shell,
            &[
                "  echo one ",
                "",
                "echo 'it'\"'\"'s'\necho three",
                "  \n\t",
                "pwd",
            ],
        );
        let expected = format!(
            "\x1b[32;1m$ echo one\x1b[0;m\none\n\n\x1b[32;1m$ echo 'it'\"'\"'s' # collapsed multi-line command\x1b[0;m\nit's\nthree\n\n\x1b[32;1m$ pwd\x1b[0;m\n{}\n",
            stage.project_dir()
        );
        assert_eq!(
            (run.stdout.as_str(), run.stderr.as_str(), run.code),
            (expected.as_str(), "", Some(0)),
            "{shell}"
        );
    });
}

#[test]
fn echo_shows_a_command_exactly_as_it_is_written() {
    in_every_shell(|shell| {
        let command = r#": "\n \t \033 \\ %s %d $HOME" '$(id) `id`' é"#;
        let run = Stage::new().run(shell, &[command]);
        assert_eq!(
            run.stdout,
            format!("\x1b[32;1m$ {command}\x1b[0;m\n"),
            "{shell}"
        );
    });
}

#[rstest]
#[case::last_command(&["exit 3"], 3)]
#[case::in_the_middle(&["false", "echo not reached"], 1)]
#[case::own_code(&["sh -c 'exit 42'", "echo not reached"], 42)]
#[case::exit_0_ends_the_step(&["exit 0", "echo not reached; false"], 0)]
#[case::errexit_can_be_switched_off(&["set +e", "false", "true"], 0)]
#[case::errexit_off_within_one_command(&["set +e; false; true"], 0)]
#[case::no_command(&[], 0)]
#[case::blank_command(&["  "], 0)]
#[case::condition(&["if false; then :; fi", "false || true", "! true || :"], 0)]
#[case::unknown_command(&["no-such-command-here", "echo not reached"], 127)]
#[case::killed(&["sh -c 'kill -KILL $$'", "echo not reached"], 137)]
#[case::subshell(&["(exit 7)", "echo not reached"], 7)]
fn exit_code_is_that_of_the_failing_command(#[case] commands: &[&str], #[case] code: i32) {
    in_every_shell(|shell| {
        let run = Stage::new().output(shell, commands);
        assert_eq!(run.code, Some(code), "{shell}: {}", run.stderr);
        assert!(!run.stdout.contains("not reached"), "{shell}");

        // bash gives code 1 for most failures in this form. The flag's users have asked for it.
        let run = Stage::new()
            .flag(FeatureFlag::UseLegacyBashEval)
            .output(shell, commands);
        let codes = [Some(code), Some(i32::from(code != 0))];
        assert!(
            codes.contains(&run.code),
            "{shell}, legacy eval: {:?}",
            run.code
        );
        assert!(!run.stdout.contains("not reached"), "{shell}, legacy eval");

        // Here `set +e` does not help: that is what the flag is for.
        let code = if commands.contains(&"set +e") {
            1
        } else {
            code
        };
        let run = Stage::new()
            .flag(FeatureFlag::EnableBashExitCodeCheck)
            .output(shell, commands);
        assert_eq!(
            run.code,
            Some(code),
            "{shell}, exit code check: {}",
            run.stderr
        );
        assert!(
            !run.stdout.contains("not reached"),
            "{shell}, exit code check"
        );
    });
}

#[test]
fn pipefail_is_on_in_shells_that_know_it() {
    in_every_shell(|shell| {
        let knows = Run::command(shell, "set -o pipefail", "").code == Some(0);
        let run = Stage::new().output(shell, &["false | true", "echo passed"]);
        assert_eq!(run.code, Some(if knows { 1 } else { 0 }), "{shell}");
    });
    assert_eq!(
        Run::command(&shells()[0], "set -o pipefail", "").code,
        Some(0),
        "bash knows it"
    );
}

#[rstest]
#[case::eval(false)]
#[case::legacy_eval(true)]
fn commands_read_nothing_from_the_script(#[case] legacy: bool) {
    in_every_shell(|shell| {
        let mut stage = Stage::new();
        stage.flags.set(FeatureFlag::UseLegacyBashEval, legacy);
        let run = stage.output(
            shell,
            &["cat", "read -r line || echo end of file", "echo after"],
        );
        assert_eq!(
            (run.stdout.as_str(), run.code),
            ("end of file\nafter\n", Some(0)),
            "{shell}"
        );
    });
}

#[test]
fn unterminated_quote_fails_after_the_lines_before_it() {
    in_every_shell(|shell| {
        let run = Stage::new().output(shell, &["echo before", "echo 'open", "echo swallowed"]);
        assert!(run.stdout.starts_with("before\n"), "{shell}");
        assert!(!run.stdout.contains("\nswallowed"), "{shell}");
        assert_eq!(run.code, Some(2), "{shell}");
        assert!(!run.stderr.is_empty(), "{shell}");
    });
}

#[test]
fn missing_directories_are_made_for_everyone() {
    use std::os::unix::fs::PermissionsExt;
    in_every_shell(|shell| {
        let root = TempDir::new().unwrap();
        let project = root.path().join("deep/er/project");
        let project_dir = project.to_str().unwrap();
        let tmp_dir = format!("{project_dir}.tmp");
        let (variables, flags) = (Variables::new(), FeatureFlags::default());
        let commands = ["umask; pwd".to_owned()];
        let script = BuildScript {
            shell: Shell::Sh,
            kind: STEP,
            commands: &commands,
            variables: &variables,
            project_dir,
            tmp_dir: &tmp_dir,
            create_project_dir: true,
            flags: &flags,
            debug_trace: false,
            trace_sections: false,
            start_nonce: None,
        };
        let run = Run::stdin(shell, &script.render().script);
        assert_eq!(run.code, Some(0), "{shell}: {}", run.stderr);
        assert!(run.stdout.ends_with(&format!("{project_dir}\n")), "{shell}");
        assert!(
            !run.stdout.contains("0000"),
            "the umask of the image is left alone"
        );
        for dir in [project_dir, &tmp_dir] {
            assert_eq!(
                fs::metadata(dir).unwrap().permissions().mode() & 0o777,
                0o777,
                "{dir}"
            );
        }
        // Without the setting a missing project directory fails the stage.
        fs::remove_dir_all(&project).unwrap();
        let script = BuildScript {
            create_project_dir: false,
            ..script
        };
        assert_ne!(
            Run::stdin(shell, &script.render().script).code,
            Some(0),
            "{shell}"
        );
    });
}

#[test]
fn scripts_of_the_configuration_go_around_a_step_and_not_around_after_script() {
    let kind = ScriptKind::Step {
        pre_build_script: "echo pre\nX=1",
        post_build_script: "echo post $X",
    };
    in_every_shell(|shell| {
        let stage = Stage::new();
        let run = |kind, commands: &[&str]| {
            let run = Run::stdin(shell, &stage.render(kind, commands).script);
            let lines: Vec<String> = run
                .stdout
                .lines()
                .filter(|line| !line.contains('\x1b'))
                .map(str::to_owned)
                .collect();
            (lines.join(" "), run.code)
        };
        assert_eq!(
            run(kind, &["echo main"]),
            ("pre main post 1".into(), Some(0)),
            "{shell}"
        );
        assert_eq!(run(kind, &["exit 4"]), ("pre".into(), Some(4)), "{shell}");
        assert_eq!(
            run(ScriptKind::AfterScript, &["echo after"]),
            ("after".into(), Some(0)),
            "{shell}"
        );
        let failing = ScriptKind::Step {
            pre_build_script: "exit 4",
            post_build_script: "",
        };
        assert_eq!(
            run(failing, &["echo main"]),
            (String::new(), Some(4)),
            "{shell}"
        );
    });
}

#[test]
fn an_after_script_says_so_before_its_first_command() {
    in_every_shell(|shell| {
        let stage = Stage::new();
        let notice = "\x1b[32;1mRunning after script...\x1b[0;m\n";
        let script = stage
            .render(ScriptKind::AfterScript, &["echo after"])
            .script;
        assert_eq!(
            Run::stdin(shell, &script).stdout,
            format!("{notice}\x1b[32;1m$ echo after\x1b[0;m\nafter\n"),
            "{shell}"
        );
        assert!(!stage.run(shell, &["true"]).stdout.contains("after script"));
    });
}

#[test]
fn nothing_of_one_stage_leaks_into_the_next() {
    in_every_shell(|shell| {
        let stage = Stage::with(vec![Variable::new("HOME", "/root")]);
        let first = stage.output(shell, &["set -x; unset HOME; cd /; f() { :; }; Y=1"]);
        assert_eq!(first.code, Some(0), "{shell}");
        let run = Run::stdin(
            shell,
            &stage
                .render(ScriptKind::AfterScript, &["pwd; echo $HOME$Y"])
                .script,
        );
        assert!(
            run.stdout
                .ends_with(&format!("{}\n/root\n", stage.project_dir())),
            "{shell}"
        );
        assert_eq!(run.stderr, "", "{shell}");
    });
}

#[test]
fn debug_trace_shows_commands_as_they_run() {
    in_every_shell(|shell| {
        let stage = Stage {
            debug_trace: true,
            start_nonce: Some(NONCE),
            ..Stage::with(vec![Variable::new("A", "value")])
        };
        let run = stage.output(shell, &["echo $A"]);
        assert!(
            run.stderr.contains("+ echo value\n"),
            "{shell}: {}",
            run.stderr
        );
        assert!(run.stderr.contains("export"), "{shell}");
        assert!(!run.stderr.contains(NONCE), "{shell}");
        assert!(
            !Stage::new().run(shell, &["echo x"]).stderr.contains('+'),
            "{shell}"
        );
    });
}

#[test]
fn multi_line_commands_become_sections() {
    in_every_shell(|shell| {
        let stage = Stage {
            trace_sections: true,
            ..Stage::new().flag(FeatureFlag::ScriptSections)
        };
        let run = stage.run(shell, &["echo one", "echo '%s %d'\necho two"]);
        let stdout = with_times_hidden(&run.stdout);
        assert_eq!(
            stdout,
            "\x1b[32;1m$ echo one\x1b[0;m\none\nsection_start:T:section_script_step_1[hide_duration=true,collapsed=true]\r\x1b[0K\x1b[32;1m$ echo '%s %d'\necho two\x1b[0;m\nsection_end:T:section_script_step_1\r\x1b[0K\n%s %d\ntwo\n",
            "{shell}"
        );
        let without = Stage {
            trace_sections: false,
            ..stage
        }
        .run(shell, &["echo one\necho two"]);
        assert!(
            without.stdout.contains("# collapsed multi-line command"),
            "{shell}"
        );
    });
}

/// Puts `T` for the ten digits of a time.
fn with_times_hidden(text: &str) -> String {
    let mut result = String::new();
    let mut digits = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        result.push_str(if digits.len() == 10 { "T" } else { &digits });
        digits.clear();
        result.push(character);
    }
    result + &digits
}

#[test]
fn term_ends_the_shell_with_code_1_and_without_the_script_in_the_log() {
    in_every_shell(|shell| {
        // The script is the only child of the shell, so $PPID of a child of it is the subshell.
        let run = Stage::new().output(
            shell,
            &["sh -c 'kill -TERM $PPID'; sleep 1; echo not reached"],
        );
        assert_eq!(run.code, Some(1), "{shell}");
        assert!(
            !run.stdout.contains("not reached") && !run.stderr.contains("not reached"),
            "{shell}"
        );
    });
}

/// As the kernel ends it when memory runs out. Bash tells the text of what was killed.
#[rstest]
#[case::eval(false)]
#[case::legacy_eval(true)]
fn a_killed_script_shows_nothing_of_its_variables(#[case] legacy: bool) {
    in_every_shell(|shell| {
        let stage = Stage::with(vec![Variable::new("A", "of-the-job")]);
        let stage = if legacy {
            stage.flag(FeatureFlag::UseLegacyBashEval)
        } else {
            stage
        };
        let run = stage.output(
            shell,
            &["sh -c 'kill -KILL $PPID'; sleep 1; echo not reached"],
        );
        assert_ne!(run.code, Some(0), "{shell}");
        let shown = format!("{}{}", run.stdout, run.stderr);
        assert!(!shown.contains("of-the-job"), "{shell}: {shown}");
        assert!(!shown.contains("not reached"), "{shell}: {shown}");
    });
}

#[test]
fn a_script_does_not_see_itself() {
    in_every_shell(|shell| {
        let run = Stage::new().output(shell, &["set; echo end"]);
        assert!(run.stdout.ends_with("end\n"), "{shell}");
        assert!(
            !run.stdout.contains("_runner_script"),
            "{shell}: {}",
            run.stdout
        );
    });
}

#[test]
fn two_megabytes_of_script_run() {
    in_every_shell(|shell| {
        let filler = format!(": '{}'", "x".repeat(2 << 20));
        let run = Stage::new().output(shell, &[&filler, "echo end"]);
        assert!(run.stdout.ends_with("end\n"), "{shell}: {}", run.stderr);
        assert_eq!(run.code, Some(0), "{shell}");
    });
}

#[test]
fn debug_does_not_show_the_script() {
    let rendered = Stage::with(vec![Variable::new("A", "hush")]).render(STEP, &["echo hush"]);
    assert!(!format!("{rendered:?}").contains("hush"));
}
