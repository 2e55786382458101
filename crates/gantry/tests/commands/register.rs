//! `register`, with tokens of both kinds, with and without questions, and when things go wrong.

use std::process::Stdio;

use gantry_testkit::{Answer, Endpoint, FakeGitLab, Fault};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::Operator;

fn flags<'a>(gitlab: &'a FakeGitLab, token: &'a str) -> Vec<&'a str> {
    vec![
        "register",
        "--non-interactive",
        "--url",
        gitlab.url(),
        "--token",
        token,
        "--name",
        "host1",
        "--executor",
        "docker",
        "--docker-image",
        "ruby:3.3",
    ]
}

#[tokio::test]
async fn a_created_runner_is_verified_and_saved_with_its_settings() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new().with_environment("DOCKER_VOLUMES", "/data,/more:/more");
    let mut arguments = flags(&gitlab, gitlab.runner_token());
    arguments.extend([
        "--docker-privileged",
        "--docker-extra-hosts",
        "a:1.2.3.4",
        "--docker-extra-hosts=b:5.6.7.8",
        "--limit=7",
        "--env",
        "A=1,2",
        "--docker-pull-policy",
        "if-not-present",
        "--custom_build_dir-enabled=false",
        "--pre-build-script",
        "-x",
    ]);
    let done = operator.run(&arguments).await;
    done.succeeded()
        .says("Runtime platform")
        .says("Verifying runner... is valid")
        .says("Specified limit (7) larger than current concurrent limit (1).")
        .says("Runner registered successfully. Feel free to start it, but if it's running already the config should be automatically reloaded!")
        .says(&format!("Configuration (with the authentication token) was saved in {:?}", operator.config()))
        .is_silent_about(gitlab.runner_token());
    let text = operator.text();
    for line in [
        "name = \"host1\"",
        "id = 42",
        &format!("token = \"{}\"", gitlab.runner_token()),
        "token_expires_at = 0001-01-01T00:00:00Z",
        "limit = 7",
        "environment = [\"A=1,2\"]",
        "executor = \"docker\"",
        "pre_build_script = \"-x\"",
        "image = \"ruby:3.3\"",
        "pull_policy = \"if-not-present\"",
        "privileged = true",
        "volumes = [\"/data\", \"/more:/more\", \"/cache\"]",
        "extra_hosts = [\"a:1.2.3.4\", \"b:5.6.7.8\"]",
        "enabled = false",
    ] {
        assert!(
            text.lines().any(|found| found.trim() == line),
            "no {line:?} in\n{text}"
        );
    }
    assert_eq!(operator.mode(), 0o600);
    let asked = gitlab.requests_to(Endpoint::VerifyRunner);
    assert_eq!(asked.len(), 1);
    let body = asked[0].json();
    assert_eq!(body["info"]["features"]["cancel_gracefully"], true);
    assert_eq!(
        body["system_id"].as_str().unwrap(),
        std::fs::read_to_string(operator.home().join(".runner_system_id")).unwrap()
    );
    operator.run(&["lint"]).await.succeeded();
}

#[tokio::test]
async fn a_registration_token_makes_a_runner_with_what_the_flags_say() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let done = operator
        .run(&[
            "register",
            "-n",
            "-u",
            gitlab.url(),
            "-r",
            gitlab.registration_token(),
            "--description",
            "legacy",
            "--tag-list",
            "docker,linux",
            "--locked=false",
            "--maximum-timeout",
            "3600",
            "--access-level=ref_protected",
            "--executor=docker",
            "--docker-image=busybox",
        ])
        .await;
    done.succeeded()
        .says("Registering runner... succeeded")
        .is_silent_about(gitlab.registration_token());
    let asked = gitlab.requests_to(Endpoint::RegisterRunner)[0].json();
    let info = &asked["info"];
    assert_eq!((info.get("executor"), info.get("shell")), (None, None));
    let mut asked = asked.clone();
    asked.as_object_mut().unwrap().remove("info");
    assert_eq!(
        asked,
        serde_json::json!({
            "description": "legacy", "tag_list": "docker,linux", "run_untagged": false, "locked": false,
            "access_level": "ref_protected", "maximum_timeout": 3600, "paused": false,
            "token": gitlab.registration_token(),
        })
    );
    assert!(
        operator
            .text()
            .contains("token = \"glrtr-1testkitRegistered\""),
        "{}",
        operator.text()
    );
}

#[tokio::test]
async fn questions_are_answered_line_by_line() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let input = format!(
        "{}\n\n{}\nmy runner\nnonsense\ndocker\n\n  alpine:3  \n",
        gitlab.url(),
        gitlab.runner_token()
    );
    let done = operator.answer(&["register"], &input).await;
    done.succeeded()
        .says("Enter the GitLab instance URL (for example, https://gitlab.com/):\nEnter the registration token:\nEnter the registration token:\n")
        .says("Enter a name for the runner. This is stored only in the local config.toml file:\n[")
        .says("Enter an executor: custom, docker, ")
        .says("Invalid executor specified")
        .says("Enter the default Docker image (for example, ruby:3.3):");
    let text = operator.text();
    assert!(text.contains("name = \"my runner\""), "{text}");
    assert!(text.contains("image = \"alpine:3\""), "{text}");

    let input = format!("\n{}\nold\n\n\n\n\n", gitlab.registration_token());
    let arguments = [
        "register",
        "--url",
        gitlab.url(),
        "--executor",
        "docker",
        "--docker-image",
        "busybox",
    ];
    let done = operator.answer(&arguments, &input).await;
    done.succeeded()
        .says(&format!("[{}]: ", gitlab.url()))
        .says("Enter tags for the runner (comma-separated):")
        .says("Enter optional maintenance note for the runner:")
        .says("[docker]: ");
    let asked = gitlab.requests_to(Endpoint::RegisterRunner)[0].json();
    assert_eq!(asked["run_untagged"], true);
    assert_eq!(asked["description"], "old");
}

#[tokio::test]
async fn questions_are_answered_at_a_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::{Read as _, Write as _};

    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let mut command = operator.command(&["register"]);
    command
        .stdin(terminal.try_clone().unwrap())
        .stderr(terminal.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    // The last holders of the terminal are the command's own.
    drop((command, terminal));
    let mut master = std::fs::File::from(master);
    let answers = format!(
        "{}\n{}\nat a terminal\ndocker\nbusybox\n",
        gitlab.url(),
        gitlab.runner_token()
    );
    master.write_all(answers.as_bytes()).unwrap();
    let shown = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        // The end of a terminal is an error.
        master.read_to_end(&mut shown).ok();
        String::from_utf8_lossy(&shown).into_owned()
    });
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let shown = shown.await.unwrap();
    assert!(shown.contains("Enter the registration token:"), "{shown}");
    assert!(operator.text().contains("name = \"at a terminal\""));
}

#[tokio::test]
async fn an_input_that_ends_ends_the_command() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let done = operator
        .answer(&["register", "--url", gitlab.url()], "\n")
        .await;
    done.failed()
        .says("The registration-token needs to be entered: the input has ended");
    assert_eq!(operator.text(), "");
}

#[rstest]
#[case::no_url(&["register", "-n"], "The url needs to be entered")]
#[case::no_token(&["register", "-n", "-u", "http://h"], "The registration-token needs to be entered")]
#[case::no_http(&["register", "-n", "-u", "ftp://h", "-t", "glrt-x"], "only http or https scheme supported")]
#[case::access_level(&["register", "-n", "--access-level", "all"], "Given access-level is not valid.")]
#[case::bad_value(&["register", "-n", "--docker-memory", "plenty"], "--docker-memory: ")]
#[case::bad_number(&["register", "-n", "--limit", "many"], "--limit: \"many\" is no whole number")]
#[case::reserved(&["register", "-n", "-u", "http://127.0.0.1:1", "-t", "glrt-x", "--tag-list", "a"], "Runner configuration other than name and executor configuration is reserved")]
#[case::nobody_there(&["register", "-n", "-u", "http://127.0.0.1:1", "-t", "glrt-x"], "Failed to verify the runner.")]
#[case::no_template(&["register", "-n", "--template-config", "gone.toml"], "Could not handle configuration merging from template file: ")]
#[tokio::test]
async fn what_is_wrong_is_said_before_anything_is_done(
    #[case] arguments: &[&str],
    #[case] message: &str,
) {
    let operator = Operator::new();
    let done = operator.run(arguments).await;
    done.failed().says(&format!("FATAL: {message}"));
    assert!(!operator.config().exists());
}

#[tokio::test]
async fn a_token_in_the_old_flag_leaves_reserved_settings_out() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let mut arguments = flags(&gitlab, gitlab.runner_token());
    arguments[4] = "--registration-token";
    arguments.extend(["--tag-list", "a", "--locked"]);
    let done = operator.run(&arguments).await;
    done.succeeded()
        .says("'legacy-compatible registration process'")
        .says("Verifying runner... is valid");
}

#[tokio::test]
async fn a_template_fills_what_the_flags_leave_open() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let template = operator.home().join("template.toml");
    std::fs::write(
        &template,
        "[[runners]]\n  limit = 2\n  request_concurrency = 1 # enough\n  [runners.docker]\n    image = \"other\"\n    memory = \"1g\"\n",
    )
    .unwrap();
    let mut arguments = flags(&gitlab, gitlab.runner_token());
    arguments.extend([
        "--template-config",
        template.to_str().unwrap(),
        "--limit",
        "1",
    ]);
    operator
        .run(&arguments)
        .await
        .succeeded()
        .says("Merging configuration from template file");
    let text = operator.text();
    for part in [
        "limit = 1\n",
        "# enough",
        "image = \"ruby:3.3\"",
        "memory = \"1g\"",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[rstest]
#[case::forbidden(Fault::on(Endpoint::RegisterRunner).status(403), "forbidden (check registration token)")]
#[case::broken(Fault::on(Endpoint::RegisterRunner).status(500), "500 Internal Server Error")]
#[case::page(Fault::on(Endpoint::RegisterRunner).answer(Answer::status(201).body("text/html", "<html>")), "is the URL that of a GitLab server?")]
#[case::nonsense(Fault::on(Endpoint::RegisterRunner).answer(Answer::status(201).body("application/json", "\"no\"")), "cannot be read")]
#[case::without_token(Fault::on(Endpoint::RegisterRunner).answer(Answer::status(201).body("application/json", "{}")), "the server's answer has no token")]
#[case::nothing(Fault::on(Endpoint::RegisterRunner).drop_unhandled(), "Failed to register the runner.")]
#[tokio::test]
async fn a_server_that_does_not_register_leaves_the_file_alone(
    #[case] fault: Fault,
    #[case] message: &str,
) {
    let gitlab = FakeGitLab::start().await;
    gitlab.fault(fault);
    let operator = Operator::new();
    let before = "# mine\nconcurrent = 2\n";
    operator.write(before);
    let mut arguments = flags(&gitlab, gitlab.registration_token());
    arguments[4] = "--registration-token";
    let done = operator.run(&arguments).await;
    done.failed()
        .says("FATAL: Failed to register the runner.")
        .says(message)
        .is_silent_about(gitlab.registration_token());
    assert_eq!(operator.text(), before);
}

#[rstest]
#[case::forbidden(Fault::on(Endpoint::VerifyRunner).status(403), "is not valid")]
#[case::page(Fault::on(Endpoint::VerifyRunner).answer(Answer::status(200).body("text/html", "<html>sign in")), "is the URL that of a GitLab server?")]
#[case::without_id(Fault::on(Endpoint::VerifyRunner).answer(Answer::status(200).body("text/plain", "200")), "Failed to verify the runner.")]
#[case::nothing(Fault::on(Endpoint::VerifyRunner).drop_unhandled(), "client error")]
#[tokio::test]
async fn a_server_that_does_not_verify_leaves_the_file_alone(
    #[case] fault: Fault,
    #[case] message: &str,
) {
    let gitlab = FakeGitLab::start().await;
    gitlab.fault(fault);
    let operator = Operator::new();
    let done = operator.run(&flags(&gitlab, gitlab.runner_token())).await;
    done.failed()
        .says("FATAL: Failed to verify the runner.")
        .says(message);
    assert!(!operator.config().exists());
}

#[tokio::test]
async fn a_failed_registration_takes_the_runner_back_unless_told_otherwise() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let arguments = [
        "register",
        "-n",
        "-u",
        gitlab.url(),
        "-r",
        gitlab.registration_token(),
        "--executor",
        "nonsense",
    ];
    operator
        .run(&arguments)
        .await
        .failed()
        .says("FATAL: Invalid executor specified")
        .says("Unregistering runner from GitLab... succeeded");
    assert!(!gitlab.accepts("glrtr-1testkitRegistered"));

    let mut arguments = arguments.to_vec();
    arguments.push("--leave-runner");
    operator.run(&arguments).await.failed();
    assert!(gitlab.accepts("glrtr-2testkitRegistered"));
}

#[tokio::test]
async fn an_interrupt_takes_the_runner_back() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let mut command = operator.command(&[
        "register",
        "-u",
        gitlab.url(),
        "-r",
        gitlab.registration_token(),
    ]);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    stdin.write_all(b"\n\nold\n\n\n").await.unwrap();
    let mut seen = String::new();
    while !seen.contains("Enter an executor") {
        let mut bytes = [0; 4096];
        let read = stderr.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(gitlab.accepts("glrtr-1testkitRegistered"));
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = child.wait().await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(!gitlab.accepts("glrtr-1testkitRegistered"));
    assert!(!operator.config().exists());
    drop(stdin);
}

#[tokio::test]
async fn a_second_registration_adds_to_the_file_and_says_so_of_the_same_token() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::with_runners(&gitlab, &[("one", gitlab.runner_token())]);
    let before = operator.text();
    let done = operator.run(&flags(&gitlab, gitlab.runner_token())).await;
    done.succeeded()
        .says("A runner with this system ID and token has already been registered.");
    assert!(operator.text().starts_with(&before), "{}", operator.text());
}

#[tokio::test]
async fn an_unusable_file_is_said_before_the_server_is_asked() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    operator.write("concurrent = \"x\"\n");
    let done = operator.run(&flags(&gitlab, gitlab.runner_token())).await;
    done.failed().says("config.toml:1:14");

    let operator = Operator::new();
    std::fs::write(operator.home().join("file"), "").unwrap();
    let mut arguments = flags(&gitlab, gitlab.runner_token());
    arguments.extend(["--config", "file/config.toml"]);
    operator.run(&arguments).await.failed().says("FATAL: ");
    assert!(gitlab.requests().is_empty());
}
