//! What a job asks of servers of secrets.

use gantry_config::RunnerConfig;
use gantry_job::{JobPayload, JobSettings, SecretRequests, TlsFiles};

use crate::{
    ArtifactsAt, HostFacts, Inputs, Numbers, Sources, limits, log_plan::any_engine, resolve,
};

/// The external secrets of a job, in order of their names; none where it has none. To be resolved before the job is planned, and
/// then given to [`crate::plan()`] in [`Inputs::secrets`]. Never fails: what is wrong with the job, its plan tells.
pub fn secret_requests(
    payload: &JobPayload,
    runner: &RunnerConfig,
    host: &HostFacts,
    numbers: Numbers,
) -> SecretRequests {
    let inputs = Inputs {
        payload,
        runner,
        host,
        engine: &any_engine(),
        numbers,
        seed: [0; 8],
        tls: &TlsFiles::default(),
        correlation_id: None,
        sources: Sources::Git,
        artifacts: ArtifactsAt::Server,
        secrets: &[],
    };
    let (variables, flags) = match resolve::resolve(&inputs) {
        Ok(resolved) => (resolved.variables, resolved.flags),
        Err(_) => {
            let preliminary = resolve::preliminary(&inputs);
            (preliminary.variables, preliminary.flags)
        }
    };
    let context = resolve::settings_context(payload, runner);
    SecretRequests {
        attempts: JobSettings::read(&variables, &context).secrets_retrieval_attempts,
        waits: limits::retry_waits(&flags),
        ..SecretRequests::of(payload, &variables, &flags)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_job::{
        SecretRequests, Variable,
        payload::{SecretSource, VaultSecret},
    };

    use crate::fixture::Fixture;

    fn with_a_secret() -> Fixture {
        Fixture::new().with(|it| {
            let source = SecretSource {
                vault: Some(VaultSecret {
                    path: "$CI_PROJECT_DIR of $KEY".to_owned(),
                    ..VaultSecret::default()
                }),
                ..SecretSource::default()
            };
            it.payload.secrets = [("DB".to_owned(), source)].into();
        })
    }

    fn requests(fixture: &Fixture) -> SecretRequests {
        let inputs = fixture.inputs();
        super::secret_requests(inputs.payload, inputs.runner, inputs.host, inputs.numbers)
    }

    #[test]
    fn requests_are_expanded_with_all_variables_of_the_job() {
        let fixture = with_a_secret().push(Variable {
            file: true,
            ..Variable::new("KEY", "content")
        });
        let requests = requests(&fixture);
        assert_eq!(
            requests.secrets[0].vault.as_ref().unwrap().path,
            "/builds/group/project of /builds/group/project.tmp/KEY"
        );
        assert_eq!(requests.attempts, 1);
        assert!(requests.fails_if_missing);
    }

    #[test]
    fn attempts_and_pauses_are_those_of_a_stage() {
        let fixture = with_a_secret()
            .variable("SECRETS_RETRIEVAL_ATTEMPTS", "3")
            .flag("FF_SECRET_RESOLVING_FAILS_IF_MISSING", false);
        let requests = requests(&fixture);
        assert_eq!(requests.attempts, 3);
        assert_eq!(requests.waits[..2], [5, 10].map(Duration::from_secs));
        assert!(!requests.fails_if_missing);
    }

    #[test]
    fn secrets_are_variables_of_the_job_and_those_before_them_may_refer_to_them() {
        let mut fixture = with_a_secret()
            .variable("URL", "https://u:$DB@host")
            .variable("FIRST", "[$DB]");
        fixture.secrets = vec![Variable {
            masked: true,
            raw: true,
            ..Variable::new("DB", "s3cr$t")
        }];
        let plan = fixture.plan();
        assert_eq!(plan.variables.value("DB"), "s3cr$t");
        assert_eq!(plan.variables.value("URL"), "https://u:s3cr$t@host");
        let entry = ("DB".to_owned(), "s3cr$t".to_owned());
        assert!(plan.build.spec.env.0.contains(&entry));
        assert!(
            fixture
                .log_plan()
                .masks
                .phrases
                .contains(&"s3cr$t".to_owned())
        );
    }
}
