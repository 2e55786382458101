use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn found(payload: &Value) -> Vec<String> {
    let payload = JobPayload::from_slice(payload.to_string().as_bytes()).unwrap();
    unsupported_keywords(&payload)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[rstest]
#[case(json!({"secrets": {"DB": {"gcp_secret_manager": {}}}}), "`secrets` (secret \"DB\" of gcp_secret_manager)")]
#[case(json!({"secrets": {"DB": {"azure_key_vault": {"name": "n"}}}}), "`secrets` (secret \"DB\" of azure_key_vault)")]
#[case(json!({"secrets": {"DB": {"aws_secrets_manager": {"secret_id": "n"}}}}), "`secrets` (secret \"DB\" of aws_secrets_manager)")]
#[case(json!({"secrets": {"DB": {"gitlab_secrets_manager": {"path": "n"}}}}), "`secrets` (secret \"DB\" of gitlab_secrets_manager)")]
#[case(json!({"run": "[{}]"}), "`run`")]
#[case(json!({"suspend_options": {"suspend_on_failure": true}}), "`suspend_options`")]
#[case(
    json!({"image": {"executor_opts": {"docker": {"y": 1, "x": 1}}}}),
    "Unsupported \"image\" options [x y] for \"docker executor\"; supported options are [platform user]"
)]
#[case(
    json!({"services": [{}, {"executor_opts": {"podman": {}}}]}),
    "Unsupported \"service\" options [podman] for \"executor_opts\"; supported options are [docker kubernetes]"
)]
fn keyword_is_named_with_its_place(#[case] payload: Value, #[case] text: &str) {
    assert_eq!(found(&payload), [text]);
}

#[rstest]
#[case::nothing(json!({}))]
#[case::archives(json!({"cache": [{"paths": ["x"]}], "artifacts": [{"paths": ["x"]}],
    "dependencies": [{"name": "b", "artifacts_file": {"filename": "a.zip"}}]}))]
#[case::inputs(json!({"inputs": [{"key": "suite", "value": {"type": "string", "content": "x"}}]}))]
#[case::hook(json!({"hooks": [{"name": "pre_get_sources_script", "script": ["x"]}]}))]
#[case::vault(json!({"secrets": {"DB": {"vault": {"path": "p"}}}}))]
#[case::a_secret_of_nobody(json!({"secrets": {"DB": {"of_tomorrow": {}}, "NONE": null}}))]
#[case::empty_run(json!({"run": ""}))]
#[case::submodules(json!({"variables": [{"key": "GIT_SUBMODULE_STRATEGY", "value": "recursive"}]}))]
#[case::service_debugging(json!({"variables": [{"key": "CI_DEBUG_SERVICES", "value": "true"}]}))]
#[case::options(json!({"image": {"executor_opts": {"docker": {"user": 5, "platform": "linux/arm64"}, "kubernetes": {"user": 1}}}}))]
#[case::further_steps(json!({"steps": [{"name": "script"}, {"name": "release", "script": ["x"]}]}))]
fn job_that_asks_for_nothing_special_may_run(#[case] payload: Value) {
    assert_eq!(found(&payload), Vec::<String>::new());
}

fn keyword(keyword: &'static str) -> Unsupported {
    Unsupported::Keyword {
        keyword,
        place: keyword.to_owned(),
    }
}

#[test]
fn refusal_names_all_keywords_but_the_ignored() {
    let found = [keyword("secrets"), keyword("run")];
    assert_eq!(
        refusal(&found, |_| false),
        Some(Cause::Unsupported {
            keywords: vec!["`secrets`".into(), "`run`".into()]
        })
    );
    assert_eq!(
        refusal(&found, |keyword| keyword == "secrets"),
        Some(Cause::Unsupported {
            keywords: vec!["`run`".into()]
        })
    );
    assert_eq!(refusal(&found, |_| true), None);
    assert_eq!(refusal(&[], |_| false), None);
}

#[test]
fn unknown_options_are_refused_whatever_is_ignored() {
    let found = [
        keyword("secrets"),
        Unsupported::Options {
            message: "the words".into(),
        },
    ];
    let refused = refusal(&found, |_| true);
    assert_eq!(
        refused,
        Some(Cause::UnsupportedOptions {
            message: "the words".into()
        })
    );
}
