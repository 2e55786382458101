//! Variables, files and the `GITLAB_ENV` file.

use std::path::Path;

use gantry_job::JobStatus;
use proptest::prelude::*;

use super::*;

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
fn a_file_variable_that_no_shell_exports_has_its_file() {
    let stage = Stage::with(vec![file_variable("1.KEY of mine", "it's content")]);
    in_every_shell(|shell| {
        let path = Path::new(&stage.tmp_dir()).join("1.KEY of mine");
        let run = stage.output(shell, &["echo ok"]);
        assert_eq!(
            (run.stdout.as_str(), run.code),
            ("ok\n", Some(0)),
            "{shell}"
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "it's content",
            "{shell}"
        );
        fs::remove_file(path).unwrap();
    });
}

/// Bash alone: there, the peer fails every stage.
#[test]
fn names_that_a_shell_keeps_for_itself_do_not_end_the_stage() {
    let names = [
        "BASHOPTS",
        "BASH_VERSINFO",
        "EUID",
        "PPID",
        "SHELLOPTS",
        "UID",
    ];
    let stage = Stage::with(names.map(|name| Variable::new(name, "1234")).to_vec());
    let of_file = Stage::new();
    fs::create_dir(of_file.tmp_dir()).unwrap();
    let lines: String = names.iter().map(|name| format!("{name}=1234\n")).collect();
    fs::write(of_file.tmp_dir() + "/gitlab_runner_env", lines).unwrap();
    in_every_shell(|shell| {
        let bash = Run::command(shell, "echo ${BASH_VERSION:+yes}", "").stdout == "yes\n";
        let say = "for name in UID EUID; do eval echo \\$$name; done";
        for (stage, warning) in [
            (
                &stage,
                "variable \"UID\" is not exported: bash keeps this name for itself",
            ),
            (
                &of_file,
                "GITLAB_ENV: line 6 is ignored: bash keeps the name UID for itself",
            ),
        ] {
            let run = stage.output(shell, &[say]);
            assert_eq!(run.code, Some(0), "{shell}: {}", run.stderr);
            assert_eq!(
                run.stdout.contains(warning),
                bash,
                "{shell}: {}",
                run.stdout
            );
            assert_eq!(
                run.stdout == "1234\n1234\n",
                !bash,
                "{shell}: {}",
                run.stdout
            );
        }
    });
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
        let lines = run.stdout.split_inclusive('\n');
        let values: String = lines.filter(|line| !line.starts_with('\x1b')).collect();
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

/// Linux starts no program with such a value, so that every command after it would fail.
#[test]
fn a_line_of_the_env_file_that_no_environment_holds_is_left_out() {
    in_every_shell(|shell| {
        let stage = Stage::new();
        fs::create_dir(stage.tmp_dir()).unwrap();
        let lines = format!(
            "A={}\nB={}\nC=3\n",
            "x".repeat(131_069),
            "x".repeat(131_070)
        );
        fs::write(stage.tmp_dir() + "/gitlab_runner_env", lines).unwrap();
        let run = stage.output(shell, &["echo ${#A} ${#B} $C; env > /dev/null"]);
        let warning = "\x1b[0;33mGITLAB_ENV: line 2 is too long for an environment (limit 128 KiB) and is ignored\x1b[0;m\n";
        assert_eq!(
            run.stdout,
            format!("{warning}131069 0 3\n"),
            "{shell}: {}",
            run.stderr
        );
        assert_eq!(run.code, Some(0), "{shell}");
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
}

#[test]
fn git_is_told_of_credentials_for_any_place_where_the_helper_wrote_them_down() {
    let stage = Stage::new().flag(FeatureFlag::GitUrlsWithoutTokens);
    let file = stage.tmp_dir() + "/.glr.gconf";
    let command = ["printf '%s\\n' \"${GIT_CONFIG_GLOBAL-none}\""];
    in_every_shell(|shell| {
        assert_eq!(stage.output(shell, &command).stdout, "none\n", "{shell}");
        fs::write(&file, "").unwrap();
        assert_eq!(
            stage.output(shell, &command).stdout,
            format!("{file}\n"),
            "{shell}"
        );
        fs::remove_file(&file).unwrap();
    });
    let without = Stage::new().render(STEP, &["true"]).script;
    assert!(!without.contains("GIT_CONFIG_GLOBAL"));
}
