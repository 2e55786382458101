use rstest::rstest;
use serde_json::{Value as Json, json};

use super::*;

fn payload(mut payload: Json) -> JobPayload {
    payload["inputs"] = json!([
        {"key": "suite", "value": {"type": "string", "content": "fast"}},
        {"key": "count", "value": {"type": "number", "content": 3}},
        {"key": "password", "value": {"type": "string", "content": "hush", "sensitive": true}},
    ]);
    JobPayload::from_slice(payload.to_string().as_bytes()).unwrap()
}

fn interpolated(fields: Json) -> Json {
    let mut payload = payload(fields);
    interpolate(&mut payload, &FeatureFlags::default()).unwrap();
    serde_json::to_value(&payload).unwrap()
}

const USE: &str = "a-${{ job.inputs.suite }}";

#[rstest]
#[case("/steps/0/script/0", json!({"steps": [{"name": "script", "script": [USE]}]}), true)]
#[case("/steps/0/script/0", json!({"steps": [{"name": "after_script", "script": [USE]}]}), true)]
#[case("/steps/0/script/0", json!({"steps": [{"name": "release", "script": [USE]}]}), false)]
#[case("/image/name", json!({"image": {"name": USE}}), true)]
#[case("/image/alias", json!({"image": {"alias": USE}}), false)]
#[case("/image/executor_opts/docker/user", json!({"image": {"executor_opts": {"docker": {"user": USE}}}}), true)]
#[case("/services/0/command/0", json!({"services": [{"command": [USE]}]}), true)]
#[case("/services/0/entrypoint/0", json!({"services": [{"entrypoint": [USE]}]}), true)]
#[case("/services/0/pull_policy/0", json!({"services": [{"pull_policy": [USE]}]}), true)]
#[case("/services/0/variables/0/value", json!({"services": [{"variables": [{"key": "A", "value": USE}]}]}), false)]
#[case("/artifacts/0/name", json!({"artifacts": [{"name": USE}]}), true)]
#[case("/artifacts/0/paths/0", json!({"artifacts": [{"paths": [USE]}]}), true)]
#[case("/artifacts/0/exclude/0", json!({"artifacts": [{"exclude": [USE]}]}), true)]
#[case("/artifacts/0/when", json!({"artifacts": [{"when": USE}]}), true)]
#[case("/artifacts/0/expire_in", json!({"artifacts": [{"expire_in": USE}]}), true)]
#[case("/artifacts/0/artifact_type", json!({"artifacts": [{"artifact_type": USE}]}), false)]
#[case("/cache/0/key", json!({"cache": [{"key": USE}]}), true)]
#[case("/cache/0/policy", json!({"cache": [{"policy": USE}]}), true)]
#[case("/cache/0/paths/0", json!({"cache": [{"paths": [USE]}]}), true)]
#[case("/cache/0/when", json!({"cache": [{"when": USE}]}), true)]
#[case("/cache/0/fallback_keys/0", json!({"cache": [{"fallback_keys": [USE]}]}), true)]
#[case("/variables/0/value", json!({"variables": [{"key": "A", "value": USE}]}), false)]
#[case("/hooks/0/script/0", json!({"hooks": [{"name": "pre_get_sources_script", "script": [USE]}]}), false)]
fn only_the_fields_of_the_list_are_interpolated(
    #[case] place: &str,
    #[case] fields: Json,
    #[case] replaced: bool,
) {
    let found = interpolated(fields);
    let expected = if replaced { "a-fast" } else { USE };
    assert_eq!(found.pointer(place).unwrap(), expected, "{place}");
}

#[rstest]
#[case(
    "echo ${{ job.inputs.count }}",
    "failed to interpolate job inputs: cannot put a number into text"
)]
#[case(
    "echo ${{ job.inputs.nope }}",
    "failed to interpolate job inputs: attribute \"nope\" not found"
)]
#[case("echo ${{ job.inputs", "failed to interpolate job inputs: expected")]
#[case(
    "echo ${{ job.inputs.password }}",
    "sensitive inputs are unsupported in interpolations yet"
)]
fn mistakes_are_those_of_a_configuration(#[case] line: &str, #[case] message: &str) {
    let mut payload = payload(json!({"steps": [{"name": "script", "script": [line]}]}));
    let error = interpolate(&mut payload, &FeatureFlags::default()).unwrap_err();
    let cause = Cause::from(error);
    assert!(matches!(cause, Cause::Configuration { .. }));
    assert!(cause.message().starts_with(message), "{}", cause.message());
    assert!(!cause.message().contains("hush"));
}

#[test]
fn without_inputs_or_without_the_flag_everything_stays() {
    let line = "echo ${{ job.inputs.suite }} ${{";
    let fields = json!({"steps": [{"name": "script", "script": [line]}]});
    let mut without = payload(fields.clone());
    without.inputs.clear();
    interpolate(&mut without, &FeatureFlags::default()).unwrap();
    assert_eq!(without.steps[0].script, [line]);

    let mut flags = FeatureFlags::default();
    flags.set(FeatureFlag::EnableJobInputsInterpolation, false);
    let mut with = payload(fields);
    interpolate(&mut with, &flags).unwrap();
    assert_eq!(with.steps[0].script, [line]);
}

#[rstest]
#[case(json!({}), "input without key")]
#[case(json!({"key": "k"}), "input \"k\" is null, must have valid value")]
#[case(json!({"key": "k", "value": {"type": "string"}}), "input \"k\" is null, must have valid value")]
#[case(json!({"key": "k", "value": {"content": "x"}}), "invalid type \"\" for input \"k\": type is unknown")]
#[case(json!({"key": "k", "value": {"type": "text", "content": "x"}}), "invalid type \"text\" for input \"k\": type is unknown")]
#[case(json!({"key": "k", "value": {"type": "number", "content": "x"}}), "mismatching type of input \"k\". Announced \"number\", but got \"string\"")]
#[case(json!({"key": "k", "value": {"type": "boolean", "content": 1}}), "mismatching type of input \"k\". Announced \"bool\", but got \"number\"")]
fn a_payload_with_an_input_that_is_none_is_no_payload(#[case] input: Json, #[case] message: &str) {
    let error = JobPayload::from_slice(json!({"inputs": [input]}).to_string().as_bytes());
    let error = error.unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
    assert!(error.contains("inputs[0]"), "{error}");
}

#[test]
fn inputs_of_every_type_are_read() {
    let inputs = json!([
        {"key": "a", "value": {"type": "string", "content": ""}},
        {"key": "b", "value": {"type": "number", "content": 1.5}},
        {"key": "c", "value": {"type": "boolean", "content": false}},
        {"key": "d", "value": {"type": "array", "content": [1, "x"]}},
        {"key": "e", "value": {"type": "struct", "content": {"x": null}}},
    ]);
    let payload = JobPayload::from_slice(json!({"inputs": inputs}).to_string().as_bytes()).unwrap();
    assert_eq!(payload.inputs.len(), 5);
    let again = serde_json::to_vec(&payload).unwrap();
    assert_eq!(JobPayload::from_slice(&again).unwrap(), payload);
}
