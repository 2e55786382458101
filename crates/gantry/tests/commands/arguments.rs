//! Forms of arguments, names of the program, and what needs neither server nor configuration.

use std::os::unix::fs::symlink;

use rstest::rstest;
use tokio::process::Command;

use crate::harness::{Operator, end};

#[rstest]
#[case("--version")]
#[case("-v")]
#[case("-version")]
#[tokio::test]
async fn the_version_is_told_in_the_peers_six_lines(#[case] flag: &str) {
    let done = Operator::new().run(&[flag]).await;
    done.succeeded();
    let labels: Vec<&str> = done
        .stdout
        .lines()
        .map(|line| line.get(..14).unwrap_or(line).trim_end())
        .collect();
    assert_eq!(
        labels,
        [
            "Version:",
            "Git revision:",
            "Git branch:",
            "GO version:",
            "Built:",
            "OS/Arch:"
        ]
    );
    let first = done.stdout.lines().next().unwrap();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(
        first,
        format!("Version:      {own} (compatible with GitLab Runner 19.4.0)")
    );
}

#[tokio::test]
async fn by_the_peers_name_it_answers_as_the_peer() {
    let operator = Operator::new();
    let link = operator.home().join("gitlab-runner");
    symlink(env!("CARGO_BIN_EXE_gantry"), &link).unwrap();
    let mut command = Command::new(&link);
    command
        .arg("--version")
        .stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let done = end(command, "").await;
    assert!(
        done.stdout.starts_with("Version:      19.4.0 "),
        "{done:#?}"
    );

    let mut command = Command::new(&link);
    command
        .args(["register", "--help"])
        .stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let done = end(command, "").await;
    assert!(
        done.stdout.contains("Usage: gitlab-runner register"),
        "{done:#?}"
    );
    for flag in [
        "--docker-image",
        "[env: DOCKER_IMAGE]",
        "--tag-list",
        "--leave-runner",
        "--cache-s3-bucket-name",
    ] {
        assert!(done.stdout.contains(flag), "no {flag} in {done:#?}");
    }
}

#[tokio::test]
async fn unknown_commands_and_flags_end_with_one() {
    let operator = Operator::new();
    let done = operator.run(&["regster"]).await;
    done.failed()
        .says("Command regster not found.")
        .says("did you mean register");
    let done = operator.run(&["list", "--nonsense"]).await;
    done.failed().says("--nonsense");
    let done = operator.run(&["register", "--leave-runner=maybe"]).await;
    done.failed().says("neither true nor false");
}

#[tokio::test]
async fn a_single_dash_and_the_environment_name_the_file_too() {
    let operator = Operator::new();
    let other = operator.home().join("other.toml");
    std::fs::write(
        &other,
        "[[runners]]\nname = \"there\"\nurl = \"http://h\"\ntoken = \"glrt-abcdefghijkl\"\nexecutor = \"docker\"\n",
    )
    .unwrap();
    let path = other.to_str().unwrap();
    for arguments in [
        vec!["list", "-config", path],
        vec!["list", "--config", path],
        vec!["list", "-c", path],
        vec!["list", &format!("-config={path}")],
        vec!["--log-level", "info", "list", &format!("--config={path}")],
    ] {
        let done = operator.run(&arguments).await;
        done.succeeded()
            .says("there")
            .is_silent_about("abcdefghijkl");
    }
    let done = operator
        .with_environment("CONFIG_FILE", path)
        .run(&["list", "--show-tokens"])
        .await;
    done.succeeded().says("there").says("glrt-abcdefghijkl");
}

#[tokio::test]
async fn lint_names_unknown_keys_and_mistakes() {
    let operator = Operator::new();
    operator
        .run(&["lint"])
        .await
        .failed()
        .says("does not exist");
    operator.write("concurrent = 2\n");
    let done = operator.run(&["lint"]).await;
    assert_eq!(done.succeeded().stdout, "Configuration file is valid.\n");
    operator.write("concurent = 2\n[[runners]]\nlimt = 1\n");
    let done = operator.run(&["lint"]).await;
    done.failed()
        .says("2 unknown key(s) found in ")
        .says("  unknown key: concurent (line 1, did you mean concurrent?)")
        .says("  unknown key: runners[0].limt (line 3, did you mean limit?)");
    operator.write("concurrent = \"x\"\n");
    operator
        .run(&["lint"])
        .await
        .failed()
        .says("config.toml:1:14: concurrent: expected an integer");
}

#[tokio::test]
async fn pages_and_completions_come_from_the_same_commands() {
    let operator = Operator::new();
    let done = operator.run(&["man", "pages"]).await;
    done.succeeded();
    let page = std::fs::read_to_string(operator.home().join("pages/gantry-register.1")).unwrap();
    assert!(page.contains("docker\\-image"), "{page}");
    let done = operator.run(&["completion", "bash"]).await;
    assert!(done.succeeded().stdout.contains("--docker-image"));
}
