//! The running service renews a token before it ends.

use gantry_testkit::{Endpoint, FakeGitLab};

use crate::harness::Operator;

#[tokio::test]
async fn a_token_past_three_quarters_of_its_life_is_renewed_saved_and_used() {
    let gitlab = FakeGitLab::start().await;
    let operator = Operator::new();
    let text = format!(
        "# kept\ncheck_interval = 1\n[[runners]]\n  name = \"one\"\n  url = \"{}\"\n  token = \"{}\" # mine\n  token_obtained_at = 2020-01-01T00:00:00Z\n  token_expires_at = 2021-01-01T00:00:00Z\n  executor = \"docker\"\n  [runners.docker]\n    image = \"b\"\n",
        gitlab.url(),
        gitlab.runner_token()
    );
    operator.write(&text);
    let mut child = operator.command(&["run"]).spawn().unwrap();
    gitlab.wait_for_requests(Endpoint::ResetToken, 1).await;
    let new = "glrt-1testkitReset";
    // The service asks for jobs with the new token, without a restart.
    let mut count = 1;
    loop {
        let asked = gitlab.wait_for_requests(Endpoint::RequestJob, count).await;
        if asked
            .iter()
            .any(|request| request.json()["token"] == new && request.status == Some(204))
        {
            break;
        }
        count = asked.len() + 1;
    }
    let now = operator.text();
    assert!(now.contains(&format!("token = \"{new}\" # mine")), "{now}");
    assert!(now.starts_with("# kept\n"), "{now}");
    assert!(
        now.contains("token_expires_at = 0001-01-01T00:00:00Z"),
        "{now}"
    );
    assert_eq!(gitlab.requests_to(Endpoint::ResetToken).len(), 1);
    child.kill().await.unwrap();
}
