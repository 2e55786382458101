//! `gantry config`, the real program: what it prints, and its exit code.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

const FILE: &str = r#"concurrent = 4
check_interval = 0
[[runners]]
  name = "host1"
  url = "https://gitlab.example.com"
  token = "$RUNNER_SECRET"
  executor = "docker"
  [runners.docker]
    image = "alpine"
    memory = "512m"
[[runners]]
  name = "host2"
  url = "https://gitlab.example.com"
  token = "glrt-hunter2"
  executor = "docker"
  [runners.docker]
    memroy = "1g"
    cap_add = ["ALL"]
"#;

struct Folder(TempDir);

struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Folder {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }

    fn gantry(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_gantry"))
            .arg("config")
            .args(arguments)
            .env_clear()
            .env("CONFIG_FILE", self.path())
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done {
            code: output.status.code().unwrap(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let done = self.gantry(&[arguments, &["--format", "json"]].concat(), &[]);
        serde_json::from_str(&done.stdout).unwrap()
    }
}

#[test]
fn one_key_is_explained_with_value_place_default_and_meaning() {
    let folder = Folder::with(FILE);
    let done = folder.gantry(
        &["explain", "runners.docker.memory", "--runner", "host1"],
        &[],
    );
    let expected = format!(
        "runners[0].docker.memory = \"512m\"\n\
         \x20 what     memory limit of build and helper, such as 512m\n\
         \x20 runner   host1\n\
         \x20 from     {}:10\n\
         \x20 default  none\n\
         \x20 values   size such as 512m\n\
         \x20 changed  takes effect when the file is read again (within 3 s, or by SIGHUP)\n",
        folder.path().display()
    );
    assert_eq!((done.code, done.stdout), (0, expected));
}

#[test]
fn a_value_that_says_nothing_and_variables_are_told_apart() {
    let folder = Folder::with(FILE);
    let done = folder.gantry(&["explain", "check_interval"], &[]);
    assert!(
        done.stdout.starts_with("check_interval = 3\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("default (unset at "),
        "{}",
        done.stdout
    );
    let done = folder.gantry(&["explain", "log_level"], &[("LOG_LEVEL", "debug")]);
    assert!(
        done.stdout.contains("from     environment $LOG_LEVEL\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("$LOG_LEVEL beats the file"),
        "{}",
        done.stdout
    );
    let secret = [("RUNNER_SECRET", "glrt-hunter2")];
    let done = folder.gantry(&["explain", "runners[0].token"], &secret);
    assert!(
        done.stdout.starts_with("runners[0].token = \"[MASKED]\"\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout
            .contains("config.toml:6, environment $RUNNER_SECRET"),
        "{}",
        done.stdout
    );
}

#[test]
fn a_table_shows_its_keys_and_everything_shows_no_secret() {
    let folder = Folder::with(FILE);
    let done = folder.gantry(&["explain", "runners.docker"], &[]);
    assert!(
        done.stdout.starts_with("[runners[0].docker]  # host1\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("\n[runners[1].docker]  # host2\n"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("concurrent"), "{}", done.stdout);
    let everything = folder.gantry(&["explain", "--all"], &[("RUNNER_SECRET", "glrt-hunter2")]);
    assert_eq!(everything.code, 0);
    for part in [
        "concurrent = 4",
        "config.toml:1",
        "on_stop = \"stop\"",
        "Type (unset)",
    ] {
        assert!(
            everything.stdout.contains(part),
            "no {part:?} in {}",
            everything.stdout
        );
    }
    assert!(
        !everything.stdout.contains("hunter2"),
        "{}",
        everything.stdout
    );
}

#[test]
fn scripts_get_values_with_their_types() {
    let found = Folder::with(FILE).json(&["explain"]);
    let key = |path: &str| {
        let keys = found["keys"].as_array().unwrap();
        keys.iter().find(|key| key["path"] == path).unwrap().clone()
    };
    assert_eq!(key("concurrent")["value"], json!(4));
    assert_eq!(key("concurrent")["from"]["line"], json!(1));
    assert_eq!(key("concurrent")["default"], json!(1));
    assert_eq!(
        key("check_interval")["from"],
        json!({"source": "default", "unset_at": 2})
    );
    assert_eq!(key("runners[1].docker.memory")["value"], Value::Null);
    assert_eq!(key("runners[1].docker.cap_add")["value"], json!(["ALL"]));
}

#[test]
fn an_unknown_key_is_an_error_with_the_nearest_one() {
    let folder = Folder::with(FILE);
    let done = folder.gantry(&["explain", "concurent"], &[]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr
            .contains("there is no key \"concurent\"; did you mean concurrent?"),
        "{}",
        done.stderr
    );
    let done = folder.gantry(&["explain", "memory", "--runner", "host3"], &[]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("no [[runners]] entry named \"host3\""),
        "{}",
        done.stderr
    );
}

#[test]
fn a_missing_file_means_defaults_to_explain_and_is_an_error_to_check() {
    let folder = Folder::with("");
    std::fs::remove_file(folder.path()).unwrap();
    let done = folder.gantry(&["explain", "concurrent"], &[]);
    assert_eq!(done.code, 0);
    assert!(
        done.stdout
            .contains("does not exist: defaults\n\nconcurrent = 1\n"),
        "{}",
        done.stdout
    );
    let done = folder.gantry(&["check"], &[]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("does not exist"), "{}", done.stderr);
}

#[test]
fn a_good_file_is_checked_with_what_is_odd_about_it() {
    let folder = Folder::with(FILE);
    let path = folder.path();
    let path = path.display();
    let done = folder.gantry(&["check"], &[("RUNNER_SECRET", "glrt-x")]);
    assert_eq!(done.code, 0, "{}", done.stdout);
    assert!(
        done.stdout.contains(&format!(
            "{path}:17: unknown key: runners[1].docker.memroy; did you mean memory?\n"
        )),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.ends_with(&format!(
            "{path} is valid: 2 runners can be used, 2 things to look at\n"
        )),
        "{}",
        done.stdout
    );
    let done = folder.gantry(&["check", "--strict"], &[("RUNNER_SECRET", "glrt-x")]);
    assert_eq!(done.code, 1);
    let good = Folder::with("concurrent = 2\n");
    let done = good.gantry(&["check", "--strict"], &[]);
    assert_eq!(done.code, 0);
    assert_eq!(
        done.stdout,
        format!(
            "{} is valid: 0 runners can be used\n",
            good.path().display()
        )
    );
}

#[test]
fn mistakes_are_shown_with_their_lines_and_exit_code_1() {
    let folder = Folder::with(
        "concurrent = 0\n[[runners]]\nexecutor = \"docker\"\n[runners.docker]\nmemory = \"lots\"\n",
    );
    let done = folder.gantry(&["check"], &[]);
    assert_eq!(done.code, 1);
    for part in [
        "config.toml:1:1: concurrent:",
        "config.toml:5:10: runners[0].docker.memory:",
        "cannot be used\n",
    ] {
        assert!(done.stdout.contains(part), "no {part:?} in {}", done.stdout);
    }
    let found = folder.json(&["check"]);
    assert_eq!(found["valid"], json!(false));
    assert_eq!(found["problems"][1]["line"], json!(5));
    let done = folder.gantry(&["explain"], &[]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("config.toml:5:10"), "{}", done.stderr);
}

#[test]
fn a_file_that_is_no_text_is_an_error() {
    let folder = Folder::with("");
    std::fs::write(folder.path(), b"concurrent = 1\n\xff").unwrap();
    for command in ["explain", "check"] {
        let done = folder.gantry(&[command], &[]);
        assert_eq!(done.code, 1);
        let said = done.stdout + &done.stderr;
        assert!(said.contains("not valid UTF-8"), "{said}");
    }
}

#[test]
fn options_that_stand_for_keys_are_explained_in_the_words_of_the_table() {
    let output = Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args(["run", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for key in [
        "log_level",
        "log_format",
        "listen_address",
        "gantry.on_stop",
    ] {
        let words = gantry_config::keys::what(key);
        assert!(!words.is_empty());
        // The first letter is upper case there.
        let expected = format!("{}; wins over `{key}` in the config", &words[1..]);
        assert!(help.contains(&expected), "no {expected:?} in {help}");
    }
}
