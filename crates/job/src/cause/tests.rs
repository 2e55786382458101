use rstest::rstest;

use super::*;
use crate::outcome::Outcome;

const IMAGE: &str = "alpine:3";

/// One of each variant. `listed` below makes sure that none is forgotten.
fn all() -> Vec<Cause> {
    use Cause::*;
    let text = || "the words".to_owned();
    let image = || IMAGE.to_owned();
    let stage = || Stage::Step("script".to_owned());
    let minute = Duration::from_secs(60);
    vec![
        ScriptExit { code: 3 },
        HelperStageExit {
            stage: Stage::GetSources,
            code: 128,
        },
        JobTimeout { limit: minute },
        ScriptTimeout,
        PrepareTimeout { limit: minute },
        GetSourcesTimeout { limit: minute },
        Canceled,
        Aborted,
        Interrupted {
            signal: "terminated".to_owned(),
        },
        OutOfMemory {
            limit: Some(64 << 20),
            exit_code: 137,
        },
        ExecFormat {
            image: image(),
            exit_code: Some(1),
        },
        ShellNotFound { image: image() },
        EntrypointSwallowedScript {
            image: image(),
            exit_code: 0,
        },
        ContainerVanished {
            name: "runner-x".to_owned(),
            stage: stage(),
        },
        EngineStopped { stage: stage() },
        EngineUnreachable {
            endpoint: "unix:///var/run/docker.sock".to_owned(),
            message: text(),
        },
        ImagePull {
            failure: PullFailure::NotFound,
            message: text(),
        },
        ImagePlatform {
            image: image(),
            message: text(),
        },
        Configuration { message: text() },
        Unsupported {
            keywords: vec!["`cache` (cache[0])".to_owned(), "`run`".to_owned()],
        },
        UnsupportedOptions { message: text() },
        Engine {
            what: "creating container".to_owned(),
            message: text(),
        },
        HelperLost {
            stage: Stage::GetSources,
            message: text(),
        },
        HelperNoHello {
            waited: Duration::from_secs(10),
            image: image(),
        },
        HelperBinaryMissing {
            architecture: "arm64".to_owned(),
            setting: "a setting".to_owned(),
        },
        UnsafeRerun { stage: stage() },
        CrashedThreeTimes,
        Internal { message: text() },
        ScriptNotRead { image: image() },
        Secret {
            fault: SecretFault::Refused,
            message: text(),
        },
    ]
}

/// Position of a variant in [`all`]; exhaustive, so that a new one must be added there.
fn listed(cause: &Cause) -> usize {
    use Cause::*;
    match cause {
        ScriptExit { .. } => 0,
        HelperStageExit { .. } => 1,
        JobTimeout { .. } => 2,
        ScriptTimeout => 3,
        PrepareTimeout { .. } => 4,
        GetSourcesTimeout { .. } => 5,
        Canceled => 6,
        Aborted => 7,
        Interrupted { .. } => 8,
        OutOfMemory { .. } => 9,
        ExecFormat { .. } => 10,
        ShellNotFound { .. } => 11,
        EntrypointSwallowedScript { .. } => 12,
        ContainerVanished { .. } => 13,
        EngineStopped { .. } => 14,
        EngineUnreachable { .. } => 15,
        ImagePull { .. } => 16,
        ImagePlatform { .. } => 17,
        Configuration { .. } => 18,
        Unsupported { .. } => 19,
        UnsupportedOptions { .. } => 20,
        Engine { .. } => 21,
        HelperLost { .. } => 22,
        HelperNoHello { .. } => 23,
        HelperBinaryMissing { .. } => 24,
        UnsafeRerun { .. } => 25,
        CrashedThreeTimes => 26,
        Internal { .. } => 27,
        ScriptNotRead { .. } => 28,
        Secret { .. } => 29,
    }
}

#[test]
fn every_cause_has_a_sentence_and_survives_the_journal() {
    for (index, cause) in all().into_iter().enumerate() {
        assert_eq!(listed(&cause), index);
        let message = cause.message();
        assert!(
            !message.is_empty() && !message.contains("  "),
            "{message:?}"
        );
        assert!(!message.ends_with('.'), "{message:?}");
        let json = serde_json::to_string(&Outcome::Failed(cause.clone())).unwrap();
        assert_eq!(
            serde_json::from_str::<Outcome>(&json).unwrap(),
            Outcome::Failed(cause),
            "{json}"
        );
    }
}

/// Words of the peer that tools and people look for (job-lifecycle §1.4).
#[rstest]
#[case(Cause::ScriptExit { code: 3 }, "ERROR: Job failed: exit code 3", "script_failure", Some(3))]
#[case(
    Cause::HelperStageExit { stage: Stage::GetSources, code: 128 },
    "ERROR: Job failed: exit code 128", "script_failure", Some(128)
)]
#[case(
    Cause::HelperStageExit { stage: Stage::PrepareScript, code: 1 },
    "ERROR: Job failed: prepare environment: exit code 1. Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information",
    "script_failure", Some(1)
)]
#[case(
    Cause::JobTimeout { limit: Duration::from_secs(3600) },
    "ERROR: Job failed: execution took longer than 1h0m0s seconds", "job_execution_timeout", None
)]
#[case(
    Cause::ScriptTimeout,
    "ERROR: Job failed: script timeout: context deadline exceeded",
    "job_execution_timeout",
    None
)]
#[case(
    Cause::PrepareTimeout { limit: Duration::from_secs(300) },
    "ERROR: Job failed: prepare timeout: exceeded timeout of 5m0s", "job_execution_timeout", None
)]
#[case(
    Cause::GetSourcesTimeout { limit: Duration::from_secs(90) },
    "ERROR: Job failed: get sources timeout: exceeded timeout of 1m30s", "job_execution_timeout", None
)]
#[case(Cause::Canceled, "ERROR: Job failed: canceled", "job_canceled", None)]
#[case(Cause::Aborted, "ERROR: Job failed: canceled", "job_canceled", None)]
#[case(
    Cause::Interrupted { signal: "terminated".to_owned() },
    "ERROR: Job failed: aborted: terminated", "runner_interrupted", None
)]
#[case(
    Cause::Configuration { message: "the builds_dir is not configured".to_owned() },
    "ERROR: Job failed: the builds_dir is not configured", "runner_configuration_error", None
)]
#[case(
    Cause::UnsupportedOptions { message: "Unsupported \"image\" options [x]".to_owned() },
    "ERROR: Job failed (system failure): Unsupported \"image\" options [x]", "runner_system_failure", Some(3)
)]
#[case(
    Cause::Engine { what: "creating container".to_owned(), message: "no space left".to_owned() },
    "ERROR: Job failed (system failure): creating container: no space left", "runner_system_failure", None
)]
fn last_line_reason_and_exit_code_are_the_peers(
    #[case] cause: Cause,
    #[case] line: &str,
    #[case] reason: &str,
    #[case] exit_code: Option<i32>,
) {
    assert_eq!(cause.reason().as_str(), reason);
    assert_eq!(cause.exit_code(), exit_code);
    assert_eq!(Outcome::Failed(cause).last_line(), line);
}

#[test]
fn out_of_memory_is_named_with_its_limit() {
    let killed = |limit| Cause::OutOfMemory {
        limit,
        exit_code: 137,
    };
    assert!(
        killed(Some(64 << 20))
            .message()
            .starts_with("exit code 137 (killed: out of memory, limit 64 MiB; "),
    );
    assert!(killed(None).message().contains("the host ran out"));
    assert_eq!(killed(None).exit_code(), Some(137));
    assert_eq!(killed(None).reason(), FailureReason::ScriptFailure);
}

#[rstest]
#[case(512, "512 bytes")]
#[case(1 << 10, "1 KiB")]
#[case(1536 << 10, "1.5 MiB")]
#[case(6 << 30, "6 GiB")]
#[case(u64::MAX, "17179869184 GiB")]
fn sizes_are_for_people(#[case] count: u64, #[case] text: &str) {
    assert_eq!(bytes(count), text);
}

#[test]
fn exec_format_error_is_a_script_failure_only_if_the_container_ran() {
    let cause = |exit_code| Cause::ExecFormat {
        image: IMAGE.to_owned(),
        exit_code,
    };
    assert_eq!(cause(Some(1)).reason(), FailureReason::ScriptFailure);
    assert_eq!(
        cause(None).reason(),
        FailureReason::RunnerConfigurationError
    );
    assert!(
        cause(Some(1))
            .message()
            .starts_with("exit code 1 (exec format error: ")
    );
}

#[test]
fn success_of_a_swallowing_entrypoint_sends_no_exit_code() {
    let cause = |exit_code| Cause::EntrypointSwallowedScript {
        image: IMAGE.to_owned(),
        exit_code,
    };
    assert_eq!(cause(0).exit_code(), None);
    assert_eq!(cause(2).exit_code(), Some(2));
}

#[test]
fn unsupported_keywords_are_all_named_with_the_setting() {
    let message = all()[19].message();
    for part in [
        "`cache` (cache[0]), `run`",
        "`ignore_unsupported` in [gantry]",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[rstest]
#[case(Cause::Canceled, JobStatus::Canceled)]
#[case(Cause::Aborted, JobStatus::Canceled)]
#[case(Cause::ScriptTimeout, JobStatus::TimedOut)]
#[case(Cause::ScriptExit { code: 1 }, JobStatus::Failed)]
#[case(Cause::JobTimeout { limit: Duration::ZERO }, JobStatus::Failed)]
fn after_script_sees_the_status(#[case] cause: Cause, #[case] status: JobStatus) {
    assert_eq!(cause.status(), status);
    assert_eq!(Outcome::Failed(cause).status(), status);
}

#[test]
fn success_has_no_cause() {
    assert_eq!(Outcome::Success.last_line(), "Job succeeded");
    assert_eq!(Outcome::Success.cause(), None);
    assert_eq!(Outcome::Success.status(), JobStatus::Success);
}

#[rstest]
#[case(
    "dial tcp: lookup registry.example.com: No Such Host",
    PullFailure::RegistryUnreachable
)]
#[case(
    "Get \"https://r/v2/\": net/http: TLS handshake timeout",
    PullFailure::RegistryUnreachable
)]
#[case("manifest for a:b not found: manifest unknown", PullFailure::NotFound)]
#[case(
    "pull access denied for a, repository does not exist",
    PullFailure::AccessDenied
)]
#[case("unauthorized: authentication required", PullFailure::AccessDenied)]
#[case(
    "connection refused, and not found either",
    PullFailure::RegistryUnreachable
)]
#[case("no space left on device", PullFailure::Other)]
fn pull_failure_is_classified(#[case] message: &str, #[case] failure: PullFailure) {
    assert_eq!(PullFailure::classify(message), failure);
    assert_eq!(
        failure.is_transient(),
        failure == PullFailure::RegistryUnreachable
    );
}

#[rstest]
#[case(PullFailure::RegistryUnreachable, "runner_external_dependency_failure")]
#[case(PullFailure::NotFound, "runner_configuration_error")]
#[case(PullFailure::AccessDenied, "runner_configuration_error")]
#[case(PullFailure::NotOnEngine, "runner_system_failure")]
#[case(PullFailure::Other, "image_pull_failure")]
fn pull_failure_has_its_reason(#[case] failure: PullFailure, #[case] reason: &str) {
    assert_eq!(failure.reason().as_str(), reason);
}
