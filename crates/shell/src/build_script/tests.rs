use std::fs;
use std::path::Path;

use gantry_job::JobStatus;
use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::shells::{Run, TestShell, shells};

const NONCE: &str = "gantry-start-0123456789abcdef";
const STEP: ScriptKind<'static> = ScriptKind::Step {
    pre_build_script: "",
    post_build_script: "",
};

/// A stage in a directory of its own.
struct Stage {
    root: TempDir,
    variables: Variables,
    flags: FeatureFlags,
    debug_trace: bool,
    trace_sections: bool,
    start_nonce: Option<&'static str>,
}

impl Stage {
    fn new() -> Self {
        let stage = Self {
            root: TempDir::new().unwrap(),
            variables: Variables::new(),
            flags: FeatureFlags::default(),
            debug_trace: false,
            trace_sections: false,
            start_nonce: None,
        };
        fs::create_dir(stage.project_dir()).unwrap();
        stage
    }

    fn with(variables: Vec<Variable>) -> Self {
        Self {
            variables: variables.into(),
            ..Self::new()
        }
    }

    fn flag(mut self, flag: FeatureFlag) -> Self {
        self.flags.set(flag, true);
        self
    }

    fn project_dir(&self) -> String {
        self.path("it's $HOME project")
    }

    fn tmp_dir(&self) -> String {
        self.project_dir() + ".tmp"
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    fn render(&self, kind: ScriptKind<'_>, commands: &[&str]) -> Rendered {
        let commands: Vec<String> = commands.iter().map(ToString::to_string).collect();
        BuildScript {
            shell: Shell::Bash,
            kind,
            commands: &commands,
            variables: &self.variables,
            project_dir: &self.project_dir(),
            tmp_dir: &self.tmp_dir(),
            create_project_dir: false,
            flags: &self.flags,
            debug_trace: self.debug_trace,
            trace_sections: self.trace_sections,
            start_nonce: self.start_nonce,
        }
        .render()
    }

    fn run(&self, shell: &TestShell, commands: &[&str]) -> Run {
        Run::stdin(shell, &self.render(STEP, commands).script)
    }

    /// Runs commands without their echo.
    fn output(&self, shell: &TestShell, commands: &[&str]) -> Run {
        let run = self.run(shell, commands);
        let stdout = run
            .stdout
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("\x1b[32;1m$ "));
        Run {
            stdout: stdout.collect(),
            ..run
        }
    }
}

fn in_every_shell(test: impl Fn(&TestShell)) {
    shells().iter().for_each(test);
}

fn file_variable(key: &str, value: &str) -> Variable {
    Variable {
        file: true,
        ..Variable::new(key, value)
    }
}

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
    let (head, rest) = rendered.script.split_once("eval '").unwrap();
    assert_eq!(
        head,
        r#"#!/usr/bin/env bash

trap 'exit 1' TERM

{ set -o xtrace
case "$(set -o)" in *"pipefail"*) set -o pipefail;; esac; set -o errexit
set +o noclobber
(trap 'exit 1' TERM; "#
    );
    let (body, tail) = rest.rsplit_once("') < /dev/null").unwrap();
    assert_eq!(tail, "\nexit 0; }\n");
    let body = body.replace(r"'\''", "'");
    let (start, end) = body.split_once("if [ -s ").unwrap();
    assert_eq!(
        start,
        r#"printf '%s\n' nonce
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

/// All the bytes a shell could take amiss, and some that are none of its business.
const HARD_VALUES: [&str; 12] = [
    "",
    " ",
    "it's",
    "\"double\" \\back\\ `tick` $HOME $(id) ${X:-y} !! ~ * ? [a-z] {a,b}",
    "a;b&c|d<e>f(g)h#i",
    "line\nbreak\n",
    "\n\nleading and trailing\n\n",
    "\r\ncarriage\r",
    "-n",
    "%s %d \\n \\t",
    "\x01\x02\x03\x04\x05\x06\x07\x08\t\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f",
    "é 日本語 🦀 \u{feff}",
];

#[test]
fn values_arrive_byte_by_byte() {
    let variables = HARD_VALUES
        .iter()
        .enumerate()
        .map(|(n, value)| Variable::new(format!("V{n}"), *value));
    let stage = Stage::with(variables.collect());
    let out = stage.path("out");
    let commands: Vec<String> = (0..HARD_VALUES.len())
        .map(|n| format!("printenv V{n} > '{out}.{n}'; printf '%s' \"$V{n}\" > '{out}.inside.{n}'"))
        .collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    in_every_shell(|shell| {
        assert_eq!(stage.output(shell, &commands).code, Some(0), "{shell}");
        for (n, value) in HARD_VALUES.iter().enumerate() {
            let read = |kind: &str| {
                String::from_utf8(fs::read(format!("{out}.{kind}{n}")).unwrap()).unwrap()
            };
            assert_eq!(read(""), format!("{value}\n"), "{shell}, exported {n}");
            assert_eq!(read("inside."), *value, "{shell}, inside {n}");
        }
    });
}

#[test]
fn file_variables_hold_the_bytes_and_the_variable_their_path() {
    let variables = HARD_VALUES
        .iter()
        .enumerate()
        .map(|(n, value)| file_variable(&format!("F{n}"), value));
    let stage = Stage::with(variables.collect());
    in_every_shell(|shell| {
        let run = stage.output(shell, &["printf '%s\\n' \"$F0\" \"$F1\""]);
        let tmp = stage.tmp_dir();
        assert_eq!(
            run.stdout,
            format!("{tmp}/F0\n{tmp}/F1\n"),
            "{shell}: {}",
            run.stderr
        );
        for (n, value) in HARD_VALUES.iter().enumerate() {
            let path = format!("{tmp}/F{n}");
            assert_eq!(fs::read(&path).unwrap(), value.as_bytes(), "{shell}, {n}");
            fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn last_entry_of_a_key_is_the_one_exported() {
    let stage = Stage::with(vec![
        Variable::new("A", "1"),
        file_variable("B", "content"),
        Variable::new("A", "2"),
        Variable::new("B", "plain"),
    ]);
    in_every_shell(|shell| {
        assert_eq!(
            stage.output(shell, &["echo $A $B"]).stdout,
            "2 plain\n",
            "{shell}"
        );
        assert!(
            !Path::new(&stage.tmp_dir()).join("B").exists(),
            "no file that nobody names"
        );
    });
}

#[test]
fn keys_that_no_shell_exports_are_left_out_and_named_once() {
    let key = |key: &str| Variable::new(key, "value");
    let stage = Stage::with(vec![
        key("GOOD"),
        key("1A"),
        key("A.B"),
        key("A-B"),
        key("A.B"),
        key("../x"),
        key("é"),
        key("A B"),
        key("x; echo injected"),
        file_variable("../../escape", "x"),
    ]);
    let rendered = stage.render(STEP, &["echo $GOOD"]);
    assert_eq!(
        rendered.skipped_keys,
        [
            "1A",
            "A-B",
            "A.B",
            "../x",
            "é",
            "A B",
            "x; echo injected",
            "../../escape"
        ]
    );
    in_every_shell(|shell| {
        let run = stage.output(shell, &["echo $GOOD"]);
        assert_eq!(
            (run.stdout.as_str(), run.code),
            ("value\n", Some(0)),
            "{shell}"
        );
    });
    assert!(!stage.root.path().join("escape").exists());
}

#[test]
fn variables_that_change_the_shell_do_not_break_the_stage() {
    let stage = Stage::with(vec![
        Variable::new("PATH", "/nowhere"),
        Variable::new("IFS", "ab/"),
        Variable::new("LC_ALL", "C"),
        Variable::new("POSIXLY_CORRECT", "1"),
    ]);
    in_every_shell(|shell| {
        let run = stage.output(shell, &["echo ok"]);
        assert_eq!(
            (run.stdout.as_str(), run.code),
            ("ok\n", Some(0)),
            "{shell}: {}",
            run.stderr
        );
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
fn lines_of_the_env_file_are_exported_in_later_stages() {
    in_every_shell(|shell| {
        let stage = Stage::new();
        let written = stage.output(
            shell,
            &[
                r#"echo 'FOO=bar baz' >> "$GITLAB_ENV""#,
                r#"echo '' >> "$GITLAB_ENV""#,
                r#"printf '%s\n' 'QUOTE="$HOME" `id` \n' 'FOO2=a=b' >> "$GITLAB_ENV""#,
                r#"printf 'LAST=no newline' >> "$GITLAB_ENV""#,
            ],
        );
        assert_eq!(
            (written.stdout.as_str(), written.code),
            ("", Some(0)),
            "{shell}: {}",
            written.stderr
        );
        let printed = stage.render(ScriptKind::AfterScript, &["printenv FOO QUOTE FOO2 LAST"]);
        let run = Run::stdin(shell, &printed.script);
        let (_, values) = run.stdout.split_once('\n').unwrap();
        assert_eq!(
            values, "bar baz\n\"$HOME\" `id` \\n\na=b\nno newline\n",
            "{shell}"
        );
        assert_eq!(run.code, Some(0), "{shell}: {}", run.stderr);
    });
}

#[test]
fn lines_of_the_env_file_that_no_shell_exports_are_reported_by_number() {
    in_every_shell(|shell| {
        let stage = Stage::new();
        fs::create_dir(stage.tmp_dir()).unwrap();
        let lines = "GOOD=1\n\nA.B=hush\n=hush\n1A=x\n-x\nBARE\n  INDENTED=2  \nnot a name=hush\n";
        fs::write(stage.tmp_dir() + "/gitlab_runner_env", lines).unwrap();
        let run = stage.output(shell, &["echo $GOOD$INDENTED."]);
        let ignored = |n| {
            format!("\x1b[0;33mGITLAB_ENV: line {n} is not NAME=value and is ignored\x1b[0;m\n")
        };
        let expected: String = [3, 4, 5, 6, 9].into_iter().map(ignored).collect();
        assert_eq!(run.stdout, expected + "12.\n", "{shell}: {}", run.stderr);
        assert_eq!(run.code, Some(0), "{shell}");
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
fn job_status_reaches_after_script() {
    let mut stage = Stage::with(vec![Variable::new("CI_JOB_STATUS", "running")]);
    stage.variables.set_job_status(JobStatus::TimedOut);
    in_every_shell(|shell| {
        assert_eq!(
            stage.output(shell, &["echo $CI_JOB_STATUS"]).stdout,
            "timedout\n",
            "{shell}"
        );
    });
}

#[test]
fn debug_trace_shows_commands_as_they_run() {
    in_every_shell(|shell| {
        let stage = Stage {
            debug_trace: true,
            ..Stage::with(vec![Variable::new("A", "value")])
        };
        let run = stage.output(shell, &["echo $A"]);
        assert!(
            run.stderr.contains("+ echo value\n"),
            "{shell}: {}",
            run.stderr
        );
        assert!(run.stderr.contains("export"), "{shell}");
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
        let stdout = regex_free_seconds(&run.stdout);
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
fn regex_free_seconds(text: &str) -> String {
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
fn nonce_is_the_first_line() {
    let stage = Stage {
        start_nonce: Some(NONCE),
        ..Stage::new()
    };
    in_every_shell(|shell| {
        let run = stage.output(shell, &["echo user"]);
        assert_eq!(run.stdout, format!("{NONCE}\nuser\n"), "{shell}");
    });
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

#[test]
fn two_megabytes_of_script_run() {
    in_every_shell(|shell| {
        let filler = format!(": '{}'", "x".repeat(2 << 20));
        let run = Stage::new().output(shell, &[&filler, "echo end"]);
        assert!(run.stdout.ends_with("end\n"), "{shell}: {}", run.stderr);
        assert_eq!(run.code, Some(0), "{shell}");
    });
}

/// Feeds the prefix of `script` of each length in `cuts` to `shell` and checks that it neither
/// prints the nonce nor runs a user command.
fn assert_cuts_run_nothing(
    shell: &TestShell,
    script: &str,
    marker: &Path,
    cuts: impl Iterator<Item = usize>,
) {
    for cut in cuts {
        let run = Run::stdin_bytes(shell, &script.as_bytes()[..cut]);
        // On stderr the shells may quote a piece of the script in their complaint.
        let mut printed = run.stdout.lines().chain(run.stderr.lines());
        assert!(
            !printed.any(|line| line == NONCE),
            "{shell}: nonce at cut {cut} of {}",
            script.len()
        );
        assert_eq!(run.stdout, "", "{shell}: output at cut {cut}");
        assert!(
            !marker.exists(),
            "{shell}: user code ran at cut {cut} of {}",
            script.len()
        );
    }
}

/// The whole script and the one without its final newline run; every shorter one does not.
fn complete_length(script: &str) -> usize {
    assert!(script.ends_with("}\n"));
    script.len() - 1
}

#[rstest]
#[case::eval(false)]
#[case::legacy_eval(true)]
fn small_script_cut_at_any_byte_runs_nothing(#[case] legacy: bool) {
    in_every_shell(|shell| {
        let mut stage = Stage {
            start_nonce: Some(NONCE),
            ..Stage::new()
        };
        stage.flags.set(FeatureFlag::UseLegacyBashEval, legacy);
        let marker = stage.root.path().join("ran");
        let script = stage
            .render(STEP, &[&format!("touch '{}'", marker.display())])
            .script;
        let complete = complete_length(&script);
        assert_cuts_run_nothing(shell, &script, &marker, 0..complete);
        for end in [complete, script.len()] {
            let run = Run::stdin(shell, &script[..end]);
            assert!(
                run.stdout.starts_with(NONCE) && run.code == Some(0),
                "{shell}: {run:?}"
            );
            assert!(marker.exists(), "{shell}");
            fs::remove_file(&marker).unwrap();
        }
    });
}

#[test]
fn large_script_of_hard_bytes_cut_in_many_places_runs_nothing() {
    let mut variables: Vec<Variable> = HARD_VALUES
        .iter()
        .enumerate()
        .map(|(n, value)| Variable::new(format!("V{n}"), *value))
        .collect();
    variables.push(file_variable("F", "'\n') < /dev/null\nexit 0; }\n"));
    let stage = Stage {
        start_nonce: Some(NONCE),
        ..Stage::with(variables)
    };
    let marker = stage.root.path().join("ran");
    let touch = format!("touch '{}'", marker.display());
    let script = stage
        .render(
            STEP,
            &[
                &touch,
                "cat <<'END'\n') < /dev/null\nexit 0; }\n'\nEND",
                "if true\nthen\n  echo 'a' \"b\" # it's\nfi",
                "f() { echo $1; }; f x",
                &touch,
            ],
        )
        .script;
    let complete = complete_length(&script);
    in_every_shell(|shell| {
        // Each byte where quoting and the frame are touchy, and a prime step elsewhere.
        let touchy = script
            .char_indices()
            .filter(|(_, c)| "'\n;})".contains(*c))
            .map(|(at, _)| at);
        let mut cuts: Vec<usize> = touchy
            .flat_map(|at| [at, at + 1])
            .step_by(3)
            .chain((0..complete).step_by(23))
            .chain(complete.saturating_sub(60)..complete)
            .filter(|cut| *cut < complete)
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        assert!(cuts.len() > 300, "only {} cuts", cuts.len());
        assert_cuts_run_nothing(shell, &script, &marker, cuts.into_iter());
        let run = Run::stdin(shell, &script);
        assert!(
            run.stdout.starts_with(NONCE) && marker.exists(),
            "{shell}: {}",
            run.stderr
        );
        fs::remove_file(&marker).unwrap();
    });
}

#[test]
fn debug_does_not_show_the_script() {
    let rendered = Stage::with(vec![Variable::new("A", "hush")]).render(STEP, &["echo hush"]);
    assert!(!format!("{rendered:?}").contains("hush"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_value_and_any_file_arrive_as_they_are(value in "(.|\n|['\"$\\\\`!])*", file in "(.|\n|'){0,40}") {
        // A shell variable cannot hold NUL, and quoting drops it.
        let without_nul = |text: &str| text.replace('\0', "");
        let stage = Stage::with(vec![Variable::new("V", &value), file_variable("F", &file)]);
        let out = stage.path("out");
        for shell in shells() {
            let run = stage.output(&shell, &[&format!("printf '%s' \"$V\" > '{out}'; printf '%s' \"$F\"")]);
            prop_assert_eq!(run.code, Some(0), "{}: {}", shell, run.stderr);
            prop_assert_eq!(String::from_utf8(fs::read(&out).unwrap()).unwrap(), without_nul(&value));
            prop_assert_eq!(&run.stdout, &format!("{}/F", stage.tmp_dir()));
            prop_assert_eq!(String::from_utf8(fs::read(&run.stdout).unwrap()).unwrap(), without_nul(&file));
        }
    }

    #[test]
    fn any_command_text_cut_anywhere_runs_nothing(
        command in "([a-z '\"\n;(){}<>&|#$\\\\`]|.){0,60}",
        cut in 0.0..1.0f64,
    ) {
        let stage = Stage { start_nonce: Some(NONCE), ..Stage::new() };
        let marker = stage.root.path().join("ran");
        let script =
            stage.render(STEP, &[&format!("touch '{}'", marker.display()), &command]).script;
        let complete = complete_length(&script);
        let cut = ((complete as f64 * cut) as usize).min(complete - 1);
        for shell in shells() {
            assert_cuts_run_nothing(&shell, &script, &marker, [cut].into_iter());
        }
    }
}
