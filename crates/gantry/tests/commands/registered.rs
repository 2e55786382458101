//! `list`, `verify`, `unregister`, `reset-token`.

use std::fs;
use std::path::Path;

use gantry_testkit::{Answer, Endpoint, FakeGitLab, Fault, Proxy};
use rstest::rstest;

use crate::harness::Operator;

const ONE: &str = "glrt-oneoneoneoneone";
const TWO: &str = "glrtr-twotwotwotwo";

async fn two() -> (FakeGitLab, Operator) {
    let gitlab = FakeGitLab::start().await;
    gitlab.add_runner_token(ONE);
    gitlab.add_runner_token(TWO);
    let operator = Operator::with_runners(&gitlab, &[("one", ONE), ("two", TWO)]);
    (gitlab, operator)
}

#[tokio::test]
async fn runners_are_listed_with_short_tokens() {
    let (gitlab, operator) = two().await;
    let done = operator.run(&["list"]).await;
    done.succeeded()
        .says("Listing configured runners")
        .says("ConfigFile=")
        .says("Executor=docker Token=oneoneone URL=")
        .is_silent_about(ONE);
    let done = operator.run(&["list", "--format", "json"]).await;
    let list: serde_json::Value = serde_json::from_str(&done.succeeded().stdout).unwrap();
    assert_eq!(list[1]["name"], "two");
    assert_eq!(list[1]["token"], "twotwotwo");
    assert_eq!(list[1]["url"], gitlab.url());
}

#[tokio::test]
async fn a_server_without_encryption_is_asked_by_its_whole_address_where_there_is_a_proxy() {
    const NAME: &str = "gitlab.gantry.test:80";
    let (gitlab, operator) = two().await;
    let server = gitlab.url().replace("http://", "").parse().unwrap();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let proxy = Proxy::start(anywhere, &[(NAME, server)]).await;
    let text = operator.text();
    operator.write(&text.replace(gitlab.url(), "http://gitlab.gantry.test"));
    let address = format!("http://{}", proxy.addr());
    let operator = operator.with_environment("HTTP_PROXY", &address);
    operator.run(&["verify"]).await.succeeded();
    let asked = proxy.asked();
    let all = "POST http://gitlab.gantry.test/api/v4/runners/verify HTTP/1.1";
    assert_eq!(asked, [all, all]);
}

#[tokio::test]
async fn verification_tells_and_deletes_what_is_gone() {
    let (gitlab, operator) = two().await;
    let before = operator.text();
    operator
        .run(&["verify"])
        .await
        .succeeded()
        .says("Verifying runner... is valid")
        .says("Verifying runner... is alive");
    gitlab.revoke_runner_token(TWO);
    operator
        .run(&["verify"])
        .await
        .failed()
        .says("Verifying runner... is removed")
        .says("FATAL: Failed to verify runners");
    assert_eq!(operator.text(), before);
    operator.run(&["verify", "--name", "one"]).await.succeeded();
    operator
        .run(&["verify", "-t", ONE, "-u", "*"])
        .await
        .succeeded();
    operator
        .run(&["verify", "--name", "three"])
        .await
        .failed()
        .says("FATAL: no runner matches the filtering parameters");
    operator
        .run(&["verify", "--delete"])
        .await
        .succeeded()
        .says("Updated ");
    let text = operator.text();
    assert!(text.contains(ONE) && !text.contains(TWO), "{text}");
    assert!(
        text.contains("# above two") && text.contains("# slots"),
        "{text}"
    );
}

#[rstest]
#[case(Fault::on(Endpoint::VerifyRunner).status(500))]
#[case(Fault::on(Endpoint::VerifyRunner).drop_unhandled())]
#[case(Fault::on(Endpoint::VerifyRunner).answer(Answer::status(200).body("text/html", "<html>")))]
#[tokio::test]
async fn an_outage_deletes_nothing(#[case] fault: Fault) {
    let (gitlab, operator) = two().await;
    let before = operator.text();
    gitlab.fault(fault);
    operator.run(&["verify", "--delete"]).await.succeeded();
    assert_eq!(operator.text(), before);
}

#[tokio::test]
async fn a_created_runner_loses_its_manager_alone_and_a_legacy_one_ends() {
    let (gitlab, operator) = two().await;
    operator
        .run(&["unregister", "--name", "one"])
        .await
        .succeeded()
        .says("Unregistering runner manager from GitLab... succeeded")
        .says("Updated ");
    assert!(gitlab.accepts(ONE));
    let asked = gitlab.requests_to(Endpoint::UnregisterManager)[0].json();
    assert!(asked["system_id"].as_str().unwrap().len() == 14);
    operator
        .run(&["unregister", "-t", TWO, "-u", gitlab.url()])
        .await
        .succeeded()
        .says("Unregistering runner from GitLab... succeeded");
    assert!(!gitlab.accepts(TWO));
    let text = operator.text();
    assert!(
        !text.contains("runners]") && text.contains("# kept"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refused_runner_stays_in_the_file() {
    let (gitlab, operator) = two().await;
    let before = operator.text();
    gitlab.revoke_runner_token(ONE);
    operator
        .run(&["unregister", "--name", "one"])
        .await
        .failed()
        .says("FATAL: Failed to unregister runner one");
    operator
        .run(&["unregister"])
        .await
        .failed()
        .says("FATAL: at least one of --name or --token must be specified");
    operator
        .run(&["unregister", "--name", "three"])
        .await
        .failed()
        .says("could not find a runner with the name 'three'");
    assert_eq!(operator.text(), before);
    operator
        .run(&["unregister", "--all-runners"])
        .await
        .succeeded()
        .says("Unregistering all runners")
        .says("Failed to unregister runner");
    let text = operator.text();
    assert!(text.contains(ONE) && !text.contains(TWO), "{text}");
}

#[tokio::test]
async fn a_new_token_takes_the_place_of_the_old_one() {
    let (gitlab, operator) = two().await;
    gitlab.set_token_lifetime(Some(std::time::Duration::from_secs(86_400)));
    let before = operator.text();
    operator
        .run(&["reset-token", "--name", "one"])
        .await
        .succeeded()
        .says("Resetting runner authentication token... succeeded")
        .says("Updated")
        .is_silent_about("1testkitReset");
    let text = operator.text();
    assert!(
        text.contains("token = \"glrt-1testkitReset\" # of one"),
        "{text}"
    );
    assert!(text.contains("token_expires_at = 20"), "{text}");
    assert!(!gitlab.accepts(ONE) && gitlab.accepts("glrt-1testkitReset"));
    let kept = |text: &str| {
        text.lines()
            .filter(|line| !line.contains("token"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&text), kept(&before));
    operator
        .run(&["reset-token", "--all-runners"])
        .await
        .succeeded()
        .says("Resetting all runner tokens");
    let text = operator.text();
    assert!(
        text.contains("glrt-2testkitReset") && text.contains("glrtr-3testkitReset"),
        "{text}"
    );
}

#[tokio::test]
async fn a_users_token_resets_by_number() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    operator
        .run(&[
            "register",
            "-n",
            "-u",
            gitlab.url(),
            "-t",
            gitlab.runner_token(),
            "--name=a",
            "--executor=docker",
            "--docker-image=b",
        ])
        .await
        .succeeded();
    let arguments = [
        "reset-token",
        "-u",
        gitlab.url(),
        "-i",
        "42",
        "--pat",
        gitlab.access_token(),
    ];
    operator
        .run(&arguments)
        .await
        .succeeded()
        .is_silent_about(gitlab.access_token());
    let asked = gitlab.requests_to(Endpoint::ResetToken);
    assert!(
        asked[0]
            .path
            .ends_with("/runners/42/reset_authentication_token")
    );
    assert_eq!(asked[0].json(), serde_json::Value::Null);
    assert_eq!(asked[0].header("runner-token"), None);
    assert!(operator.text().contains("glrt-1testkitReset"));
}

#[rstest]
#[case::forbidden(Fault::on(Endpoint::ResetToken).status(403), "failed (check used token)")]
#[case::broken(Fault::on(Endpoint::ResetToken).status(500), "500 Internal Server Error")]
#[case::page(Fault::on(Endpoint::ResetToken).answer(Answer::status(201).body("text/html", "<p>")), "is the URL that of a GitLab server?")]
#[case::empty(Fault::on(Endpoint::ResetToken).answer(Answer::status(201).body("application/json", "{}")), "no token in it")]
#[case::nothing(Fault::on(Endpoint::ResetToken).drop_unhandled(), "failed")]
#[tokio::test]
async fn a_token_that_was_not_reset_stays(#[case] fault: Fault, #[case] message: &str) {
    let (gitlab, operator) = two().await;
    let before = operator.text();
    gitlab.fault(fault);
    operator
        .run(&["reset-token", "--name", "one"])
        .await
        .failed()
        .says("FATAL: Failed to reset runner token")
        .says(message);
    assert_eq!(operator.text(), before);
}

/// A folder cannot be written into; root can anyway, so the file is put where nobody can write.
#[tokio::test]
async fn a_file_that_cannot_be_saved_keeps_the_old_token_valid() {
    let (gitlab, operator) = two().await;
    // A link to where no file can be made: the trial finds out before the server is asked.
    let text = operator.text();
    fs::remove_file(operator.config()).unwrap();
    std::os::unix::fs::symlink("/proc/self/status", operator.config()).unwrap();
    let done = operator.run(&["reset-token", "--name", "one"]).await;
    done.failed();
    assert!(gitlab.requests_to(Endpoint::ResetToken).is_empty());
    assert!(gitlab.accepts(ONE));
    fs::remove_file(operator.config()).unwrap();
    operator.write(&text);
}

#[tokio::test]
async fn a_new_token_that_cannot_be_saved_is_kept_and_named() {
    let (gitlab, operator) = two().await;
    // Between the server's answer and the saving the file becomes unusable.
    gitlab.fault(Fault::on(Endpoint::ResetToken).delay(std::time::Duration::from_secs(2)));
    let config = operator.config();
    let spoil = async {
        gitlab.wait_for_recorded(Endpoint::ResetToken).await;
        fs::write(&config, "concurrent = \"broken\"\n").unwrap();
    };
    let arguments = ["reset-token", "--name", "one"];
    let (done, ()) = tokio::join!(operator.run(&arguments), spoil);
    done.failed()
        .says("FATAL: Failed to update configuration: ")
        .says("the new one is kept in ")
        .is_silent_about("1testkitReset");
    let place = done
        .stderr
        .split("the new one is kept in ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap();
    assert!(Path::new(place).starts_with(operator.home().join(".gantry")));
    assert!(
        fs::read_to_string(place)
            .unwrap()
            .contains("token = \"glrt-1testkitReset\"")
    );
    assert_eq!(operator.text(), "concurrent = \"broken\"\n");
}

#[tokio::test]
async fn commands_at_once_lose_nothing() {
    let (gitlab, operator) = two().await;
    let register = |name: &'static str| {
        let arguments = [
            "register",
            "-n",
            "-u",
            gitlab.url(),
            "-r",
            gitlab.registration_token(),
            "--name",
            name,
            "--executor=docker",
            "--docker-image=b",
        ]
        .map(str::to_owned);
        let operator = &operator;
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            operator.run(&arguments).await
        }
    };
    let (a, b, c, d, e) = tokio::join!(
        register("a"),
        register("b"),
        operator.run(&["reset-token", "--name", "one"]),
        operator.run(&["unregister", "--name", "two"]),
        register("c"),
    );
    for done in [a, b, c, d, e] {
        done.succeeded();
    }
    let text = operator.text();
    for name in ["one", "a", "b", "c"] {
        assert_eq!(
            text.matches(&format!("name = \"{name}\"")).count(),
            1,
            "{text}"
        );
    }
    assert!(!text.contains(ONE) && !text.contains(TWO), "{text}");
    assert!(
        text.contains("# kept") && text.contains("# of one"),
        "{text}"
    );
}
