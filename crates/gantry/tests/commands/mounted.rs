//! A configuration file that is a mount point of its own, as `-v config.toml:/etc/gitlab-runner/config.toml` makes one: it cannot be
//! replaced, so it is changed in place.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use gantry_testkit::{Endpoint, FakeGitLab};
use tokio::process::Command;

use crate::harness::{Done, Operator, end};

const ONE: &str = "glrt-oneoneoneoneone";
const TWO: &str = "glrtr-twotwotwotwo";

/// Where the mounted file comes from, below the home folder.
const SOURCE: &str = "source/config.toml";

/// A command in a mount namespace of its own, in which `config.toml` is `source/config.toml`.
async fn run_mounted(operator: &Operator, options: &str, arguments: &[&str]) -> Done {
    let inner = operator.command(arguments);
    let mut command = Command::new("unshare");
    let mount = format!(
        "mount --bind {SOURCE} config.toml && {{ [ -z \"{options}\" ] || mount -o remount,bind,{options} config.toml; }} && exec \"$@\""
    );
    let variables = inner.as_std().get_envs();
    command
        .args(["--mount", "sh", "-c", &mount, "sh"])
        .arg(inner.as_std().get_program())
        .args(inner.as_std().get_args())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(variables.filter_map(|(name, value)| Some((name, value?))))
        .current_dir(operator.home())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    end(command, "").await
}

/// Two runners in a file to be mounted; `None`, and a word on stderr, where nothing can be mounted.
async fn mounted() -> Option<(FakeGitLab, Operator)> {
    let gitlab = FakeGitLab::start().await;
    gitlab.add_runner_token(ONE);
    gitlab.add_runner_token(TWO);
    let operator = Operator::with_runners(&gitlab, &[("one", ONE), ("two", TWO)]);
    let source = operator.home().join(SOURCE);
    std::fs::create_dir(source.parent().unwrap()).unwrap();
    std::fs::copy(operator.config(), source).unwrap();
    // What the mount covers is never looked at.
    operator.write("nothing = [");
    let can = Command::new("unshare")
        .args(["--mount", "mount", "--bind", SOURCE, "config.toml"])
        .current_dir(operator.home())
        .stderr(Stdio::null())
        .status()
        .await;
    if !can.is_ok_and(|status| status.success()) {
        #[allow(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: nothing can be mounted here (not root?)");
        }
        return None;
    }
    Some((gitlab, operator))
}

fn source(operator: &Operator) -> String {
    std::fs::read_to_string(operator.home().join(SOURCE)).unwrap()
}

#[tokio::test]
async fn commands_change_a_mounted_file_in_place_and_keep_its_comments() {
    let Some((gitlab, operator)) = mounted().await else {
        return;
    };
    let inode = || {
        std::fs::metadata(operator.home().join(SOURCE))
            .unwrap()
            .ino()
    };
    let before = inode();
    run_mounted(&operator, "", &["reset-token", "--name", "one"])
        .await
        .succeeded()
        .says("Resetting runner authentication token... succeeded")
        .says("Updated");
    assert!(source(&operator).contains("token = \"glrt-1testkitReset\" # of one"));
    let token = gitlab.runner_token().to_owned();
    let arguments = [
        "register",
        "--non-interactive",
        "--url",
        gitlab.url(),
        "--token",
        &token,
        "--name",
        "three",
        "--executor",
        "docker",
        "--docker-image",
        "ruby:3.3",
    ];
    run_mounted(&operator, "", &arguments)
        .await
        .succeeded()
        .says("Runner registered successfully");
    assert!(source(&operator).contains(&token));
    // The file becomes shorter: nothing of the longer one may stay at its end.
    run_mounted(&operator, "", &["unregister", "--name", "two"])
        .await
        .succeeded()
        .says("Updated");
    let text = source(&operator);
    assert!(
        !text.contains(TWO) && text.contains("name = \"three\""),
        "{text}"
    );
    for comment in ["# kept", "# slots", "# above one", "# of one"] {
        assert!(text.contains(comment), "no {comment} in {text}");
    }
    run_mounted(&operator, "", &["lint"]).await.succeeded();
    assert_eq!(inode(), before);
    assert_eq!(operator.text(), "nothing = [");
    let names = std::fs::read_dir(operator.home()).unwrap();
    let names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("config.toml") && name != "config.toml")
        .collect();
    assert!(names.is_empty(), "left beside the file: {names:?}");
}

#[tokio::test]
async fn a_file_mounted_to_be_read_only_keeps_its_token_valid() {
    let Some((gitlab, operator)) = mounted().await else {
        return;
    };
    let before = source(&operator);
    run_mounted(&operator, "ro", &["reset-token", "--name", "one"])
        .await
        .failed()
        .says("config.toml");
    assert!(gitlab.requests_to(Endpoint::ResetToken).is_empty());
    assert!(gitlab.accepts(ONE));
    assert_eq!(source(&operator), before);
}
