//! `gantry plan`: what would become of a job, without an engine and without a server.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use gantry_testkit::JobBuilder;
use serde_json::json;
use tempfile::TempDir;

const CONFIG: &str = r#"
[[runners]]
name = "here"
url = "https://gitlab.example.com"
token = "glrt-the-runners-own-token"
executor = "docker"
environment = ["OF_THE_RUNNER=value-of-the-environment"]
[runners.docker]
image = "alpine:3.20"
"#;

fn job() -> JobBuilder {
    JobBuilder::new("unit")
        .script(["make test"])
        .masked("PASSWORD", "a-masked-value")
}

fn gantry(arguments: &[&str], payload: &JobBuilder, folder: &Path) -> Output {
    let payload = payload.build(7, "glcbt-the-jobs-own-token", "https://gitlab.example.com");
    let mut child = Command::new(env!("CARGO_BIN_EXE_gantry"))
        .arg("plan")
        .arg("-")
        .args(arguments)
        .current_dir(folder)
        .env_remove("CONFIG_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gantry starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that ends before it has read all is judged by what it says.
    stdin.write_all(payload.to_string().as_bytes()).ok();
    drop(stdin);
    child.wait_with_output().expect("gantry ends")
}

fn plan(config: &str, arguments: &[&str], payload: &JobBuilder) -> (Option<i32>, String, String) {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, config).expect("written");
    let arguments = [&["-c", "config.toml"], arguments].concat();
    let output = gantry(&arguments, payload, folder.path());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_plan_shows_containers_and_stages_and_no_secret() {
    for format in ["text", "json"] {
        let (code, out, err) = plan(CONFIG, &["--format", format], &job());
        assert_eq!((code, err.as_str()), (Some(0), ""));
        for shown in ["alpine:3.20", "step_script", "unit"] {
            assert!(out.contains(shown), "{shown}: {out}");
        }
        for secret in [
            "a-masked-value",
            "glcbt-the-jobs-own-token",
            "glrt-the-runners-own-token",
        ] {
            assert!(!out.contains(secret), "{secret}: {out}");
        }
        if format == "json" {
            serde_json::from_str::<serde_json::Value>(&out).expect("JSON");
        }
    }
}

#[test]
fn a_job_that_would_be_refused_has_no_plan() {
    let steps = json!("[{\"name\": \"one\", \"script\": \"true\"}]");
    let payload = JobBuilder::new("unit").set("/run", steps);
    let (code, out, err) = plan(CONFIG, &[], &payload);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("the job would fail"), "{err}");
    assert!(err.contains("`run`"), "{err}");
}

#[test]
fn what_is_said_of_the_configuration_is_said_here_too() {
    let config = format!("{CONFIG}\n[gantry]\non_stopp = \"detach\"\n");
    let (code, _, err) = plan(&config, &[], &job());
    assert_eq!(code, Some(0));
    assert!(
        err.contains("warning: config.toml: line 12: gantry.on_stopp"),
        "{err}"
    );
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let folder = TempDir::new().expect("a folder");
    let output = gantry(&["-c", "nowhere.toml"], &job(), folder.path());
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("nowhere.toml does not exist"), "{err}");
}
