//! Values of a job: inputs, references, and what of them must not be seen (job-lifecycle §1.6, §2).

use super::*;

fn inputs() -> Value {
    json!([
        {"key": "suite", "value": {"type": "string", "content": "fast"}},
        {"key": "count", "value": {"type": "number", "content": 3}},
        {"key": "image", "value": {"type": "string", "content": crate::harness::BUSYBOX}},
        {"key": "password", "value": {"type": "string", "content": "hush-hush", "sensitive": true}},
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_stand_in_scripts_and_image_and_not_in_variables() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let work = job([
        "echo suite ${{ job.inputs.suite }} ${{ str(job.inputs.count + 1) }} $HOME_OF ${HOME_OF}",
        "echo \"$V\"",
    ])
    .after_script(["echo after ${{ job.inputs.suite }}"])
    .image("${{ job.inputs.image }}")
    .raw("HOME_OF", "home")
    .raw("V", "${{ job.inputs.suite }}")
    .set("/inputs", inputs());
    let without = job(["echo '${{ job.inputs.suite }}'"]);
    let ids = [&work, &without].map(|work| host.gitlab.enqueue(work));
    let runner = host.start();
    let with = host.end_of(ids[0]).await;
    let without = host.end_of(ids[1]).await;
    host.finish(runner).await;
    assert_eq!(with.state, ServerJobState::Success, "{}", with.log());
    let log = JobLog::of(&with);
    log.assert_prints("suite fast 4 home home");
    log.assert_prints("after fast");
    log.assert_prints("${{ job.inputs.suite }}");
    assert_eq!(without.state, ServerJobState::Success, "{}", without.log());
    JobLog::of(&without).assert_prints("${{ job.inputs.suite }}");
}

#[rstest]
#[case::number_in_text(
    "echo n=${{ job.inputs.count }}",
    "failed to interpolate job inputs: cannot put a number into text"
)]
#[case::sensitive(
    "echo ${{ job.inputs.password }}",
    "sensitive inputs are unsupported in interpolations yet"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_that_cannot_be_used_fail_the_job_before_anything_is_printed(
    #[case] line: &str,
    #[case] message: &str,
) {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host.gitlab.enqueue(&job([line]).set("/inputs", inputs()));
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Failed);
    assert_eq!(
        done.failure_reason.as_deref(),
        Some("runner_configuration_error")
    );
    let log = JobLog::of(&done);
    log.assert_says(message);
    log.assert_never_says("Running with");
    assert!(!done.log().contains("hush-hush"));
}

#[rstest]
#[case::once(false, "<$THIRD>")]
#[case::all(true, "<third>")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_are_expanded_once_unless_the_runner_expands_all(
    #[case] nested: bool,
    #[case] printed: &str,
) {
    let config = Config::new().gantry(&format!("nested_variables = {nested}"));
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let work = job(["printf '%s\\n' \"$FIRST\""])
        .variable("FIRST", "$SECOND")
        .variable("SECOND", "<$THIRD>")
        .variable("THIRD", "third");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    JobLog::of(&done).assert_prints(printed);
}

#[rstest]
#[case::by_default("", true)]
#[case::switched_off("mask_encoded = false", false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoded_secrets_are_masked(#[case] setting: &str, #[case] masked: bool) {
    let Some(host) = Host::new(&Config::new().gantry(setting)).await else {
        return;
    };
    let work = job([
        "printf 'alone %s\\n' \"$(printf %s \"$SECRET\" | base64)\"",
        "printf 'within %s\\n' \"$(printf 'user:%s!' \"$SECRET\" | base64)\"",
        "echo url p%40ss%20w%2Frd%20of%20mine",
    ])
    .masked("SECRET", "p@ss w/rd of mine");
    let id = host.gitlab.enqueue(&work);
    let runner = host.start();
    let done = host.end_of(id).await;
    host.finish(runner).await;
    assert_eq!(done.state, ServerJobState::Success, "{}", done.log());
    let log = JobLog::of(&done);
    for start in ["alone ", "within ", "url "] {
        let line = log.stdout.iter().find(|line| line.starts_with(start));
        let line = line.expect("a line");
        assert_eq!(line.contains("[MASKED]"), masked, "{line}");
    }
}
