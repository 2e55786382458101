//! The external secrets of a job: what is asked of whom, and the variables that come of it (job-lifecycle §7).

use std::time::Duration;

use crate::feature_flag::{FeatureFlag, FeatureFlags};
use crate::payload::{JobPayload, SecretProvider, VaultSecret};
use crate::variable::{Variable, Variables};

/// The secrets of a job, in order of their names; the peer asks for them in any order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SecretRequests {
    /// What is asked for.
    pub secrets: Vec<SecretRequest>,
    /// `FF_SECRET_RESOLVING_FAILS_IF_MISSING`: one that is not there fails the job; else its variable is empty.
    pub fails_if_missing: bool,
    /// `SECRETS_RETRIEVAL_ATTEMPTS`.
    pub attempts: u32,
    /// Pauses before the 2nd, 3rd … attempt; the last one repeats.
    pub waits: Vec<Duration>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretRequest {
    /// Name of the variable.
    pub name: String,
    /// The variable is a file.
    pub file: bool,
    /// Where it is in Vault, without references; `None` where the job names no provider that is known.
    pub vault: Option<VaultSecret>,
}

impl SecretRequest {
    /// The variable of a resolved secret: masked, not expanded, seen by no service.
    pub fn variable(&self, value: &str) -> Variable {
        Variable {
            masked: true,
            raw: true,
            file: self.file,
            ..Variable::new(&self.name, value)
        }
    }
}

impl SecretRequests {
    /// The requests of a payload, each text expanded once with the job's `variables` (job-lifecycle §2.3: a file variable gives its
    /// path). Secrets of providers that are refused ([`crate::unsupported_keywords`]) are left out.
    pub fn of(payload: &JobPayload, variables: &Variables, flags: &FeatureFlags) -> Self {
        let secrets = payload.secrets.iter().filter_map(|(name, source)| {
            let vault = match source.provider() {
                None => None,
                Some(SecretProvider::Vault) => source
                    .vault
                    .as_ref()
                    .map(|secret| expanded(secret, variables)),
                Some(_) => return None,
            };
            Some(SecretRequest {
                name: name.clone(),
                file: source.file.unwrap_or(true),
                vault,
            })
        });
        Self {
            secrets: secrets.collect(),
            fails_if_missing: flags.is_on(FeatureFlag::SecretResolvingFailsIfMissing),
            attempts: 1,
            waits: Vec::new(),
        }
    }

    /// Variables of the names that secrets will have, without values: for showing a plan.
    pub fn placeholders(payload: &JobPayload) -> Vec<Variable> {
        Self::of(payload, &Variables::new(), &FeatureFlags::default())
            .secrets
            .iter()
            .map(|secret| secret.variable(""))
            .collect()
    }
}

fn expanded(secret: &VaultSecret, variables: &Variables) -> VaultSecret {
    let mut secret = secret.clone();
    let server = &mut secret.server;
    for text in [
        &mut server.url,
        &mut server.namespace,
        &mut server.auth.name,
        &mut server.auth.path,
        &mut secret.engine.name,
        &mut secret.engine.path,
        &mut secret.path,
        &mut secret.field,
    ] {
        *text = variables.expand(text);
    }
    for value in server.auth.data.values_mut() {
        if let serde_json::Value::String(text) = &mut value.0 {
            *text = variables.expand(text);
        }
    }
    secret
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn payload(secrets: &serde_json::Value) -> JobPayload {
        let payload = json!({"id": 1, "token": "t", "secrets": secrets});
        JobPayload::from_slice(payload.to_string().as_bytes()).unwrap()
    }

    fn file(key: &str, value: &str) -> Variable {
        Variable {
            file: true,
            ..Variable::new(key, value)
        }
    }

    #[test]
    fn every_text_is_expanded_once_and_a_file_variable_gives_its_path() {
        let payload = payload(&json!({"DB": {"vault": {
            "server": {"url": "https://$HOST:8200", "namespace": "$NS", "auth": {
                "name": "$KIND", "path": "${MOUNT}", "data": {
                    "jwt": "$TOKEN", "role": "of-$PROJECT", "number": 5, "file": "$KEY"}}},
            "engine": {"name": "$ENGINE", "path": "$NS/kv"}, "path": "$PROJECT/db", "field": "$FIELD"}}}));
        let variables: Variables = [
            ("HOST", "vault"),
            ("NS", "$HOST"),
            ("KIND", "jwt"),
            ("MOUNT", "m"),
            ("TOKEN", "a.b.c"),
            ("PROJECT", "p"),
            ("ENGINE", "kv-v2"),
            ("FIELD", "password"),
            ("RUNNER_TEMP_PROJECT_DIR", "/builds/p.tmp"),
        ]
        .into_iter()
        .map(|(key, value)| Variable::new(key, value))
        .chain([file("KEY", "content")])
        .collect();
        let requests = SecretRequests::of(&payload, &variables, &FeatureFlags::default());
        assert!(requests.fails_if_missing);
        let [request] = &requests.secrets[..] else {
            panic!("{requests:?}")
        };
        assert_eq!(request.name, "DB");
        let vault = request.vault.as_ref().unwrap();
        assert_eq!(vault.server.url, "https://vault:8200");
        assert_eq!(vault.server.namespace, "$HOST");
        assert_eq!(vault.server.auth.name, "jwt");
        assert_eq!(vault.server.auth.path, "m");
        let data = |key: &str| vault.server.auth.data[key].0.clone();
        assert_eq!(data("jwt"), "a.b.c");
        assert_eq!(data("role"), "of-p");
        assert_eq!(data("number"), 5);
        assert_eq!(data("file"), "/builds/p.tmp/KEY");
        assert_eq!(vault.engine.name, "kv-v2");
        assert_eq!(vault.engine.path, "$HOST/kv");
        assert_eq!((&*vault.path, &*vault.field), ("p/db", "password"));
    }

    #[test]
    fn a_secret_is_a_masked_raw_file_unless_it_shall_be_none() {
        let payload = payload(&json!({
            "A": {"vault": {}}, "B": {"vault": {}, "file": null}, "C": {"vault": {}, "file": false},
            "D": {"vault": {}, "file": true}, "NOBODY": {"of_tomorrow": 1}, "ELSEWHERE": {"gcp_secret_manager": {"name": "n"}},
        }));
        let requests =
            SecretRequests::of(&payload, &Variables::new(), &FeatureFlags::default()).secrets;
        let found: Vec<_> = requests
            .iter()
            .map(|request| (&*request.name, request.file, request.vault.is_some()))
            .collect();
        assert_eq!(
            found,
            [
                ("A", true, true),
                ("B", true, true),
                ("C", false, true),
                ("D", true, true),
                ("NOBODY", true, false)
            ]
        );
        let variable = requests[2].variable("$x");
        assert!(variable.masked && variable.raw && !variable.file && !variable.public);
        assert!(!variable.internal);
        assert_eq!(variable.value, "$x");
    }

    #[test]
    fn neither_debug_nor_an_error_shows_what_logs_in() {
        let payload =
            payload(&json!({"DB": {"vault": {"server": {"auth": {"data": {"jwt": "s3cr3t"}}}}}}));
        let requests = SecretRequests::of(&payload, &Variables::new(), &FeatureFlags::default());
        assert!(!format!("{payload:?} {requests:?}").contains("s3cr3t"));
        let wrong = json!({"id": 1, "token": "t", "secrets": {"DB": {"vault": {"server": {"auth": "s3cr3t"}}}}});
        let error = JobPayload::from_slice(wrong.to_string().as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
        assert!(
            error.to_string().contains("secrets.DB.vault.server.auth"),
            "{error}"
        );
    }
}
